package sfu

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"secureconnect/services/internal/wire"
)

// Fifty people join at once, and each gets what is to be had.
func TestFiftyJoinAtOnce(t *testing.T) {
	r := begin(t).Room(false)
	const n = 50
	peers := make([]*peer, n)
	var joining sync.WaitGroup
	for i := range peers {
		joining.Go(func() { peers[i] = enter(t, r, fmt.Sprint("peer-", i)) })
	}
	joining.Wait()
	speakers, cams := make([]*voice, 4), make([]*camera, 2)
	for i := range speakers {
		speakers[i] = peers[i].speak(wire.SourceMicrophone)
		peers[i].talk(speakers[i])
	}
	for i := range cams {
		cams[i] = peers[i].show(wire.SourceCamera)
		cams[i].film()
	}
	for i, c := range peers {
		c.await("everybody who speaks and shows", func() bool {
			for j, v := range speakers {
				if i != j && len(c.from(v.id)) < 3 {
					return false
				}
			}
			for j, cam := range cams {
				if i != j && len(c.from(cam.id)) < 3 {
					return false
				}
			}
			return true
		})
	}
}

// A receiver that reads nothing any more takes nothing from the others.
func TestStalledReceiver(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	way := newLink(t)
	sender, stalled, other := join(t, r, "sender"), join(t, r, "stalled", over(newLink(t), way)), join(t, r, "other")
	v, cam := sender.speak(wire.SourceMicrophone), sender.show(wire.SourceCamera)
	sender.talk(v)
	cam.film()
	stalled.await("a picture", func() bool {
		return len(stalled.from(cam.id)) > 10 && len(other.from(cam.id)) > 10 && len(other.from(v.id)) > 10
	})
	way.lossy.Store(1000)
	frames := cam.layers[0].frames()
	other.await("four seconds", func() bool { return cam.layers[0].frames() > frames+120 })
	stalled.await("hardly anything to be sent to who is silent", func() bool { return stalled.p.down.band.believed(time.Now()) == leastRate })
	continuous(t, roughly, other.from(cam.id), cam)
	unchanged(t, other.from(v.id), v)
}

// Layers that nobody wants are said to rest, but for the smallest; they are wanted again at once.
func TestLayersRest(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	cam := sender.show(wire.SourceCamera, rids...)
	cam.obeys()
	cam.film()
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantLow})
	sender.await("rest for the larger layers", func() bool { return slices.Equal(sender.layersOf(cam.mid), []string{"q"}) })
	receiver.await("the small layer", func() bool { return len(receiver.from(cam.id)) > 10 })
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantHigh})
	sender.await("a wish for the large layer", func() bool { return slices.Equal(sender.layersOf(cam.mid), []string{"q", "f"}) })
	receiver.await("the large layer", func() bool {
		got := receiver.from(cam.id)
		return marksOf(got[len(got)-1].payload).rank == 2
	})
	continuous(t, roughly, receiver.from(cam.id), cam)
}

// How a connection works is told when it changes.
func TestQuality(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	ways := []*link{newLink(t), newLink(t)}
	sender, receiver := join(t, r, "sender", over(ways[0], ways[1])), join(t, r, "receiver")
	v, w := sender.speak(wire.SourceMicrophone), receiver.speak(wire.SourceMicrophone)
	sender.talk(v)
	receiver.talk(w)
	works := []string{wire.QualityGood, wire.QualityFair} // as the machine is
	quality := func(up, down []string) func() bool {
		return func() bool {
			sender.mu.Lock()
			defer sender.mu.Unlock()
			return slices.Contains(up, sender.quality[0]) && slices.Contains(down, sender.quality[1])
		}
	}
	sender.await("quality", quality(works, works))
	ways[0].lossy.Store(400)
	sender.await("poor quality up", quality([]string{wire.QualityPoor}, works))
	ways[0].lossy.Store(0)
	sender.await("quality again", quality(works, works))
	heard := sender.p.LastMedia()
	for _, l := range ways {
		l.lossy.Store(1000)
	}
	lost := []string{wire.QualityLost}
	sender.await("no connection", quality(lost, lost))
	if last := sender.p.LastMedia(); last.Before(heard) || time.Since(last) < silentAfter-time.Second {
		t.Errorf("media came last %v ago", time.Since(last))
	}
	for _, l := range ways {
		l.lossy.Store(0)
	}
	sender.await("quality again", quality(works, works))
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state        int32
		lost         float64
		trip, jitter time.Duration
		want         string
	}{
		{stateNew, 0, 0, 0, wire.QualityGood},
		{stateConnected, 0.02, 200 * time.Millisecond, 20 * time.Millisecond, wire.QualityGood},
		{stateConnected, 0.05, 0, 0, wire.QualityFair},
		{stateConnected, 0, 500 * time.Millisecond, 0, wire.QualityFair},
		{stateConnected, 0, 0, 100 * time.Millisecond, wire.QualityFair},
		{stateConnected, 0.2, 0, 0, wire.QualityPoor},
		{stateConnected, 0, time.Second, 0, wire.QualityPoor},
		{stateConnected, 0, 0, 200 * time.Millisecond, wire.QualityPoor},
		{stateSilent, 0, 0, 0, wire.QualityLost},
		{stateClosed, 0, 0, 0, wire.QualityLost},
	} {
		if got := qualityOf(c.state, c.lost, c.trip, c.jitter); got != c.want {
			t.Errorf("%+v is %s", c, got)
		}
	}
	var v verdict
	var told []string
	for _, q := range []string{
		wire.QualityGood, wire.QualityGood, wire.QualityPoor, wire.QualityGood, wire.QualityPoor, wire.QualityFair, wire.QualityGood, wire.QualityGood, wire.QualityLost,
	} {
		if v.turn(q) {
			told = append(told, v.now)
		}
	}
	if want := []string{wire.QualityGood, wire.QualityPoor, wire.QualityGood, wire.QualityLost}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// Joining has its bounds, and what is closed says so.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := begin(t)
	r := s.Room(false)
	p, err := r.Join("a", 4, Hooks{})
	fail(t, err)
	if _, err := r.Join("a", 4, Hooks{}); !errors.Is(err, ErrTwice) {
		t.Errorf("joining twice: %v", err)
	}
	p.Close()
	p.Close()
	if _, _, err := p.Offer(offered(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("an offer of who has left: %v", err)
	}
	if _, err := r.Join("a", 4, Hooks{}); err != nil {
		t.Errorf("joining again: %v", err)
	}
	r.Close()
	r.Close()
	if _, err := r.Join("b", 4, Hooks{}); !errors.Is(err, ErrClosed) {
		t.Errorf("joining a closed room: %v", err)
	}
	fail(t, s.Close())
	if _, err := s.Room(false).Join("b", 4, Hooks{}); !errors.Is(err, ErrClosed) {
		t.Errorf("joining a closed SFU: %v", err)
	}
}

// Whatever is going on, nothing is left of what was closed: no goroutine, no buffer, no entry.
func TestNothingIsLeft(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := begin(t)
	for _, how := range []string{"participants", "rooms", "half way"} {
		r := s.Room(false)
		peers := []*peer{}
		for i := range 4 {
			c := enter(t, r, fmt.Sprint(how, "-", i), func(o *peerOptions) { o.silent = how == "half way" && i%2 == 0 })
			peers = append(peers, c)
			cam := c.show(wire.SourceCamera, rids...)
			cam.film()
			c.talk(c.speak(wire.SourceMicrophone))
			if how == "half way" {
				continue
			}
			c.await("pictures", func() bool { return i == 0 || c.hears() })
		}
		if how == "rooms" {
			r.Close()
		} else {
			for _, c := range peers {
				c.p.Close()
			}
			r.Close()
		}
		for _, c := range peers {
			c.leave()
		}
		if len(s.ways.fragments) != 0 || len(s.ways.addresses) != 0 || len(s.rooms) != 0 {
			t.Errorf("%s: left are %d fragments, %d addresses, %d rooms", how, len(s.ways.fragments), len(s.ways.addresses), len(s.rooms))
		}
		if n := counted(s.metrics.participants) + counted(s.metrics.rooms); n != 0 {
			t.Errorf("%s: %v are counted", how, n)
		}
	}
	fail(t, s.Close())
	goleak.VerifyNone(t, ignore)
}

// Nobody holds on to who has left: what the SFU had for them is collected.
func TestNothingIsHeld(t *testing.T) {
	r := begin(t).Room(false)
	stays := join(t, r, "stays")
	kept := stays.show(wire.SourceCamera, rids...)
	kept.film()
	stays.talk(stays.speak(wire.SourceMicrophone))
	var held atomic.Int32
	for range 3 {
		c := join(t, r, "visitor")
		cam := c.show(wire.SourceCamera, rids...)
		cam.film()
		c.talk(c.speak(wire.SourceMicrophone))
		c.await("a picture, and theirs with the other", func() bool { return len(c.from(kept.id)) > 3 && len(stays.from(cam.id)) > 3 })
		watch(&held, c.p)
		watch(&held, c.p.up.Load())
		watch(&held, c.p.down)
		watch(&held, c.p.down.transport)
		watch(&held, (*c.p.down.slots.Load())[0])
		c.leave()
		c.p = nil
	}
	stays.await("nothing of the visitors", func() bool {
		runtime.GC()
		return held.Load() == 0
	})
}

// watch counts what has not been collected.
func watch[T any](held *atomic.Int32, object *T) {
	held.Add(1)
	runtime.AddCleanup(object, func(held *atomic.Int32) { held.Add(-1) }, held)
}

// What is counted is to be had from the registry.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := begin(t, func(o *Options) { o.Registry = registry }).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	v, cam := sender.speak(wire.SourceMicrophone), sender.show(wire.SourceCamera)
	sender.talk(v)
	cam.film()
	receiver.await("both", func() bool { return len(receiver.from(v.id)) > 5 && len(receiver.from(cam.id)) > 5 })
	receiver.wantKey(cam.id)
	values := map[string]float64{}
	receiver.await("a key frame that was asked for", func() bool {
		families, err := registry.Gather()
		fail(t, err)
		for _, f := range families {
			m := f.GetMetric()[0]
			values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return values["sfu_plis_total"] > 0
	})
	for name, least := range map[string]float64{
		"sfu_rooms": 1, "sfu_participants": 2, "sfu_received_packets_total": 10, "sfu_received_bytes_total": 1000,
		"sfu_sent_packets_total": 10, "sfu_sent_bytes_total": 1000, "sfu_turns_total": 2,
	} {
		if values[name] < least {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	for _, name := range []string{"sfu_dropped_packets_total", "sfu_foreign_packets_total", "sfu_broken_packets_total", "sfu_overrun_packets_total", "sfu_nacks_total", "sfu_retransmissions_total"} {
		if _, is := values[name]; !is {
			t.Errorf("%s is not there", name)
		}
	}
}
