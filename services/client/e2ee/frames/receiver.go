package frames

import (
	"crypto/cipher"
	"errors"
	"slices"
	"sync"
	"time"
)

// Bounds of what is kept of one sender.
const (
	maxChains = 16
	maxAhead  = 16               // steps
	keptFor   = 10 * time.Second // a step or a chain after another took its place: frames overtake each other
)

// Errors of decrypting. A frame that is refused changes nothing.
var (
	ErrNoKey  = errors.New("no key for this frame")
	ErrSeen   = errors.New("a frame that was seen before, or may have been")
	ErrForged = errors.New("a frame that its key does not open")
)

// Receiver decrypts what one participant sends. Its methods may be called from several goroutines.
type Receiver struct {
	mu      sync.Mutex
	chains  []*chain // in the order of their coming
	scratch scratch
}

// chain is what is held of one.
type chain struct {
	key    Key // of the furthest step that was given, or has opened a frame
	box    cipher.AEAD
	passed []step
	seen   window
	until  time.Time // zero: no later chain has opened a frame
}

// step is one that a later one has taken the place of.
type step struct {
	number uint8
	box    cipher.AEAD
	until  time.Time
}

// Add takes a key, on its sender's word. Of more chains than are kept, the one that came first goes. A step that is behind what is known
// of its chain is known already, or was passed.
func (r *Receiver) Add(now time.Time, key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.find(now, key.Chain); c != nil {
		if key.Step > c.key.Step {
			c.advance(now, key)
		}
		return
	}
	if len(r.chains) == maxChains {
		r.chains = slices.Delete(r.chains, 0, 1)
	}
	r.chains = append(r.chains, &chain{key: key, box: key.box()})
}

// Decrypt appends the frame to to, which may be frame[:0]; a frame that is refused is destroyed then. The errors are ErrShort, ErrNoKey,
// ErrSeen and ErrForged.
func (r *Receiver) Decrypt(now time.Time, to []byte, kind Kind, frame []byte) ([]byte, error) {
	if len(frame) < Overhead || len(frame) < kind.clearBytes(frame)+Overhead {
		return nil, ErrShort
	}
	end := readTrailer(frame)
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(now, end.chain)
	if c == nil {
		return nil, ErrNoKey
	}
	box, ahead := c.at(now, end.step)
	if box == nil {
		return nil, ErrNoKey
	}
	if !c.seen.fresh(end.counter) {
		return nil, ErrSeen
	}
	clear := kind.clearBytes(frame)
	extra := r.scratch.additional(kind, frame[:clear])
	to = append(slices.Grow(to, len(frame)-Overhead), frame[:clear]...)
	to, err := box.Open(to, r.scratch.iv(end.counter), frame[clear:len(frame)-trailerSize], extra)
	if err != nil {
		return nil, ErrForged
	}
	c.seen.mark(end.counter)
	if ahead.Step > c.key.Step {
		c.advance(now, ahead)
	}
	r.passBefore(now, c)
	return to, nil
}

// find gives a chain that is held, and forgets those whose time is over.
func (r *Receiver) find(now time.Time, number uint32) *chain {
	r.chains = slices.DeleteFunc(r.chains, func(c *chain) bool { return !c.until.IsZero() && now.After(c.until) })
	for _, c := range r.chains {
		if c.key.Chain == number {
			return c
		}
	}
	return nil
}

// passBefore begins the end of all chains that came before c.
func (r *Receiver) passBefore(now time.Time, c *chain) {
	for _, before := range r.chains {
		if before == c {
			return
		}
		if before.until.IsZero() {
			before.until = now.Add(keptFor)
		}
	}
}

// at gives what opens frames of a step, and the key of that step where it lies ahead: it counts once it has opened one.
func (c *chain) at(now time.Time, number uint8) (cipher.AEAD, Key) {
	switch ahead := int(number) - int(c.key.Step); {
	case ahead == 0:
		return c.box, Key{}
	case ahead > maxAhead:
		return nil, Key{}
	case ahead > 0:
		key := c.key
		for range ahead {
			key = key.next()
		}
		return key.box(), key
	}
	c.forget(now)
	for _, s := range c.passed {
		if s.number == number {
			return s.box, Key{}
		}
	}
	return nil, Key{}
}

// advance makes key, of a later step, the furthest. Frames of the steps in between may be under way; of one that is further ahead than a
// frame can lead, none is.
func (c *chain) advance(now time.Time, key Key) {
	c.forget(now)
	until := now.Add(keptFor)
	c.passed = append(c.passed, step{c.key.Step, c.box, until})
	if key.Step-c.key.Step <= maxAhead {
		for between := c.key.next(); between.Step < key.Step; between = between.next() {
			c.passed = append(c.passed, step{between.Step, between.box(), until})
		}
	}
	c.key, c.box = key, key.box()
}

func (c *chain) forget(now time.Time) {
	c.passed = slices.DeleteFunc(c.passed, func(s step) bool { return now.After(s.until) })
}
