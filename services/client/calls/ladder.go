package calls

import (
	"context"
	"errors"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Times of the ladder.
const (
	restartWithin = 5 * time.Second        // else all is made anew
	againAfter    = 500 * time.Millisecond // a restart whose TURN server refused at once
	connectWithin = 10 * time.Second       // of new connections; else all is made anew
	keepBefore    = 10 * time.Second       // the connections of before, where the new ones do not come
)

// Why a socket was given up whose participant is to be another one: at this device's will, or because the call goes on elsewhere.
var (
	errAnew  = errors.New("joining anew")
	errMoved = errors.New("the call has moved")
)

// sitDown takes a new seat. The one before stays until the new one works.
func (c *Call) sitDown(ctx context.Context, now time.Time, frame wire.JoinedFrame) {
	s, err := c.newSeat(ctx, frame)
	if err != nil {
		c.trouble, c.finished = err, true // another one would not be better
		return
	}
	c.leaveBefore()
	c.before, c.seat, c.leaves = c.seat, s, now.Add(keepBefore)
	c.wanted = nil // the tracks have other names now
	if s.up != nil {
		c.offer()
	}
}

// linger keeps the socket to where a call was before it moved: as long as that is open, the connections there are as well.
func (c *Call) linger(socket *client.Socket) { c.seat.lingering = socket }

// leaveBefore closes the seat before, if there is one.
func (c *Call) leaveBefore() {
	before := c.before
	if before == nil {
		return
	}
	c.before = nil
	gone := map[Voice]bool{}
	for _, participant := range before.roster {
		gone[voiceOf(participant)] = true
	}
	for _, participant := range c.seat.roster {
		delete(gone, voiceOf(participant))
	}
	c.hearing.heard.forget(func(v Voice) bool { return gone[v] })
	c.running.Go(before.close)
}

// rejoin climbs the last rung: another participant, with new connections.
func (c *Call) rejoin(reason error) {
	c.anew = true
	if c.socket != nil {
		c.drop(reason)
	}
}

// check looks at the connections, and climbs where one is broken.
func (c *Call) check(now time.Time) {
	if c.seat == nil || c.finished || c.leaving {
		return
	}
	for _, n := range c.seat.connections() {
		c.checkConnection(now, n)
	}
	if c.seat.works() {
		c.everWorked = true
	}
	if c.before != nil && (c.seat.works() || now.After(c.leaves)) {
		c.leaveBefore()
	}
}

func (c *Call) checkConnection(now time.Time, n *connection) {
	if err := n.refresh(); err != nil {
		c.trouble = err
	}
	if n.works() {
		if !n.worked && n == c.seat.up {
			for _, o := range c.seat.outlets {
				o.open()
			}
		}
		n.worked, n.restarting = true, time.Time{}
		return
	}
	if c.socket == nil || c.anew {
		return // another rung comes first
	}
	switch {
	case n.closed(), !n.worked && now.Sub(n.made) > connectWithin:
		c.rejoin(errAnew)
	case !n.worked:
	case n.restarting.IsZero():
		c.restarted++
		c.restart(now, n)
	case now.Sub(n.restarting) > restartWithin:
		c.rejoin(errAnew)
	case n.gatherEnded.Load() && n.gathered.Load() == 0 && now.Sub(n.tried) > againAfter:
		c.restart(now, n)
	}
}

// restart has a connection find another way.
func (c *Call) restart(now time.Time, n *connection) {
	if n == c.seat.down {
		n.gathersAnew(now)
		c.say(wire.CallFrame{Type: wire.FrameRestart})
		return
	}
	if n.offered == "" {
		n.gathersAnew(now)
		if err := n.describe(true); err != nil {
			c.trouble = err
			c.rejoin(errAnew)
			return
		}
	}
	c.offer()
}
