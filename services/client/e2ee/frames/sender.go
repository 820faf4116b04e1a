package frames

import (
	"crypto/cipher"
	"errors"
	"slices"
	"sync"
)

// Errors of encrypting.
var (
	ErrShort = errors.New("a frame shorter than what stays clear of it")
	ErrSpent = errors.New("the chain is used up")
)

// Sender encrypts what one participant sends, whatever its track. Its methods may be called from several goroutines.
type Sender struct {
	mu      sync.Mutex
	key     Key
	box     cipher.AEAD
	counter uint64 // of the next frame
	scratch scratch
}

// NewSender sends under key, which nobody has used.
func NewSender(key Key) *Sender { return &Sender{key: key, box: key.box()} }

// Key is what opens the next frame.
func (s *Sender) Key() Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

// Use goes over to another chain.
func (s *Sender) Use(key Key) {
	box := key.box()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.box, s.counter = key, box, 0
}

// Step goes one step further, so that who is given its key reads nothing of before. After LastStep there is none: ErrSpent.
func (s *Sender) Step() (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key.Step == LastStep {
		return Key{}, ErrSpent
	}
	s.key = s.key.next()
	s.box = s.key.box() // the counter goes on: it is the chain's
	return s.key, nil
}

// Encrypt appends the encrypted frame to to, which may be frame[:0]. The errors are ErrShort and ErrSpent.
func (s *Sender) Encrypt(to []byte, kind Kind, frame []byte) ([]byte, error) {
	clear := kind.clearBytes(frame)
	if len(frame) < clear {
		return nil, ErrShort
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counter > maxCounter {
		return nil, ErrSpent
	}
	extra := s.scratch.additional(kind, frame[:clear])
	to = append(slices.Grow(to, len(frame)+Overhead), frame[:clear]...)
	to = s.box.Seal(to, s.scratch.iv(s.counter), frame[clear:], extra)
	to = trailer{s.counter, s.key.Chain, s.key.Step}.append(to)
	s.counter++
	return to, nil
}
