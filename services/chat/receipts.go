package chat

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	receiptsEvery  = time.Second
	receiptsAtOnce = 8
	// receiptsKept bounds what waits for the next turn; what finds no room is said again by the device's next cursor.
	receiptsKept = 100_000
)

// receipts gather how far devices were given and users have read, and tell it once a second: cursors only go forward, so the last says all.
type receipts struct {
	live *Live

	mu    sync.Mutex
	moves map[receipt]wire.Cursors
}

type receipt struct {
	conversation wire.ConversationID
	user         wire.UserID
	device       wire.DeviceID
}

func newReceipts(l *Live) *receipts { return &receipts{live: l, moves: map[receipt]wire.Cursors{}} }

func (r *receipts) add(key receipt, to wire.Cursors) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, there := r.moves[key]
	if !there && len(r.moves) >= receiptsKept {
		return
	}
	r.moves[key] = wire.Cursors{Delivered: max(known.Delivered, to.Delivered), Read: max(known.Read, to.Read)}
}

func (r *receipts) run(ctx context.Context) error {
	ticker := time.NewTicker(receiptsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			r.flush(last)
			return nil
		}
	}
}

func (r *receipts) flush(ctx context.Context) {
	r.mu.Lock()
	moves := r.moves
	r.moves = map[receipt]wire.Cursors{}
	r.mu.Unlock()
	if len(moves) == 0 {
		return
	}
	var mu sync.Mutex
	told := map[wire.ConversationID]map[wire.UserID]wire.Cursors{}
	var group errgroup.Group
	group.SetLimit(receiptsAtOnce)
	for key, to := range moves {
		group.Go(func() error {
			caller := wire.Session{UserID: key.user, DeviceID: key.device}
			moved, err := r.live.service.MoveCursor(ctx, caller, key.conversation, wire.CursorChange{Delivered: &to.Delivered, Read: &to.Read})
			if apperr.Is(err, apperr.Unavailable) {
				r.add(key, to) // next time, then
			}
			if err != nil {
				return nil //nolint:nilerr // a cursor of who left, or beyond the head, says nothing
			}
			mu.Lock()
			defer mu.Unlock()
			if told[key.conversation] == nil {
				told[key.conversation] = map[wire.UserID]wire.Cursors{}
			}
			known := told[key.conversation][key.user]
			told[key.conversation][key.user] = wire.Cursors{Delivered: max(known.Delivered, moved.Delivered), Read: max(known.Read, moved.Read)}
			return nil
		})
	}
	_ = group.Wait() // its tasks fail one by one, see above
	for id, users := range told {
		frame := wire.CursorsFrame{Type: wire.FrameCursors, ConversationID: id}
		for user, cursors := range users {
			frame.Cursors = append(frame.Cursors, wire.MemberCursors{UserID: user, Delivered: cursors.Delivered, Read: cursors.Read})
		}
		r.live.share(id, frameOf(frame), "")
	}
}

// moveCursor notes it for the next turn. The rules are the core's, and asked then.
func (k *socket) moveCursor(frame wire.ClientFrame) {
	if k.following(frame.ConversationID) == nil {
		return
	}
	session := k.whose()
	k.live.receipts.add(receipt{frame.ConversationID, session.UserID, session.DeviceID},
		wire.Cursors{Delivered: valueOf(frame.Delivered), Read: valueOf(frame.Read)})
}

// typing tells the others who follow the conversation, where the user may write.
func (k *socket) typing(frame wire.ClientFrame) {
	if k.following(frame.ConversationID) == nil {
		return
	}
	k.start(func(ctx context.Context) {
		user := k.user()
		if k.live.service.mayWrite(ctx, user, frame.ConversationID) != nil {
			return
		}
		told := frameOf(wire.TypingFrame{Type: wire.FrameTyping, ConversationID: frame.ConversationID, UserID: user, On: frame.On})
		k.live.share(frame.ConversationID, told, user)
	})
}
