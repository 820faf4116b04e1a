package chat

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	maxMembers = 1000
	maxName    = 100
	// addAtOnce bounds one request's questions about relations.
	addAtOnce   = 100
	askAtOnce   = 8
	listPage    = 200
	maxListPage = 500
)

// Create makes a conversation, and tells whether it is new. A direct one is made once for a pair; a group once under its
// client id. Whoever is to be in it must be a contact of the caller (Forbidden: not_a_contact).
func (s *Service) Create(ctx context.Context, caller wire.Session, asked wire.ConversationRequest) (made wire.Conversation, isNew bool, err error) {
	const op = "chat.Create"
	f, err := s.founding(caller.UserID, asked)
	if err != nil {
		return wire.Conversation{}, false, err
	}
	id, err := s.store.existing(ctx, f)
	var event *wire.Item
	if err == nil && id == "" {
		if err := s.wantContacts(ctx, caller.UserID, f.others); err != nil {
			return wire.Conversation{}, false, err
		}
		id, event, err = s.store.found(ctx, f)
	}
	if err != nil {
		return wire.Conversation{}, false, apperr.OrUnavailable(op, err)
	}
	s.announceChange(ctx, id, event)
	made, err = s.Conversation(ctx, caller, id)
	return made, event != nil, err
}

func (s *Service) founding(by wire.UserID, asked wire.ConversationRequest) (founding, error) {
	f := founding{id: wire.ConversationID(uuid.NewString()), kind: asked.Kind, by: by}
	switch asked.Kind {
	case wire.KindDirect:
		if asked.Name != "" || asked.ClientID != "" || len(asked.Members) > 0 {
			return founding{}, invalidConversation("A direct conversation has the other one's user_id, and nothing else.")
		}
		f.others = []wire.UserID{asked.UserID}
		pair := pairKey(by, asked.UserID)
		f.pair = &pair
	case wire.KindGroup:
		name, err := checkName(asked.Name)
		if err != nil {
			return founding{}, err
		}
		if _, _, err := wire.ParseClientID(string(asked.ClientID)); err != nil || asked.UserID != "" {
			return founding{}, invalidConversation("A group has a name, members, and a client_id (a UUIDv7) under which it is made once.")
		}
		f.name, f.others, f.clientID = name, asked.Members, &asked.ClientID
	default:
		return founding{}, invalidConversation("A conversation is direct or a group.")
	}
	others, err := checkUsers(f.others)
	if err != nil {
		return founding{}, err
	}
	if slices.Contains(others, by) {
		return founding{}, invalidConversation("You are in your conversations anyway: name the others.")
	}
	f.others = others
	return f, nil
}

func invalidConversation(text string) error {
	return apperr.E("chat.Create", apperr.Invalid, text, nil, apperr.Code("invalid_conversation"))
}

// checkUsers refuses what cannot be users' ids, and too many; it drops twins.
func checkUsers(users []wire.UserID) ([]wire.UserID, error) {
	const op = "chat.checkUsers"
	if len(users) > addAtOnce {
		return nil, apperr.E(op, apperr.Invalid, "At most 100 people at once.", nil, apperr.Code("too_many_at_once"))
	}
	for _, user := range users {
		if _, err := wire.ParseUserID(string(user)); err != nil {
			return nil, apperr.E(op, apperr.Invalid, "A member is named by a user id.", err, apperr.Code("invalid_user_id"))
		}
	}
	sorted := slices.Sorted(slices.Values(users))
	return slices.Compact(sorted), nil
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	odd := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
	if name == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return "", apperr.E("chat.checkName", apperr.Invalid, "A name has 1 to 100 characters, none of them a control character.", nil, apperr.Code("invalid_name"))
	}
	return name, nil
}

// wantContacts fails unless all users are live contacts of the caller.
func (s *Service) wantContacts(ctx context.Context, caller wire.UserID, users []wire.UserID) error {
	const op = "chat.wantContacts"
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askAtOnce)
	for _, user := range users {
		group.Go(func() error {
			relation, err := s.relations.Relation(ctx, caller, user)
			if err != nil {
				return apperr.OrUnavailable(op, err)
			}
			if !relation.Contact || !relation.Active || relation.Blocked || relation.Blocking {
				return apperr.E(op, apperr.Forbidden, "You can only add your contacts.", nil, apperr.Code("not_a_contact"))
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *Service) announceChange(ctx context.Context, id wire.ConversationID, made *wire.Item) {
	if made != nil {
		s.announce(context.WithoutCancel(ctx), id, []wire.Item{*made})
	}
}

// Conversations lists those the caller is in, by id, from the given one on. Limit 0 is a page of the usual size.
func (s *Service) Conversations(ctx context.Context, caller wire.Session, from wire.ConversationID, limit int) (wire.Conversations, error) {
	const op = "chat.Conversations"
	if from == "" {
		from = firstID
	} else if _, err := wire.ParseConversationID(string(from)); err != nil {
		return wire.Conversations{}, apperr.E(op, apperr.Invalid, "A page begins with a conversation's id.", err, apperr.Code("invalid_range"))
	}
	if limit <= 0 {
		limit = listPage
	}
	limit = min(limit, maxListPage)
	found, err := s.store.conversations(ctx, caller, from, lastID, limit+1)
	if err != nil {
		return wire.Conversations{}, apperr.OrUnavailable(op, err)
	}
	page := wire.Conversations{Conversations: found}
	if len(found) > limit {
		page.Conversations, page.Next = found[:limit], found[limit].ID
	}
	return page, nil
}

// No conversation is called so: all are between them.
const (
	firstID = wire.ConversationID("00000000-0000-0000-0000-000000000000")
	lastID  = wire.ConversationID("ffffffff-ffff-ffff-ffff-ffffffffffff")
)

// Conversation fails with NotFound for who is not in it now.
func (s *Service) Conversation(ctx context.Context, caller wire.Session, id wire.ConversationID) (wire.Conversation, error) {
	const op = "chat.Conversation"
	found, err := s.store.conversations(ctx, caller, id, id, 1)
	if err != nil {
		return wire.Conversation{}, apperr.OrUnavailable(op, err)
	}
	if len(found) == 0 {
		return wire.Conversation{}, noConversation(op)
	}
	return found[0], nil
}

// The bounds of a message's life. The longest is shorter than records are kept, so that of a message without a record
// and without a row nobody doubts that its life has passed.
const (
	shortestLife = 10 * time.Second
	longestLife  = 28 * 24 * time.Hour
)

// Change renames a group or sets how long new messages live: owners and admins of a group, both of two in a direct
// conversation, which has no name.
func (s *Service) Change(ctx context.Context, caller wire.Session, id wire.ConversationID, asked wire.ConversationChange) (wire.Conversation, error) {
	const op = "chat.Change"
	if asked.Name != nil {
		name, err := checkName(*asked.Name)
		if err != nil {
			return wire.Conversation{}, err
		}
		if err := s.change(ctx, caller, id, renaming(name)); err != nil {
			return wire.Conversation{}, apperr.OrUnavailable(op, err)
		}
	}
	if asked.MessageLife != nil {
		life := time.Duration(*asked.MessageLife) * time.Second
		if *asked.MessageLife < 0 || *asked.MessageLife > int(longestLife.Seconds()) || life > 0 && life < shortestLife {
			return wire.Conversation{}, apperr.E(op, apperr.Invalid, "Messages live for 10 seconds to 28 days, or with 0 for good.", nil, apperr.Code("invalid_message_life"))
		}
		if err := s.change(ctx, caller, id, settingLife(*asked.MessageLife)); err != nil {
			return wire.Conversation{}, apperr.OrUnavailable(op, err)
		}
	}
	return s.Conversation(ctx, caller, id)
}

// decision looks at a conversation and at who the caller is in it, changes it and gives the event, or none.
type decision func(ctx context.Context, g *group, caller present) (*wire.Event, error)

// change fails with NotFound for who is not in the conversation.
func (s *Service) change(ctx context.Context, caller wire.Session, id wire.ConversationID, decide decision) error {
	const op = "chat.change"
	made, err := s.store.changeGroup(ctx, id, caller.UserID, func(ctx context.Context, g *group) (*wire.Event, error) {
		me, among := g.member(caller.UserID)
		if !among {
			return nil, noConversation(op)
		}
		return decide(ctx, g, me)
	})
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	s.announceChange(ctx, id, made)
	return nil
}

func (g *group) member(user wire.UserID) (present, bool) {
	i := slices.IndexFunc(g.members, func(p present) bool { return p.user == user })
	if i < 0 {
		return present{}, false
	}
	return g.members[i], true
}

func leads(role string) bool { return role == wire.RoleOwner || role == wire.RoleAdmin }

func notAllowed(op string) error {
	return apperr.E(op, apperr.Forbidden, "Only who leads this group may do that.", nil, apperr.Code("not_allowed"))
}

func isDirect(op string) error {
	return apperr.E(op, apperr.Conflict, "A conversation of two stays one of these two, without a name.", nil, apperr.Code("direct_conversation"))
}

func renaming(name string) decision {
	const op = "chat.rename"
	return func(ctx context.Context, g *group, caller present) (*wire.Event, error) {
		switch {
		case g.direct:
			return nil, isDirect(op)
		case !leads(caller.role):
			return nil, notAllowed(op)
		case g.name == name:
			return nil, nil //nolint:nilnil // nothing to do
		}
		return &wire.Event{Type: wire.EventRenamed, Name: name}, g.rename(ctx, name)
	}
}

func settingLife(seconds int) decision {
	return func(ctx context.Context, g *group, caller present) (*wire.Event, error) {
		switch {
		case !g.direct && !leads(caller.role):
			return nil, notAllowed("chat.setLife")
		case g.life == seconds:
			return nil, nil //nolint:nilnil // nothing to do
		}
		return &wire.Event{Type: wire.EventLife, MessageLife: seconds}, g.setLife(ctx, seconds)
	}
}
