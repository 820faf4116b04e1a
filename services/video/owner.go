package video

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// errMoved is a call that another host owns, or that was taken while we looked.
var errMoved = errors.New("the call lives on another host")

// itself is this start of the service as SQL knows it; false until SQL was there once.
func (l *Live) itself() (owner, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.me, l.me.epoch != 0
}

// keepLease renews the lease and looks how the calls of this host stand. While SQL is away nobody can pass us, and calls go on.
func (l *Live) keepLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseTime/2) // a store that comes back is asked again soon
	defer cancel()
	me, known := l.itself()
	held := known
	var err error
	if known {
		held, err = l.service.store.renew(ctx, me)
	}
	if err == nil && !held {
		err = l.begin(ctx, known)
	}
	if err == nil {
		err = l.watch(ctx)
	}
	if err != nil && ctx.Err() == nil {
		l.log.Warn("the lease is not renewed", "op", "video.lease", "error", err)
	}
}

// begin begins an epoch. Where another process had begun one under our name, what we owned is not ours any more.
func (l *Live) begin(ctx context.Context, again bool) error {
	me, err := l.service.store.register(ctx, l.host, l.address)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.me = me
	l.mu.Unlock()
	l.log.Info("epoch begun", "op", "video.lease", "epoch", me.epoch)
	if again {
		for _, r := range l.allRooms() {
			r.move()
		}
	}
	return nil
}

// watch holds the rooms of this host against SQL: who was passed by another owner moves, what has ended ends, who has left goes.
func (l *Live) watch(ctx context.Context) error {
	rooms := l.allRooms()
	if len(rooms) == 0 {
		return nil
	}
	ids := make([]wire.CallID, len(rooms))
	for i, r := range rooms {
		ids[i] = r.id
	}
	looked := time.Now()
	found, err := l.service.store.watch(ctx, ids)
	if err != nil {
		return err
	}
	for _, r := range rooms {
		switch w := found[r.id]; {
		case w == nil:
			r.end(wire.EndedLost)
		case w.fence > r.fence:
			r.move()
		case w.ended:
			r.end(w.reason)
		default:
			r.dismiss(w.members, looked)
		}
	}
	return nil
}

// roomOf gives the room of a call that this host owns, and takes the call where nobody has it. It fails with errMoved where another host
// does, with Conflict for a call that is over, with NotFound for one that is not there.
func (l *Live) roomOf(ctx context.Context, id wire.CallID) (*room, error) {
	if r := l.room(id); r != nil {
		return r, nil
	}
	made, err, _ := l.opening.Do(string(id), func() (any, error) { return l.open(context.WithoutCancel(ctx), id) })
	if err != nil {
		return nil, err
	}
	return made.(*room), nil //nolint:forcetypeassert // the closure above returns nothing else
}

func (l *Live) open(ctx context.Context, id wire.CallID) (*room, error) {
	const op = "video.open"
	if r := l.room(id); r != nil {
		return r, nil // made while we waited for our turn
	}
	me, known := l.itself()
	if !known {
		return nil, apperr.OrUnavailable(op, errors.New("this host has no lease yet"))
	}
	where, err := l.service.store.place(ctx, id)
	switch {
	case err != nil:
		return nil, apperr.OrUnavailable(op, err)
	case where.ended:
		return nil, callOver(op)
	case where.address != "" && where.owner != me:
		return nil, errMoved
	}
	fence := where.fence
	if where.owner != me {
		taken := false
		if fence, taken, err = l.service.store.take(ctx, id, where.fence, me, owner{}); err != nil {
			return nil, apperr.OrUnavailable(op, err)
		}
		if !taken {
			return nil, errMoved
		}
	}
	call, err := l.service.store.call(ctx, id)
	if err != nil {
		return nil, apperr.OrUnavailable(op, err)
	}
	return l.makeRoom(call, fence)
}

func (l *Live) makeRoom(call stored, fence int64) (*room, error) {
	r := &room{
		live: l, id: call.ID, conversation: call.ConversationID, test: call.Test, fence: fence, media: l.media.Room(call.Test),
		people: map[wire.UserID]*participant{}, emptySince: time.Now(),
	}
	l.mu.Lock()
	stopping := l.stopping
	if !stopping {
		l.rooms[call.ID] = r
	}
	l.mu.Unlock()
	if stopping {
		r.media.Close()
		return nil, errMoved
	}
	l.log.Info("call is here", "op", "video.own", "call_id", call.ID, "fence", fence)
	return r, nil
}

// handOver gives each call to another host that takes calls, and tells everybody in it; where there is none, they come back when we do.
func (l *Live) handOver(ctx context.Context) {
	me, known := l.itself()
	if !known {
		return
	}
	if err := l.service.store.leave(ctx, me); err != nil {
		l.log.Warn("calls are not handed over", "op", "video.stop", "error", err)
		return
	}
	successors, err := l.service.store.successors(ctx, me.host)
	if err != nil || len(successors) == 0 {
		return
	}
	var group errgroup.Group
	group.SetLimit(8)
	for i, r := range l.allRooms() {
		group.Go(func() error {
			if _, taken, err := l.service.store.take(ctx, r.id, r.fence, successors[i%len(successors)], me); err == nil && taken {
				r.move()
			}
			return nil
		})
	}
	_ = group.Wait() // what was not given is taken when our lease is over
}

// depart ends the lease, so that nobody waits for it to run out.
func (l *Live) depart(ctx context.Context) {
	if me, known := l.itself(); known {
		if err := l.service.store.over(context.WithoutCancel(ctx), me); err != nil {
			l.log.Warn("the lease runs out by itself", "op", "video.stop", "error", err)
		}
	}
}
