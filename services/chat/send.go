package chat

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// maxBody bytes are ample for an encrypted text of 16,000 characters, and small enough that a page of them is no
	// burden. What is larger is a file.
	maxBody = 64 << 10

	// A client id is good for as long as the store remembers what was stored under it.
	clientIDLife  = 30 * 24 * time.Hour
	clientIDAhead = 5 * time.Minute

	// numberTries is how often a message gets a number, when readers voided the one before.
	numberTries = 3

	batchTime = 20 * time.Second

	// writeLimit is how many messages of this host are on their way to Cassandra at a time.
	writeLimit = 256
)

// Send stores a message and tells its number. The same request again, by whatever device of the caller and on whatever host, has the same answer.
//
// NotFound: the caller is not in the conversation. Conflict: other bytes were sent under the id (client_id_reused).
// Forbidden: one of two blocks the other, or the caller may not delete what is to be cleared. TooMany, Unavailable:
// perhaps stored, perhaps not; send the same again.
func (s *Service) Send(ctx context.Context, caller wire.Session, id wire.ConversationID, request wire.SendRequest) (wire.Sent, error) {
	wait, err := s.post(ctx, caller, id, request)
	if err != nil {
		return wire.Sent{}, err
	}
	return wait()
}

// post is Send in two steps, for who sends several in order: messages posted one after the other are numbered so.
func (s *Service) post(ctx context.Context, caller wire.Session, id wire.ConversationID, request wire.SendRequest) (wait func() (wire.Sent, error), err error) {
	const op = "chat.Send"
	if err := s.checkRequest(request); err != nil {
		return nil, err
	}
	if err := s.mayWrite(ctx, caller.UserID, id); err != nil {
		return nil, apperr.OrUnavailable(op, err)
	}
	if request.Clears != 0 {
		if err := s.mayClear(ctx, caller.UserID, id, request.Clears); err != nil {
			return nil, apperr.OrUnavailable(op, err)
		}
	}
	w := &send{ctx: ctx, caller: caller, request: request, hash: hashOf(request), done: make(chan sendAnswer, 1)}
	if err := s.lanes.add(id, w); err != nil {
		return nil, err
	}
	return func() (wire.Sent, error) {
		select {
		case answer := <-w.done:
			return answer.sent, answer.err
		case <-ctx.Done():
			return wire.Sent{}, apperr.OrUnavailable(op, ctx.Err())
		}
	}, nil
}

func (s *Service) checkRequest(request wire.SendRequest) error {
	const op = "chat.checkRequest"
	_, made, err := wire.ParseClientID(string(request.ClientID))
	now := s.now()
	switch {
	case err != nil:
		return apperr.E(op, apperr.Invalid, "A message's client_id is a UUIDv7.", err, apperr.Code("invalid_client_id"))
	case made.Before(now.Add(-clientIDLife)):
		return apperr.E(op, apperr.Invalid, "This message is too old to be sent again. Send it under a new id.", nil, apperr.Code("client_id_too_old"))
	case made.After(now.Add(clientIDAhead)):
		return apperr.E(op, apperr.Invalid, "This message comes from the future. Set the device's clock.", nil, apperr.Code("client_id_from_future"))
	case len(request.Body) > maxBody:
		return apperr.E(op, apperr.TooLarge, "A message has at most 64 KiB.", nil)
	case request.Body == "" || !utf8.ValidString(request.Body) || strings.ContainsRune(request.Body, 0):
		return apperr.E(op, apperr.Invalid, "A message has a body of text.", nil, apperr.Code("invalid_message"))
	case request.Clears < 0:
		return noMessage(op)
	default:
		return nil
	}
}

// hashOf stands for all bytes of a message.
func hashOf(request wire.SendRequest) []byte {
	sum := sha256.New()
	sum.Write(binary.BigEndian.AppendUint64(nil, uint64(request.Clears))) //nolint:gosec // not negative, and any mapping would do
	sum.Write([]byte(request.Body))
	return sum.Sum(nil)
}

// mayWrite is what is asked of others than the store. That the caller is a member is asked again with the number.
func (s *Service) mayWrite(ctx context.Context, user wire.UserID, id wire.ConversationID) error {
	const op = "chat.mayWrite"
	k, err := s.kindOf(ctx, id)
	if err != nil || !k.direct {
		return err
	}
	other, among := k.other(user)
	if !among {
		return noConversation(op)
	}
	relation, err := s.relations.Relation(ctx, user, other)
	if err != nil {
		return err
	}
	if relation.Blocked || relation.Blocking {
		return apperr.E(op, apperr.Forbidden, "You cannot write to this person.", nil, apperr.Code("cannot_write"))
	}
	return nil
}

func noMessage(op string) error {
	return apperr.E(op, apperr.NotFound, "There is no such message.", nil, apperr.Code("no_such_message"))
}

// mayClear lets senders take back what is theirs, and who leads a group what is anybody's.
func (s *Service) mayClear(ctx context.Context, user wire.UserID, id wire.ConversationID, seq int64) error {
	const op = "chat.mayClear"
	view, err := s.store.view(ctx, id, user)
	if err != nil {
		return err
	}
	page, err := s.page(ctx, id, view, seq-1, seq, 1)
	if err != nil {
		return err
	}
	if len(page.Items) != 1 || page.Items[0].Kind != wire.ItemMessage && page.Items[0].Kind != wire.ItemCleared {
		return noMessage(op)
	}
	if page.Items[0].Sender != user && !leads(view.role) {
		return apperr.E(op, apperr.Forbidden, "Only its sender and who leads the group may delete a message for everybody.", nil, apperr.Code("not_yours"))
	}
	return nil
}

// letter is one message, and all who wait for it: the same client may ask several times at once.
type letter struct {
	asked
	request wire.SendRequest
	waiting []*send

	number // once it has one
}

// asked is what a message is numbered by.
type asked struct {
	sender   wire.UserID
	device   wire.DeviceID
	clientID wire.ClientID
	hash     []byte
}

func (l *letter) answer(sent wire.Sent, err error) {
	for _, w := range l.waiting {
		w.answer(sent, err)
	}
}

func (l *letter) stored() {
	l.answer(wire.Sent{ClientID: l.clientID, Seq: l.seq, At: l.at}, nil)
}

// item is what readers will find under the number.
func (l *letter) item() wire.Item {
	at := l.at
	item := wire.Item{
		Seq: l.seq, Kind: wire.ItemMessage, At: &at, Sender: l.sender, Device: l.number.device, ClientID: l.clientID, Body: l.request.Body,
	}
	if l.life > 0 {
		expires := l.at.Add(l.life)
		item.ExpiresAt = &expires
	}
	return item
}

// lettersOf joins those that are the same message, and answers those that only pretend to be.
func lettersOf(batch []*send) []*letter {
	type key struct {
		sender   wire.UserID
		clientID wire.ClientID
	}
	var letters []*letter
	first := map[key]*letter{}
	for _, w := range batch {
		if w.ctx.Err() != nil {
			w.answer(wire.Sent{}, apperr.OrUnavailable("chat.Send", w.ctx.Err()))
			continue
		}
		k := key{w.caller.UserID, w.request.ClientID}
		l, known := first[k]
		switch {
		case !known:
			l = &letter{asked: asked{w.caller.UserID, w.caller.DeviceID, w.request.ClientID, w.hash}, request: w.request}
			first[k] = l
			letters = append(letters, l)
		case !slices.Equal(l.hash, w.hash):
			w.answer(wire.Sent{}, reused())
			continue
		}
		l.waiting = append(l.waiting, w)
	}
	return letters
}

func reused() error {
	return apperr.E("chat.Send", apperr.Conflict, "Another message was sent under this id.", nil, apperr.Code("client_id_reused"))
}

// storeBatch carries a batch through: number, write, mark, answer, announce. A number that readers voided meanwhile is
// never answered; its message gets another one.
func (s *Service) storeBatch(ctx context.Context, id wire.ConversationID, batch []*send) {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	open := lettersOf(batch)
	for try := 0; try < numberTries && len(open) > 0; try++ {
		open = s.storeOnce(ctx, id, open)
	}
	for _, l := range open {
		l.answer(wire.Sent{}, apperr.E("chat.Send", apperr.Unavailable, "The message was not stored in time. Send it again.", nil,
			apperr.Code("try_again"), apperr.RetryAfter(time.Second)))
	}
}

// storeOnce answers all letters but those whose number was void.
func (s *Service) storeOnce(ctx context.Context, id wire.ConversationID, letters []*letter) (voided []*letter) {
	if err := s.store.number(ctx, id, letters); err != nil {
		return giveUp(letters, err)
	}
	pending := s.write(ctx, id, answered(letters))
	if len(pending) == 0 {
		return nil
	}
	slices.SortFunc(pending, func(a, b *letter) int { return cmp.Compare(a.seq, b.seq) })
	marked, err := s.store.mark(ctx, id, pending)
	if err != nil {
		return giveUp(pending, err)
	}
	var items []wire.Item
	for _, l := range pending {
		if !marked[l.seq] {
			voided = append(voided, l)
			continue
		}
		l.stored()
		items = append(items, l.item())
	}
	if len(items) > 0 {
		s.announce(ctx, id, items)
	}
	return voided
}

func giveUp(letters []*letter, err error) []*letter {
	for _, l := range letters {
		l.answer(wire.Sent{}, apperr.OrUnavailable("chat.Send", err))
	}
	return nil
}

// answered answers what needs no more work, and gives the others.
func answered(letters []*letter) (pending []*letter) {
	for _, l := range letters {
		switch {
		case l.refused != nil:
			l.answer(wire.Sent{}, l.refused)
		case l.state == stateStored:
			l.stored()
		default:
			pending = append(pending, l)
		}
	}
	return pending
}

// write puts letters where readers will find them and gives those that are there. What failed keeps its number, for its
// sender to finish or for a reader to void.
func (s *Service) write(ctx context.Context, id wire.ConversationID, letters []*letter) (written []*letter) {
	failures := make([]error, len(letters))
	var writing sync.WaitGroup
	for i, l := range letters {
		writing.Go(func() { failures[i] = s.writeOne(ctx, id, l) })
	}
	writing.Wait()
	for i, l := range letters {
		if failures[i] != nil {
			l.answer(wire.Sent{}, apperr.OrUnavailable("chat.Send", failures[i]))
			continue
		}
		written = append(written, l)
	}
	return written
}

func (s *Service) writeOne(ctx context.Context, id wire.ConversationID, l *letter) error {
	if err := s.messages.insert(ctx, id, l.item()); err != nil {
		return err
	}
	if l.request.Clears == 0 {
		return nil
	}
	return s.messages.empty(ctx, id, l.request.Clears, l.at)
}
