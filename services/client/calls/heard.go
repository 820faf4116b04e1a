package calls

import (
	"errors"
	"slices"
	"sync"
	"time"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// Voice is one joining of one device, as its keys prove it.
type Voice struct {
	Participant wire.ParticipantID
	Peer        e2ee.Peer
}

// maxVoices bounds the joinings of one device whose keys are held: who joins anew has another one, and the last ones count.
const maxVoices = 4

// heard holds the keys of others. Those who read tracks ask it, each from a goroutine of its own.
type heard struct {
	mu     sync.RWMutex
	voices []*voice // in the order of their coming
}

type voice struct {
	Voice
	receiver frames.Receiver
}

// add takes a key that the device of v has sent.
func (h *heard) add(now time.Time, v Voice, key frames.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.voices, func(one *voice) bool { return one.Voice == v })
	if i < 0 {
		h.makeRoomLocked(v.Peer)
		i = len(h.voices)
		h.voices = append(slices.Clone(h.voices), &voice{Voice: v})
	}
	h.voices[i].receiver.Add(now, key)
}

func (h *heard) makeRoomLocked(peer e2ee.Peer) {
	of := func(one *voice) bool { return one.Peer == peer }
	n := 0
	for _, one := range h.voices {
		if of(one) {
			n++
		}
	}
	if n == maxVoices {
		i := slices.IndexFunc(h.voices, of)
		h.voices = slices.Delete(slices.Clone(h.voices), i, i+1)
	}
}

// forget drops the keys of all that gone says so of.
func (h *heard) forget(gone func(Voice) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.voices = slices.DeleteFunc(slices.Clone(h.voices), func(one *voice) bool { return gone(one.Voice) })
}

// open decrypts a frame and tells whose key did it: of expected, who is said to have sent it, or of whoever it was. The server names the
// sender of what a slot carries, and may do so late, or lie.
func (h *heard) open(now time.Time, kind frames.Kind, frame []byte, expected Voice) ([]byte, Voice, error) {
	h.mu.RLock()
	voices := h.voices
	h.mu.RUnlock()
	reason := frames.ErrNoKey
	for _, first := range []bool{true, false} {
		for _, one := range voices {
			if (one.Voice == expected) != first {
				continue
			}
			clear, err := one.receiver.Decrypt(now, nil, kind, frame)
			if err == nil {
				return clear, one.Voice, nil
			}
			if !errors.Is(err, frames.ErrNoKey) {
				reason = err
			}
		}
	}
	return nil, Voice{}, reason
}
