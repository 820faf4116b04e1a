package sfu

import (
	"testing"
	"time"
)

// A slot can send again what it sent within keepFor, at any rate, and holds no more than it needs to.
func TestHistory(t *testing.T) {
	for name, c := range map[string]struct {
		rate   int // packets a second
		places int
	}{
		"a thumbnail":    {20, 64},
		"a camera":       {120, 128},
		"a sharp screen": {700, 1024},
		"too much":       {5000, 1024},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			first := uint16(65000) // they wrap meanwhile
			number := func(i int) uint16 { return first + uint16(i) }
			stamp := func(i int) uint32 { return uint32(i * videoClock / c.rate) }
			const seconds = 20
			for i := range seconds * c.rate {
				h = h.with(sent{layer: &layer{}, sequence: number(i), timestamp: stamp(i)})
			}
			if len(h) != c.places {
				t.Errorf("has %d places", len(h))
			}
			last := seconds*c.rate - 1
			for i := last - min(int(float64(c.rate)*keepFor.Seconds()), mostHistory) + 1; i <= last; i++ {
				if at := h.at(number(i)); at.sequence != number(i) || at.layer == nil {
					t.Fatalf("packet %d of %d is not there", i, last)
				}
			}
		})
	}
	t.Run("one that is late takes no other's place", func(t *testing.T) {
		var h history
		for i := range uint16(2000) {
			if i == 500 {
				continue
			}
			h = h.with(sent{layer: &layer{}, sequence: i, timestamp: uint32(i)}) // all of one moment
		}
		newest := h.at(500).sequence
		if h = h.with(sent{layer: &layer{}, sequence: 500, timestamp: 500}); h.at(500).sequence != newest {
			t.Errorf("packet %d is where %d was", h.at(500).sequence, newest)
		}
	})
	t.Run("after a pause it is as before", func(t *testing.T) {
		var h history
		for i := range uint16(3) {
			pause := uint32(time.Hour.Seconds()) * videoClock
			h = h.with(sent{layer: &layer{}, sequence: i * leastHistory, timestamp: uint32(i) * pause})
			if at := h.at(i * leastHistory); at.sequence != i*leastHistory || len(h) != leastHistory {
				t.Errorf("packet %d is where %d was, of %d", at.sequence, i*leastHistory, len(h))
			}
		}
	})
}
