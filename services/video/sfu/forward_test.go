package sfu

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// Everybody hears everybody, byte for byte.
func TestForwarding(t *testing.T) {
	for _, n := range []int{2, 3, 9} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := begin(t).Room(false)
			peers, voices := make([]*peer, n), make([]*voice, n)
			for i := range peers {
				peers[i] = join(t, r, fmt.Sprint("peer-", i))
				voices[i] = peers[i].speak(wire.SourceMicrophone)
			}
			everybody := func() bool {
				for _, v := range voices {
					v.say(t)
				}
				time.Sleep(5 * time.Millisecond)
				for i, c := range peers {
					for j, v := range voices {
						if i != j && len(c.from(v.id)) < 10 {
							return false
						}
					}
				}
				return true
			}
			peers[0].await("ten packets of everybody for everybody", everybody)
			for i, c := range peers {
				for j, v := range voices {
					if i == j {
						if c.slotOf(v.id) != "" {
							t.Errorf("%s gets what it sends", c.name)
						}
						continue
					}
					unchanged(t, c.from(v.id), v.sent)
				}
			}
		})
	}
}

// unchanged wants packets one after the other, as they were sent.
func unchanged(t *testing.T, got []arrival, sent [][]byte) {
	t.Helper()
	if len(got) == 0 {
		t.Error("nothing came")
		return
	}
	first := -1
	for i, payload := range sent {
		if bytes.Equal(payload, got[0].payload) {
			first = i
		}
	}
	for i, p := range got {
		if first < 0 || first+i >= len(sent) || !bytes.Equal(p.payload, sent[first+i]) {
			t.Errorf("packet %d is not what was sent", i)
			return
		}
		if i > 0 && (p.SequenceNumber != got[i-1].SequenceNumber+1 || p.Timestamp != got[i-1].Timestamp+960) {
			t.Errorf("packet %d has number %d and time %d after %d and %d", i, p.SequenceNumber, p.Timestamp, got[i-1].SequenceNumber, got[i-1].Timestamp)
			return
		}
	}
}
