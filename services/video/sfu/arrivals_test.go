package sfu

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestArrivals(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	const patient = 50 * time.Millisecond
	t.Run("numbers go on across their end, in any order, and each once", func(t *testing.T) {
		var a arrivals
		first, _ := a.take(65530, false, now)
		for i := range uint64(20) {
			at := i ^ 1 // 1, 0, 3, 2, …
			for _, want := range []bool{true, false} {
				index, fresh := a.take(uint16(65531+at), false, now)
				if index != first+1+at || fresh != want {
					t.Fatalf("%d is %d, fresh %v, not %d, %v", 65531+at, index, fresh, first+1+at, want)
				}
			}
		}
		if a.lost() != 0 || a.expected() != 21 {
			t.Errorf("%d of %d are lost", a.lost(), a.expected())
		}
	})
	t.Run("what is missing is asked for until it comes", func(t *testing.T) {
		var a arrivals
		a.take(1, false, now)
		a.take(4, false, now)
		if asked := a.ask(now, patient, nil); !slices.Equal(asked, []uint16{2, 3}) {
			t.Errorf("asked for %v", asked)
		}
		if asked := a.ask(now.Add(patient/2), patient, nil); len(asked) != 0 {
			t.Errorf("too soon asked for %v", asked)
		}
		if _, fresh := a.take(3, true, now); !fresh {
			t.Error("what was missing is not fresh")
		}
		if _, fresh := a.take(3, true, now); fresh {
			t.Error("a packet is fresh twice")
		}
		if asked := a.ask(now.Add(patient), patient, nil); !slices.Equal(asked, []uint16{2}) {
			t.Errorf("asked again for %v", asked)
		}
		if asked := a.ask(now.Add(2*longestAsk), patient, nil); len(asked) != 0 || len(a.missing) != 0 {
			t.Errorf("never gave up: %v, %v", asked, a.missing)
		}
		if a.lost() != 2 {
			t.Errorf("%d were lost on the way, whatever was sent again", a.lost())
		}
	})
	t.Run("a leap is a new stream, and not a million lost packets", func(t *testing.T) {
		var a arrivals
		index, _ := a.take(1, false, now)
		next, fresh := a.take(30000, false, now)
		if !fresh || next <= index || a.beginnings != 1 || len(a.missing) != 0 || a.lost() != 0 {
			t.Errorf("%d after %d, %d missing, %d lost, begun %d", next, index, len(a.missing), a.lost(), a.beginnings)
		}
	})
	t.Run("another SSRC is another stream with higher numbers", func(t *testing.T) {
		var a arrivals
		index, _ := a.take(60000, false, now)
		a.anew()
		if next, fresh := a.take(5, false, now); !fresh || next <= index || a.beginnings != 1 {
			t.Errorf("%d after %d, fresh %v", next, index, fresh)
		}
	})
	t.Run("a report", func(t *testing.T) {
		a := arrivals{clock: 1000}
		for i := range uint16(100) {
			if i%4 != 3 {
				a.take(i, false, now)
			}
		}
		a.take(99, false, now)
		if r := a.report(7, now); r.SSRC != 7 || r.FractionLost != 24*256/100 || r.TotalLost != 24 || uint16(r.LastSequenceNumber) != 99 {
			t.Errorf("%+v", r)
		}
		if r := a.report(7, now); r.FractionLost != 0 {
			t.Errorf("lost again: %+v", r)
		}
	})
}

// A ring gives back what was put into it, and holds a second of what comes.
func TestRing(t *testing.T) {
	t.Parallel()
	seed := rand.New(rand.NewPCG(5, 6))
	for _, rate := range []float64{100e3, 2e6, 6e6} {
		var r ring
		now := time.Unix(1e9, 0)
		sent := map[uint64][]byte{}
		times := map[uint64]time.Time{}
		index := uint64(1 << 32)
		for range 3000 {
			index++
			payload := make([]byte, 1+seed.IntN(1400))
			for i := range payload {
				payload[i] = byte(seed.IntN(256))
			}
			r.put(&packet{index: index, payload: payload, marker: index%3 == 0}, now)
			sent[index], times[index] = payload, now
			now = now.Add(time.Duration(float64(8*len(payload)) / rate * float64(time.Second)))
		}
		var oldest time.Duration
		for i := index; i > index-3000; i-- {
			k, payload := r.get(i)
			if payload == nil {
				continue
			}
			if !bytes.Equal(payload, sent[i]) || k.marker != (i%3 == 0) {
				t.Fatalf("packet %d is not what it was", i)
			}
			oldest = now.Sub(times[i])
		}
		if oldest < keepFor*9/10 || len(r.bytes) > int(rate)+leastRing {
			t.Errorf("at %.0f bit/s it keeps %v in %d bytes", rate, oldest, len(r.bytes))
		}
		if _, payload := r.get(index + 1); payload != nil {
			t.Error("it gives what never came")
		}
	}
}
