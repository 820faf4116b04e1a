package video

import (
	"slices"
	"time"

	"secureconnect/services/internal/wire"
)

// stored is a call as SQL has it: the rules of who is called, who comes and when it is over change it, and decide nothing else.
type stored struct {
	wire.Call

	direct bool
	owner  owner
	fence  int64
	empty  *time.Time // since when nobody is connected; nil while somebody is
}

// owner names a start of the service on a host.
type owner struct {
	host  string
	epoch int64
}

func (c *stored) member(user wire.UserID) *wire.CallMember {
	for i := range c.Members {
		if c.Members[i].UserID == user {
			return &c.Members[i]
		}
	}
	return nil
}

func (c *stored) count(state string) (n int) {
	for _, member := range c.Members {
		if member.State == state {
			n++
		}
	}
	return n
}

// admit adds who has come into the conversation since: it does not ring for them.
func (c *stored) admit(members []wire.UserID) {
	for _, user := range members {
		if c.EndedAt == nil && c.member(user) == nil {
			c.Members = append(c.Members, wire.CallMember{UserID: user, State: wire.MemberIdle})
		}
	}
}

// ring makes the members of a new call: who began it is there, who is in another call is busy, the others are rung, if they are not too many.
func (c *stored) ring(by wire.Session, members, busy []wire.UserID, now time.Time) {
	for _, user := range members {
		member := wire.CallMember{UserID: user, State: wire.MemberRinging}
		switch {
		case user == by.UserID:
			member.State, member.DeviceID = wire.MemberJoined, by.DeviceID
		case slices.Contains(busy, user):
			member.State = wire.MemberBusy
		case len(members) > maxParticipants:
			member.State = wire.MemberIdle
		}
		c.Members = append(c.Members, member)
	}
	c.settle(wire.EndedLeft, now)
}

// enter lets a user in, from a device.
func (c *stored) enter(who wire.Session, now time.Time) {
	member := c.member(who.UserID)
	if member == nil {
		c.Members = append(c.Members, wire.CallMember{UserID: who.UserID})
		member = &c.Members[len(c.Members)-1]
	}
	member.State, member.DeviceID = wire.MemberJoined, who.DeviceID
	if who.UserID != c.StartedBy && c.AnsweredAt == nil {
		c.AnsweredAt = &now
	}
	c.empty = nil
	c.settle(wire.EndedLeft, now)
}

// quit is what a member does who does not want the call (any more). Reason is why the call ends, if it was answered.
func (c *stored) quit(user wire.UserID, state, reason string, now time.Time) {
	member := c.member(user)
	if member == nil {
		return
	}
	wanted := map[string]string{wire.MemberDeclined: wire.MemberRinging, wire.MemberLeft: wire.MemberJoined}[state]
	if member.State != wanted {
		return
	}
	member.State, member.DeviceID = state, ""
	c.settle(reason, now)
}

// ceaseRinging is for who has not answered in time.
func (c *stored) ceaseRinging(now time.Time) {
	c.missRinging()
	c.settle(wire.EndedLost, now)
}

func (c *stored) missRinging() {
	for i := range c.Members {
		if c.Members[i].State == wire.MemberRinging {
			c.Members[i].State = wire.MemberMissed
		}
	}
}

// abandon ends a call that nobody is connected to.
func (c *stored) abandon(now time.Time) {
	c.end(wire.EndedLost, now)
}

// settle gives the call the state that its members' states make, and ends it where it is over.
func (c *stored) settle(reason string, now time.Time) {
	if c.EndedAt != nil {
		return
	}
	c.State = wire.CallRinging
	if c.AnsweredAt != nil || c.Test {
		c.State = wire.CallLive
	}
	if over, why := c.over(reason); over {
		c.end(why, now)
	}
}

func (c *stored) end(reason string, now time.Time) {
	if c.EndedAt != nil {
		return
	}
	c.missRinging()
	for i := range c.Members {
		c.Members[i].DeviceID = ""
		if c.Members[i].State == wire.MemberJoined {
			c.Members[i].State = wire.MemberLeft
		}
	}
	c.State, c.Reason, c.EndedAt = wire.CallEnded, reason, &now
}

// over says whether the call has come to its end, and why: a call of two when one of them is not there (any more), one of a group when
// nobody is.
func (c *stored) over(reason string) (bool, string) {
	answered := c.AnsweredAt != nil || c.Test
	if c.count(wire.MemberJoined) == 0 {
		if answered {
			return true, reason
		}
		return true, wire.EndedCancelled
	}
	if !c.direct {
		return false, ""
	}
	if answered {
		return c.count(wire.MemberLeft) > 0, reason
	}
	for state, why := range map[string]string{
		wire.MemberDeclined: wire.EndedDeclined, wire.MemberBusy: wire.EndedBusy, wire.MemberMissed: wire.EndedMissed,
	} {
		if c.count(state) > 0 {
			return true, why
		}
	}
	return false, ""
}
