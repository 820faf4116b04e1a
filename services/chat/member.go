package chat

import (
	"context"
	"slices"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// Members lists who is in the conversation, to who is.
func (s *Service) Members(ctx context.Context, caller wire.Session, id wire.ConversationID) (wire.Members, error) {
	const op = "chat.Members"
	found, err := s.store.members(ctx, id)
	if err != nil {
		return wire.Members{}, apperr.OrUnavailable(op, err)
	}
	if !slices.ContainsFunc(found, func(m wire.Member) bool { return m.UserID == caller.UserID }) {
		return wire.Members{}, noConversation(op)
	}
	return wire.Members{Members: found}, nil
}

// Add takes the caller's contacts into a group that the caller leads. They see what comes from then on, their joining
// first. Who is in already stays as he is.
func (s *Service) Add(ctx context.Context, caller wire.Session, id wire.ConversationID, users []wire.UserID) (wire.Members, error) {
	const op = "chat.Add"
	users, err := checkUsers(users)
	if err != nil {
		return wire.Members{}, err
	}
	if len(users) == 0 {
		return wire.Members{}, apperr.E(op, apperr.Invalid, "Name somebody to add.", nil, apperr.Code("invalid_user_id"))
	}
	// Asked before anybody else hears of these users; decided again with the members at hand.
	view, err := s.store.view(ctx, id, caller.UserID)
	if err != nil {
		return wire.Members{}, apperr.OrUnavailable(op, err)
	}
	if view.role == "" {
		return wire.Members{}, noConversation(op)
	}
	if err := s.wantContacts(ctx, caller.UserID, slices.DeleteFunc(slices.Clone(users), func(u wire.UserID) bool { return u == caller.UserID })); err != nil {
		return wire.Members{}, err
	}
	if err := s.change(ctx, caller, id, adding(users)); err != nil {
		return wire.Members{}, err
	}
	return s.Members(ctx, caller, id)
}

func adding(users []wire.UserID) decision {
	const op = "chat.add"
	return func(ctx context.Context, g *group, caller present) (*wire.Event, error) {
		fresh := slices.DeleteFunc(slices.Clone(users), func(user wire.UserID) bool { _, among := g.member(user); return among })
		switch {
		case g.direct:
			return nil, isDirect(op)
		case !leads(caller.role):
			return nil, notAllowed(op)
		case len(g.members)+len(fresh) > maxMembers:
			return nil, apperr.E(op, apperr.Conflict, "A group has at most 1000 members.", nil, apperr.Code("too_many_members"))
		case len(fresh) == 0:
			return nil, nil //nolint:nilnil // nothing to do
		}
		return &wire.Event{Type: wire.EventAdded, Users: fresh}, g.add(ctx, fresh)
	}
}

// SetRole is the owners'. An owner may make others owners; the last one stays one.
func (s *Service) SetRole(ctx context.Context, caller wire.Session, id wire.ConversationID, user wire.UserID, role string) error {
	const op = "chat.SetRole"
	if !slices.Contains([]string{wire.RoleOwner, wire.RoleAdmin, wire.RoleMember}, role) {
		return apperr.E(op, apperr.Invalid, "A role is owner, admin or member.", nil, apperr.Code("invalid_role"))
	}
	return s.change(ctx, caller, id, func(ctx context.Context, g *group, caller present) (*wire.Event, error) {
		target, among := g.member(user)
		switch {
		case g.direct:
			return nil, isDirect(op)
		case caller.role != wire.RoleOwner:
			return nil, notAllowed(op)
		case !among:
			return nil, noMember(op)
		case target.role == role:
			return nil, nil //nolint:nilnil // nothing to do
		case target.role == wire.RoleOwner && g.owners() == 1:
			return nil, apperr.E(op, apperr.Conflict, "A group needs an owner: make somebody else one first.", nil, apperr.Code("last_owner"))
		}
		return &wire.Event{Type: wire.EventRole, Users: []wire.UserID{user}, Role: role}, g.setRole(ctx, user, role)
	})
}

func noMember(op string) error {
	return apperr.E(op, apperr.NotFound, "There is no such member.", nil, apperr.Code("no_such_member"))
}

func (g *group) owners() (n int) {
	for _, m := range g.members {
		if m.role == wire.RoleOwner {
			n++
		}
	}
	return n
}

// Remove takes a member out of a group, or lets the caller leave. Owners remove anybody, admins members. Who goes sees
// everything up to that, and nothing after. The last owner's place goes to the admin, or else the member, who has been in
// the longest.
func (s *Service) Remove(ctx context.Context, caller wire.Session, id wire.ConversationID, user wire.UserID) error {
	const op = "chat.Remove"
	return s.change(ctx, caller, id, func(ctx context.Context, g *group, caller present) (*wire.Event, error) {
		target, among := g.member(user)
		switch {
		case g.direct:
			return nil, isDirect(op)
		case user == caller.user:
			return g.leave(ctx, caller)
		case !leads(caller.role):
			return nil, notAllowed(op)
		case !among:
			return nil, noMember(op)
		case caller.role != wire.RoleOwner && target.role != wire.RoleMember:
			return nil, notAllowed(op)
		}
		return &wire.Event{Type: wire.EventRemoved, Users: []wire.UserID{user}}, g.end(ctx, user)
	})
}

func (g *group) leave(ctx context.Context, who present) (*wire.Event, error) {
	event := &wire.Event{Type: wire.EventLeft, Users: []wire.UserID{who.user}}
	if err := g.end(ctx, who.user); err != nil {
		return nil, err
	}
	if who.role != wire.RoleOwner || g.owners() > 1 {
		return event, nil
	}
	successor, found := g.successor(who.user)
	if !found {
		return event, nil
	}
	event.Successor = successor
	return event, g.setRole(ctx, successor, wire.RoleOwner)
}

func (g *group) successor(but wire.UserID) (wire.UserID, bool) {
	for _, role := range []string{wire.RoleAdmin, wire.RoleMember} {
		for _, m := range g.members {
			if m.role == role && m.user != but {
				return m.user, true
			}
		}
	}
	return "", false
}

// MoveCursor notes how far this device has been given, and the caller has read, the conversation. Neither goes back, nor
// beyond what there is.
func (s *Service) MoveCursor(ctx context.Context, caller wire.Session, id wire.ConversationID, asked wire.CursorChange) (wire.Cursors, error) {
	const op = "chat.MoveCursor"
	view, err := s.store.view(ctx, id, caller.UserID)
	if err != nil {
		return wire.Cursors{}, apperr.OrUnavailable(op, err)
	}
	if view.role == "" {
		return wire.Cursors{}, noConversation(op)
	}
	delivered, read := valueOf(asked.Delivered), valueOf(asked.Read)
	if delivered < 0 || read < 0 || delivered > view.head || read > view.head {
		return wire.Cursors{}, apperr.E(op, apperr.Invalid, "A cursor stands at a number of the conversation.", nil, apperr.Code("invalid_cursor"))
	}
	moved, err := s.store.moveCursors(ctx, caller, id, delivered, read)
	return moved, apperr.OrUnavailable(op, err)
}

func valueOf(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
