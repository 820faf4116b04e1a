package contacts

import (
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// side is what one person holds of another. Each sees only their own.
type side struct {
	state wire.Relation
	since time.Time
}

// rejected is what remains with who rejected a request. Nobody is shown it.
const rejected wire.Relation = "rejected"

// rejectedFor is how long who was rejected does not reach the other again.
const rejectedFor = 30 * 24 * time.Hour

// pair is both sides, as one of the two changes them. It keeps three promises: contact is on both sides or on none;
// who sees an incoming request was asked, and still is, by the other; never have both asked and stay unanswered. The
// other way round, an outgoing request may stand alone: whoever was asked has rejected or blocked it.
type pair struct {
	mine, theirs side
}

// rule is what one of the two does to a pair, or why it may not.
type rule func(p pair, now time.Time) (pair, error)

func ask(p pair, now time.Time) (pair, error) {
	switch {
	case p.mine.state == wire.RelationBlocked:
		return p, apperr.E("contacts.ask", apperr.Conflict, "You have blocked them. Unblock them first.", nil, apperr.Code("blocked_by_you"))
	case p.mine.state == wire.RelationContact:
		return p, nil
	case p.theirs.state == wire.RelationOutgoing:
		return contacts(now), nil
	}
	if p.mine.state != wire.RelationOutgoing {
		p.mine = side{wire.RelationOutgoing, now}
	}
	if p.theirs.reachable(now) {
		p.theirs = side{wire.RelationIncoming, now}
	}
	return p, nil
}

func accept(p pair, now time.Time) (pair, error) {
	switch p.mine.state {
	case wire.RelationIncoming:
		return contacts(now), nil
	case wire.RelationContact:
		return p, nil
	default:
		return p, noRequest()
	}
}

func reject(p pair, now time.Time) (pair, error) {
	if p.mine.state != wire.RelationIncoming {
		return p, noRequest()
	}
	p.mine = side{rejected, now}
	return p, nil
}

func remove(p pair, _ time.Time) (pair, error) {
	if !held(p.mine.state) {
		return p, apperr.E("contacts.remove", apperr.NotFound, "There is no such contact.", nil, apperr.Code("no_such_contact"))
	}
	return pair{nothing, p.theirs.left()}, nil
}

func block(p pair, now time.Time) (pair, error) {
	if p.mine.state == wire.RelationBlocked {
		return p, nil
	}
	return pair{side{wire.RelationBlocked, now}, p.theirs.left()}, nil
}

func unblock(p pair, _ time.Time) (pair, error) {
	if p.mine.state != wire.RelationBlocked {
		return p, apperr.E("contacts.unblock", apperr.NotFound, "You have not blocked them.", nil, apperr.Code("no_such_block"))
	}
	p.mine = nothing
	return p, nil
}

func noRequest() error {
	return apperr.E("contacts.request", apperr.NotFound, "There is no such request.", nil, apperr.Code("no_such_request"))
}

func contacts(now time.Time) pair {
	both := side{wire.RelationContact, now}
	return pair{both, both}
}

var nothing = side{state: wire.RelationNone}

// reachable reports whether a request comes to this side's sight.
func (s side) reachable(now time.Time) bool {
	return s.state == wire.RelationNone || s.state == rejected && now.Sub(s.since) >= rejectedFor
}

// left is this side once the other has gone: what both had is over, what is this side's own stays. A request to who
// has gone stays too, or its end would tell of a block; a rejection, or blocking and unblocking would wipe it out.
func (s side) left() side {
	if s.state == wire.RelationContact || s.state == wire.RelationIncoming {
		return nothing
	}
	return s
}

// shown is what this side's owner sees.
func (s side) shown() wire.Relation {
	if s.state == rejected {
		return wire.RelationNone
	}
	return s.state
}

// held reports whether a relation is one that its owner has made or agreed to.
func held(state wire.Relation) bool {
	return state == wire.RelationContact || state == wire.RelationOutgoing
}
