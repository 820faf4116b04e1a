package chat

import (
	"context"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// headsInFrame is how many conversations one synced frame lists.
const headsInFrame = 1000

// sync tells how far the user's conversations have come, and follows each: from the device's cursor where it has one, else from now on.
// A conversation the user has left is given up to its end.
func (k *socket) sync(ctx context.Context, frame wire.ClientFrame) error {
	const op = "chat.socket.sync"
	k.mu.Lock()
	k.listing++ // before the list is read: who comes into a conversation from now on is remembered
	k.mu.Unlock()
	var list []membership
	var left []wire.ConversationID
	err := context.Canceled
	if k.live.hub.take(ctx) {
		list, left, err = k.whereabouts(ctx, frame.Cursors)
		k.live.hub.give()
	}
	mine, came := k.listed(list, err == nil)
	if err == nil {
		k.tellHeads(frame.ID, list)
	}
	for _, id := range came {
		k.takeUp(id)
	}
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	for _, m := range mine {
		after, told := frame.Cursors[m.id]
		if !told {
			after = m.settled
		}
		k.follow(ctx, m, min(max(after, 0), m.head))
	}
	for _, id := range left {
		k.catchUp(ctx, id, max(frame.Cursors[id], 0))
	}
	return nil
}

// listed claims what a list names and is not followed yet, and gives what was come into meanwhile.
func (k *socket) listed(list []membership, good bool) (mine []membership, came []wire.ConversationID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	came, k.came = k.came, nil
	k.listing--
	if k.ended {
		return nil, nil
	}
	k.synced = k.synced || good
	if k.follows == nil {
		k.follows = make(map[wire.ConversationID]*feed, len(list))
	}
	for _, m := range list {
		if _, known := k.follows[m.id]; !known {
			k.follows[m.id] = nil
			mine = append(mine, m)
		}
	}
	return mine, came
}

// whereabouts gives the user's conversations, and those with a cursor that the user has left.
func (k *socket) whereabouts(ctx context.Context, cursors map[wire.ConversationID]int64) (list []membership, left []wire.ConversationID, err error) {
	store, user := k.live.service.store, k.user()
	if list, err = store.memberships(ctx, user, firstID, lastID); err != nil {
		return nil, nil, err
	}
	in := make(map[wire.ConversationID]bool, len(list))
	for _, m := range list {
		in[m.id] = true
	}
	var others []wire.ConversationID
	for id := range cursors {
		if _, err := wire.ParseConversationID(string(id)); err == nil && !in[id] {
			others = append(others, id)
		}
	}
	if len(others) > 0 {
		left, err = store.onceMember(ctx, user, others)
	}
	return list, left, err
}

func (k *socket) tellHeads(id string, list []membership) {
	for first := true; first || len(list) > 0; first = false {
		n := min(len(list), headsInFrame)
		heads := make([]wire.ConversationHead, n)
		for i, m := range list[:n] {
			heads[i] = wire.ConversationHead{ID: m.id, Head: m.head}
		}
		list = list[n:]
		k.tell(wire.SyncedFrame{Type: wire.FrameSynced, ID: id, Conversations: heads, More: len(list) > 0})
	}
}

// claim takes the following of a conversation on, unless the socket follows it or is about to.
func (k *socket) claim(id wire.ConversationID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listing > 0 {
		k.came = append(k.came, id)
		return false
	}
	if _, known := k.follows[id]; known || k.ended || !k.synced {
		return false
	}
	k.follows[id] = nil
	return true
}

// keep notes the feed that a claim has come to; it reports false when the socket has ended.
func (k *socket) keep(f *feed) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.follows[f.id] = f
	return true
}

func (k *socket) drop(f *feed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.follows, f.id)
}

func (k *socket) unclaim(id wire.ConversationID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, known := k.follows[id]; known && f == nil {
		delete(k.follows, id)
	}
}

func (k *socket) following(id wire.ConversationID) *feed {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.follows[id]
}

// follow brings the socket from a number to where the feed is, and subscribes it there. A store that fails is asked again for as long as
// the connection lasts.
func (k *socket) follow(ctx context.Context, m membership, after int64) {
	defer k.unclaim(m.id) // what came to a feed is no claim any more
	at := &standing{after: after, joined: m.joined, head: m.head}
	if after < at.head {
		k.live.hub.resyncs.Inc()
	}
	f := k.live.hub.open(m.id, m.settled)
	defer f.release()
	for pause := time.Duration(0); rest(ctx, pause); {
		switch f.join(k, at) {
		case joined:
			return
		case ended:
			k.lookAgain(m.id)
			return
		}
		moved, err := k.advance(ctx, m.id, at)
		switch {
		case apperr.Is(err, apperr.NotFound), at.over:
			k.lookAgain(m.id)
			return
		case err != nil:
			pause = failurePause
		case moved:
			pause = 0
		default:
			pause = pendingPause
		}
	}
}

// lookAgain gives a claim up, and makes sure that nobody came back meanwhile, whose hint the claim kept away.
func (k *socket) lookAgain(id wire.ConversationID) {
	k.unclaim(id)
	k.live.hub.recheckMembership(id, k.user())
}

// advance gives the socket the next page, by what the user may see.
func (k *socket) advance(ctx context.Context, id wire.ConversationID, at *standing) (moved bool, err error) {
	if k.conn.Await(k.live.room()) != nil {
		return false, context.Canceled
	}
	if !k.live.hub.take(ctx) {
		return false, ctx.Err()
	}
	service := k.live.service
	v, err := service.store.view(ctx, id, k.user())
	var page wire.Page
	if err == nil {
		page, err = service.page(ctx, id, v, at.after, v.last(), maxPage)
	}
	k.live.hub.give()
	if err != nil {
		return false, err
	}
	for _, b := range batchesOf(at.after, page.Items, page.Through) {
		if k.conn.Await(k.live.room()) != nil || k.conn.Send(b.framed(id, page.Head)) != nil {
			return false, context.Canceled
		}
	}
	moved = page.Through > at.after
	at.after = page.Through
	at.joined, at.head = v.stays[len(v.stays)-1].from, page.Head
	at.over = v.role == "" && at.after >= v.last()
	return moved, nil
}

// catchUp gives what is left of a conversation that the user is no longer in.
func (k *socket) catchUp(ctx context.Context, id wire.ConversationID, after int64) {
	at := standing{after: after, joined: 1}
	for rest(ctx, 0) {
		moved, err := k.advance(ctx, id, &at)
		if err != nil || !moved {
			return
		}
	}
}

// takeUp follows a conversation that the user has just come into, and tells of it first.
func (k *socket) takeUp(id wire.ConversationID) {
	if !k.claim(id) {
		return
	}
	k.start(func(ctx context.Context) {
		for pause := time.Duration(0); rest(ctx, pause); pause = failurePause {
			if !k.live.hub.take(ctx) {
				break
			}
			found, err := k.live.service.store.memberships(ctx, k.user(), id, id)
			var conversation wire.Conversation
			if err == nil && len(found) > 0 {
				conversation, err = k.live.service.Conversation(ctx, k.whose(), id)
			}
			k.live.hub.give()
			switch {
			case err == nil && len(found) == 0, apperr.Is(err, apperr.NotFound):
				k.unclaim(id)
				return
			case err == nil:
				k.tell(wire.ConversationFrame{Type: wire.FrameConversation, Conversation: conversation})
				k.follow(ctx, found[0], found[0].joined-1)
				return
			}
		}
		k.unclaim(id)
	})
}
