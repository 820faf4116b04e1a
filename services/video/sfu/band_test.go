package sfu

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// narrow is a way in a time of the test's own: so many bits a second, so long a queue, and some loss by chance.
type narrow struct {
	rate  float64
	queue time.Duration
	loss  float64
	delay time.Duration
	skew  float64       // of the receiver's clock
	busy  time.Duration // of every second, in which it looks at nothing

	now     time.Time
	began   time.Time
	free    time.Time
	seed    *rand.Rand
	pending []arrived
	lost    int
	sent    int
}

type arrived struct {
	sequence uint16
	at       time.Time // zero: lost
}

func newNarrow(rate float64) *narrow {
	began := time.Unix(1e9, 0)
	return &narrow{rate: rate, queue: 250 * time.Millisecond, delay: 20 * time.Millisecond, now: began, began: began, free: began, seed: rand.New(rand.NewPCG(3, 4))}
}

func (n *narrow) send(b *band, size int, again bool) {
	sequence := b.sent(size, again, n.now)
	n.sent++
	if n.free.Before(n.now) {
		n.free = n.now
	}
	if n.free.Sub(n.now) > n.queue || n.seed.Float64() < n.loss {
		n.lost++
		n.pending = append(n.pending, arrived{sequence: sequence})
		return
	}
	n.free = n.free.Add(time.Duration(float64(8*size) / n.rate * float64(time.Second)))
	at := n.free.Add(n.delay)
	if begun := at.Truncate(time.Second); at.Sub(begun) < n.busy {
		at = begun.Add(n.busy)
	}
	n.pending = append(n.pending, arrived{sequence, at})
}

// feedback tells of what has arrived by now.
func (n *narrow) feedback(b *band) {
	var ripe []arrived
	for len(n.pending) > 0 && n.pending[0].at.Before(n.now) {
		ripe, n.pending = append(ripe, n.pending[0]), n.pending[1:]
	}
	for len(ripe) > 0 && ripe[len(ripe)-1].at.IsZero() { // nobody knows yet that it is lost
		n.pending = append([]arrived{ripe[len(ripe)-1]}, n.pending...)
		ripe = ripe[:len(ripe)-1]
	}
	if len(ripe) > 0 {
		b.heard(feedbackOf(ripe, func(at time.Time) time.Duration {
			return time.Duration(float64(at.Sub(n.began))*(1+n.skew)) + 77*time.Hour
		}), n.now)
	}
}

// feedbackOf writes transport-wide feedback with a chunk of two-bit symbols for every seven packets.
func feedbackOf(packets []arrived, clock func(time.Time) time.Duration) []byte {
	first := time.Time{}
	for _, p := range packets {
		if first.IsZero() {
			first = p.at
		}
	}
	reference := clock(first) / (64 * time.Millisecond)
	b := binary.BigEndian.AppendUint16(nil, packets[0].sequence)
	b = binary.BigEndian.AppendUint16(b, uint16(len(packets)))
	b = append(b, byte(reference>>16), byte(reference>>8), byte(reference), 0)
	var deltas []byte
	last := reference * 64 * time.Millisecond
	for i := 0; i < len(packets); i += 7 {
		chunk := uint16(0xc000)
		for j := range 7 {
			if i+j >= len(packets) || packets[i+j].at.IsZero() {
				continue
			}
			chunk |= 2 << (12 - 2*j)
			ticks := (clock(packets[i+j].at) - last) / (250 * time.Microsecond)
			last += ticks * 250 * time.Microsecond
			deltas = binary.BigEndian.AppendUint16(deltas, uint16(int16(ticks)))
		}
		b = binary.BigEndian.AppendUint16(b, chunk)
	}
	return append(b, deltas...)
}

// run sends video of the layer that is allocated, as the room would, with what is to probe the way, and gives the share of time that
// each layer was sent.
func (n *narrow) run(b *band, lasts time.Duration, rates []float64) (shares []float64) {
	shares = make([]float64, len(rates)+1)
	end, layer, debt, again, told := n.now.Add(lasts), 0, 0.0, 0.0, n.now
	for ; n.now.Before(end); n.now = n.now.Add(5 * time.Millisecond) {
		if n.now.Sub(told) >= 100*time.Millisecond {
			told = n.now
			n.feedback(b)
			layers, next := allocate(b.believed(n.now), []demand{{most: len(rates) - 1, now: layer, rates: rates, alive: []bool{true, true, true}}})
			layer = layers[0]
			if next > 0 {
				b.want(next*1.05, n.now)
			}
		}
		shares[layer+1] += float64(5*time.Millisecond) / float64(lasts)
		if layer < 0 {
			continue
		}
		debt += rates[layer] / 8 * 0.005
		for ; debt > 1000; debt -= 1000 {
			n.send(b, 1000, false)
			for again += 1000 * b.probing(n.now); again > 1000; again -= 1000 {
				n.send(b, 1000, true)
			}
		}
	}
	return shares
}

// The estimate finds the layer that a way bears, loses little on the way there, stays, and goes up again when the way is wide.
func TestBand(t *testing.T) {
	t.Parallel()
	rates := []float64{150e3, 500e3, 1500e3}
	for _, way := range []struct {
		name  string
		rate  float64
		loss  float64
		skew  float64
		busy  time.Duration
		layer int
	}{
		{"wide", 20e6, 0, 0, 0, 2},
		{"wide enough", 2e6, 0, 0, 0, 2},
		{"for the second layer", 800e3, 0, 0, 0, 1},
		{"for the first layer", 300e3, 0, 0, 0, 0},
		{"for none", 80e3, 0, 0, 0, -1},
		{"wide, and it loses 8 % by chance", 20e6, 0.08, 0, 0, 2},
		{"wide, and the receiver's clock is fast", 20e6, 0, 2e-4, 0, 2},
		{"wide, and the receiver is busy now and then", 20e6, 0, 0, 300 * time.Millisecond, 2},
		{"wide, and the receiver's clock is slow", 20e6, 0, -2e-4, 0, 2},
	} {
		t.Run(way.name, func(t *testing.T) {
			n := newNarrow(way.rate)
			n.loss, n.skew, n.busy = way.loss, way.skew, way.busy
			b := newBand(n.now)
			n.run(b, 5*time.Second, rates)
			n.lost, n.sent = 0, 0
			shares := n.run(b, time.Minute, rates)
			if shares[way.layer+1] < 0.85 {
				t.Errorf("a minute went to off, q, h and f in shares of %.2f", shares)
			}
			if lost := float64(n.lost) - way.loss*float64(n.sent); lost > max(0.02*float64(n.sent), 60) { // one a second, where little is sent at all
				t.Errorf("it lost %.0f of %d packets, beyond what is lost by chance", lost, n.sent)
			}
		})
	}
}

func TestBandFollows(t *testing.T) {
	t.Parallel()
	rates := []float64{150e3, 500e3, 1500e3}
	n := newNarrow(5e6)
	b := newBand(n.now)
	n.run(b, 10*time.Second, rates)
	n.rate, n.lost, n.sent = 400e3, 0, 0
	if shares := n.run(b, 10*time.Second, rates); shares[1] < 0.85 {
		t.Errorf("on a way that became narrow: %.2f", shares)
	}
	if lost := float64(n.lost) / float64(n.sent); lost > 0.35 {
		t.Errorf("it lost %.2f of ten seconds' packets", lost)
	}
	n.rate = 5e6
	n.run(b, 45*time.Second, rates)
	if shares := n.run(b, 10*time.Second, rates); shares[3] < 0.95 {
		t.Errorf("on a way that became wide again: %.2f", shares)
	}
}

// A receiver that tells nothing any more gets almost nothing, until it does.
func TestBandSilence(t *testing.T) {
	t.Parallel()
	n := newNarrow(5e6)
	b := newBand(n.now)
	n.run(b, 5*time.Second, []float64{150e3, 500e3, 1500e3})
	n.send(b, 1000, false)
	n.now = n.now.Add(unheardFor + time.Second)
	if rate := b.believed(n.now); rate != leastRate {
		t.Errorf("after silence %.0f are believed", rate)
	}
}

// A receiver whose way is narrow gets a smaller layer, soon and without losing much, and the large one again when the way is wide.
func TestCongestion(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	way := newLink(t)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver", over(newLink(t), way))
	cam := sender.show(wire.SourceCamera, rids...)
	v := sender.speak(wire.SourceMicrophone)
	sender.talk(v)
	cam.film()
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantHigh})
	layer := func(rank int) func() bool {
		return func() bool {
			got := receiver.from(cam.id)
			if len(got) < 30 {
				return false
			}
			for _, p := range got[len(got)-20:] {
				if marksOf(p.payload).rank != rank {
					return false
				}
			}
			return true
		}
	}
	receiver.await("the large layer", layer(2))
	way.rate.Store(700e3)
	narrowed := time.Now()
	receiver.await("the middle layer", layer(1))
	t.Logf("the middle layer came after %v, %d of %d packets were lost until then", time.Since(narrowed), way.cameFull.Load(), way.came.Load())
	from, came, lost := cam.layers[0].frames(), way.came.Load(), way.cameFull.Load()
	receiver.await("three seconds of it in which hardly anything is lost", func() bool {
		if !layer(1)() || 20*(way.cameFull.Load()-lost) > max(way.came.Load()-came, 100) {
			from, came, lost = cam.layers[0].frames(), way.came.Load(), way.cameFull.Load()
		}
		return cam.layers[0].frames() > from+90
	})
	way.rate.Store(0)
	receiver.await("the large layer again", layer(2))
	sound := receiver.from(v.id)
	if n := int(sound[len(sound)-1].SequenceNumber - sound[0].SequenceNumber); len(sound) < n*8/10 {
		t.Errorf("of %d packets of sound %d came", n, len(sound))
	}
}
