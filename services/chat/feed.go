package chat

import (
	"context"
	"slices"
	"sync"
	"time"

	"secureconnect/services/internal/wire"
)

const (
	// A feed remembers what it delivered last, for sockets that come back or have just read up to before it.
	ringBatches = 64
	ringBytes   = 128 << 10
	ringLife    = 10 * time.Second

	// earlyBatches may wait for one before them, and earlyWait is how long nothing is read instead: announcements of two hosts
	// overtake each other.
	earlyBatches = 64
	earlyWait    = 30 * time.Millisecond

	pendingPause = 100 * time.Millisecond
	failurePause = 500 * time.Millisecond
)

// feed is one conversation on this host: how far it was delivered, and to whom. It goes away with its last subscriber.
type feed struct {
	hub *hub
	id  wire.ConversationID

	mu        sync.Mutex
	through   int64             // settled, and delivered to every subscriber
	want      int64             // the last number anybody spoke of
	subs      map[*socket]int64 // each has everything up to that number, if it is above through
	ring      []*batch          // without a gap up to through
	ringSize  int
	ringAt    time.Time
	early     map[int64]*batch // announced, above a gap, by after
	holds     int              // sockets that are on their way to it
	repairing bool
	gone      bool
}

// offer takes an announcement: what continues is delivered at once, anything else makes the feed read.
func (f *feed) offer(b *batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone || b.through <= f.through {
		return
	}
	f.want = max(f.want, b.through)
	if b.after == f.through {
		f.deliverLocked(b)
		f.deliverEarlyLocked()
		return
	}
	if b.after > f.through && len(f.early) < earlyBatches {
		f.early[b.after] = b
	}
	f.repairLocked(earlyWait)
}

// expect says that the conversation has come that far.
func (f *feed) expect(head int64) (behind bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = max(f.want, head)
	if f.gone || f.through >= f.want {
		f.trimRingLocked()
		return false
	}
	fresh := !f.repairing
	f.repairLocked(earlyWait) // what is being stored right now is about to be announced
	return fresh
}

func (f *feed) deliverEarlyLocked() {
	for len(f.early) > 0 {
		b, there := f.early[f.through]
		if !there {
			break
		}
		delete(f.early, f.through)
		f.deliverLocked(b)
	}
	for after, b := range f.early {
		if b.through <= f.through {
			delete(f.early, after)
		}
	}
}

// deliverLocked gives a batch that continues the feed to all, as the same bytes.
func (f *feed) deliverLocked(b *batch) {
	head := f.want
	if len(b.leaving) > 0 {
		head = b.through // who leaves learns of nothing after
	}
	frame := b.framed(f.id, head)
	for s, has := range f.subs {
		switch {
		case has >= b.through:
			continue
		case has > b.after:
			_ = s.conn.Send(b.framedFrom(f.id, has)) // a socket that is closing says so by itself
		default:
			_ = s.conn.Send(frame)
		}
		f.hub.delivered.Inc()
		if len(b.leaving) > 0 && slices.Contains(b.leaving, s.user()) {
			delete(f.subs, s)
			s.drop(f)
			f.hub.recheckMembership(f.id, s.user())
		}
	}
	f.through = b.through
	f.rememberLocked(b)
	f.endIfIdleLocked()
}

func (f *feed) rememberLocked(b *batch) {
	f.ring, f.ringSize, f.ringAt = append(f.ring, b), f.ringSize+len(b.frame), time.Now()
	for len(f.ring) > ringBatches || f.ringSize > ringBytes {
		f.ringSize -= len(f.ring[0].frame)
		f.ring[0], f.ring = nil, f.ring[1:]
	}
}

func (f *feed) trimRingLocked() {
	if len(f.ring) > 0 && time.Since(f.ringAt) > ringLife {
		f.ring, f.ringSize = nil, 0
	}
}

// standing is what a socket knows of its user's place in a conversation.
type standing struct {
	after  int64 // the socket has everything up to here
	joined int64 // the first number of the membership
	head   int64 // when that was known
	over   bool  // the membership has ended, and all of it was given
}

// What comes of joining a feed.
const (
	joined = iota
	behind // read up to through first
	ended  // the membership or the connection, on the way
)

// join subscribes a socket where it has everything, or where the feed remembers the rest.
func (f *feed) join(s *socket, at *standing) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.after < at.joined-1 || at.after < f.through && (len(f.ring) == 0 || f.ring[0].after > at.after) {
		return behind
	}
	for _, b := range f.ring {
		if b.through <= at.after {
			continue
		}
		if b.after < at.after {
			_ = s.conn.Send(b.framedFrom(f.id, at.after))
		} else {
			_ = s.conn.Send(b.frame)
		}
		f.hub.delivered.Inc()
		at.after = b.through
		if len(b.leaving) > 0 && slices.Contains(b.leaving, s.user()) {
			return ended
		}
	}
	if !s.keep(f) {
		return ended
	}
	f.subs[s] = at.after
	f.want = max(f.want, at.head)
	if f.through < f.want {
		f.repairLocked(0)
	}
	return joined
}

// release undoes hub.open.
func (f *feed) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds--
	f.endIfIdleLocked()
}

func (f *feed) leave(s *socket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subs, s)
	f.endIfIdleLocked()
}

func (f *feed) endIfIdleLocked() {
	if len(f.subs) == 0 && f.holds == 0 && !f.gone {
		f.gone = true
		f.hub.forget(f)
	}
}

// share gives a frame that is not part of the order to all but one user's sockets.
func (f *feed) share(frame []byte, but wire.UserID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if s.user() != but {
			_ = s.conn.Send(frame)
		}
	}
}

// repairLocked starts the one reader of the feed, unless it is at work.
func (f *feed) repairLocked(after time.Duration) {
	if f.repairing || f.gone {
		return
	}
	if !f.hub.begin(func(ctx context.Context) { f.repair(ctx, after) }) {
		return
	}
	f.repairing = true
}

// repair reads what nobody announced until the feed is where it should be. It waits for numbers that are pending: the core settles
// each within its grace.
func (f *feed) repair(ctx context.Context, pause time.Duration) {
	for rest(ctx, pause) {
		after, due := f.due()
		if !due {
			return
		}
		page, err := f.hub.read(ctx, f.id, after)
		switch {
		case err != nil:
			pause = failurePause
		case f.settle(after, page):
			pause = 0
		default:
			pause = pendingPause
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repairing = false
}

func (f *feed) due() (after int64, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone || f.through >= f.want {
		f.repairing = false
		return 0, false
	}
	return f.through, true
}

// settle delivers what was read after a number, and reports whether the feed came further.
func (f *feed) settle(after int64, page wire.Page) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = max(f.want, page.Head)
	if f.through != after {
		return true // it was announced meanwhile
	}
	for _, b := range batchesOf(after, page.Items, page.Through) {
		f.deliverLocked(b)
		f.hub.repaired.Inc()
	}
	f.deliverEarlyLocked()
	return f.through > after
}

// rest waits, and reports whether ctx lasts.
func rest(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
