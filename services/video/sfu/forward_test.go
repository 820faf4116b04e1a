package sfu

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"secureconnect/services/internal/wire"
)

// Everybody hears everybody, byte for byte, and nobody hears themselves; in a room of more than there are slots, so many as there are.
func TestForwarding(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 12} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := begin(t).Room(false)
			peers, voices := make([]*peer, n), make([]*voice, n)
			for i := range peers {
				peers[i] = enter(t, r, fmt.Sprint("peer-", i))
			}
			for i, c := range peers {
				voices[i] = c.speak(wire.SourceMicrophone)
				c.talk(voices[i])
			}
			for i, c := range peers {
				c.await("ten packets of everybody else", func() bool {
					heard := 0
					for _, v := range voices {
						if len(c.from(v.id)) >= 10 {
							heard++
						}
					}
					return heard == min(n-1, audioSlots)
				})
				if c.slotOf(voices[i].id) != "" {
					t.Errorf("%s gets what it sends", c.name)
				}
			}
			for _, c := range peers {
				for _, v := range voices {
					if c.slotOf(v.id) != "" {
						unchanged(t, c.from(v.id), voices...)
					}
				}
			}
		})
	}
}

// unchanged wants packets as they were sent, of each voice one after the other, in a stream whose numbers do not show that it was handed
// from one to the other.
func unchanged(t *testing.T, got []arrival, voices ...*voice) {
	t.Helper()
	for i, p := range got {
		v := speaker(p.payload, voices)
		if v == nil || !bytes.Equal(p.payload, v.all()[marksVoice(p.payload)]) {
			t.Errorf("packet %d is not what was sent", i)
			return
		}
		if i == 0 {
			continue
		}
		before := got[i-1]
		same := speaker(before.payload, voices) == v
		if p.SequenceNumber != before.SequenceNumber+1 || int32(p.Timestamp-before.Timestamp) <= 0 ||
			same && (p.Timestamp != before.Timestamp+960 || marksVoice(p.payload) != marksVoice(before.payload)+1) {
			t.Errorf("packet %d has number %d and time %d after %d and %d", i, p.SequenceNumber, p.Timestamp, before.SequenceNumber, before.Timestamp)
			return
		}
	}
}

func speaker(payload []byte, voices []*voice) *voice {
	for _, v := range voices {
		if bytes.HasSuffix(payload, []byte(v.id)) {
			return v
		}
	}
	return nil
}

// In a room with echo one also gets what one sends.
func TestEcho(t *testing.T) {
	t.Parallel()
	c := join(t, begin(t).Room(true), "alone")
	v, cam := c.speak(wire.SourceMicrophone), c.show(wire.SourceCamera)
	c.talk(v)
	cam.film()
	c.await("their own sound and picture", func() bool { return len(c.from(v.id)) > 10 && len(c.from(cam.id)) > 20 })
	unchanged(t, c.from(v.id), v)
	continuous(t, roughly, c.from(cam.id), cam)
}

// Who comes late sees a picture at once, from a key frame on, and so does who was there: the late one's.
func TestLateJoin(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	early := join(t, r, "early")
	cam := early.show(wire.SourceCamera, rids...)
	cam.film()
	early.await("an answer to its first key frame", func() bool { return cam.layers[0].keys.Load() > 0 })
	began := time.Now()
	late := join(t, r, "late")
	late.await("a picture", func() bool { return len(late.from(cam.id)) > 0 })
	if took := late.from(cam.id)[0].at.Sub(began); took > time.Second {
		t.Errorf("the first packet came after %v", took)
	}
	back := late.show(wire.SourceCamera)
	back.film()
	early.await("the late one's picture", func() bool { return len(early.from(back.id)) > 20 })
	late.await("more of it", func() bool { return len(late.from(cam.id)) > 40 })
	continuous(t, roughly, late.from(cam.id), cam)
	continuous(t, roughly, early.from(back.id), back)
}

// What is muted goes to nobody, whatever its sender sends, and comes again afterwards.
func TestMute(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32 // the last packet that the SFU has seen
	r := begin(t, func(o *Options) {
		o.Tap = func(from wire.ParticipantID, mid string, p *rtp.Packet) {
			if from != "sender" || mid != "0" || p.PayloadType != payloadOpus {
				t.Errorf("the SFU sees %s of %s, %v", mid, from, p)
			}
			seen.Store(int32(marksVoice(p.Payload)))
		}
	}).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	v := sender.speak(wire.SourceMicrophone)
	sender.talk(v)
	receiver.await("sound", func() bool { return len(receiver.from(v.id)) > 5 })
	track, ok := sender.p.Mute(v.mid, true)
	if !ok || track != (wire.Track{ID: v.id, MID: v.mid, Source: wire.SourceMicrophone, Muted: true}) {
		t.Fatalf("muted %+v, %v", track, ok)
	}
	from := len(v.all()) // none from here on can have come before
	sender.await("much that the SFU sees and nobody hears", func() bool { return int(seen.Load()) > from+20 })
	if track, ok = sender.p.Mute(v.mid, false); !ok || track.Muted {
		t.Fatalf("unmuted %+v, %v", track, ok)
	}
	receiver.await("sound again", func() bool {
		got := receiver.from(v.id)
		return marksVoice(got[len(got)-1].payload) > from+20
	})
	for _, p := range receiver.from(v.id) {
		if n := marksVoice(p.payload); n >= from && n <= from+20 {
			t.Errorf("packet %d came, which was sent while muted, from %d on", n, from)
		}
	}
	if _, ok := sender.p.Mute("none", true); ok {
		t.Error("a mid that is nobody's was muted")
	}
	sender.sources[0].Muted = true // said while it is offered
	if tracks := sender.offer(nil, nil); len(tracks) != 1 || !tracks[0].Muted || tracks[0].ID != v.id {
		t.Errorf("offered muted, got %+v", tracks)
	}
}

// Off is off, also for what comes later and was not named; on again it begins with a key frame.
func TestWant(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	cam := sender.show(wire.SourceCamera, rids...)
	cam.film()
	receiver.await("a picture that nobody asked for, medium", func() bool {
		got := receiver.from(cam.id)
		return len(got) > 20 && marksOf(got[len(got)-1].payload).rank == 1
	})
	mid := receiver.slotOf(cam.id)
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantOff})
	receiver.await("an empty slot", func() bool { return receiver.slotOf(cam.id) == "" })
	screen := sender.show(wire.SourceScreen)
	screen.film()
	came := len(receiver.ear(mid).all())
	frames := cam.layers[1].frames()
	sender.await("frames that nobody gets", func() bool { return cam.layers[1].frames() > frames+15 && screen.layers[0].frames() > 15 })
	if now := len(receiver.ear(mid).all()); now > came+4 || receiver.slotOf(screen.id) != "" {
		t.Errorf("%d packets came of what was off, and the screen is in slot %q", now-came, receiver.slotOf(screen.id))
	}
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantLow, screen.id: wire.WantHigh})
	receiver.await("both", func() bool { return len(receiver.from(cam.id)) > came+20 && len(receiver.from(screen.id)) > 20 })
	continuous(t, roughly, receiver.from(screen.id), cam, screen)
	if receiver.slotOf(cam.id) == mid {
		continuous(t, roughly, receiver.from(cam.id), cam, screen)
	}
}

// A slot that goes over to another sender stays one stream.
func TestSourceSwitch(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	receiver := join(t, r, "receiver", func(o *peerOptions) { o.slots = 1 })
	var cams []*camera
	for i := range 3 {
		cam := join(t, r, fmt.Sprint("sender-", i)).show(wire.SourceCamera)
		cam.film()
		cams = append(cams, cam)
	}
	mid, came := "", 0
	for range 2 {
		for _, cam := range cams {
			receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantHigh})
			receiver.await("the slot", func() bool { return receiver.slotOf(cam.id) != "" })
			if mid == "" {
				mid = receiver.slotOf(cam.id)
			}
			came = len(receiver.ear(mid).all())
			receiver.await("the next sender's picture", func() bool { return len(receiver.from(cam.id)) > came+20 })
		}
	}
	for _, cam := range cams {
		if slot := receiver.slotOf(cam.id); slot != "" && slot != mid {
			t.Errorf("there is a second slot, %s", slot)
		}
	}
	continuous(t, roughly, receiver.ear(mid).all(), cams...)
}
