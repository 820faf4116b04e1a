package sfu

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"secureconnect/services/internal/wire"
)

func TestNTP(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 500_000_000, time.UTC)
	if n := ntp(at); n>>32 != uint64(at.Unix()+ntpEpoch) || uint32(n) != 1<<31 {
		t.Errorf("NTP %x", n)
	}
	if d := fromNTP(ntp(at.Add(1500*time.Millisecond))) - fromNTP(ntp(at)); d < 1499*time.Millisecond || d > 1501*time.Millisecond {
		t.Errorf("1.5 s are %v", d)
	}
}

func TestWall(t *testing.T) {
	t.Parallel()
	var w wall
	if _, known := w.ahead(); known {
		t.Error("known before anything was said")
	}
	now := time.Unix(1e9, 0)
	theirs := func(t time.Time, ahead, delay time.Duration) { w.meet(ntp(t.Add(-ahead-delay)), t) }
	for _, delay := range []time.Duration{80, 20, 50, 200} {
		theirs(now, time.Hour, delay*time.Millisecond)
	}
	if ahead, _ := w.ahead(); ahead < time.Hour+20*time.Millisecond || ahead > time.Hour+24*time.Millisecond {
		t.Errorf("their clock is %v behind", ahead)
	}
	theirs(now, 2*time.Hour, 0)
	if ahead, _ := w.ahead(); ahead != 2*time.Hour {
		t.Errorf("after it was set, their clock is %v behind", ahead)
	}
}

// What a participant says and shows at the same moment has the same time in what their receiver is told, whichever slots carry it and
// whatever layer.
func TestLipSync(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	v, cam := sender.speak(wire.SourceMicrophone), sender.show(wire.SourceCamera, rids...)
	var mu sync.Mutex
	said := map[int]time.Time{}
	shown := map[marks]time.Time{}
	sender.every(20*time.Millisecond, func() {
		mu.Lock()
		said[len(v.all())] = time.Now()
		mu.Unlock()
		v.say(t)
	})
	sender.every(frameEvery, func() {
		mu.Lock()
		for rank, l := range cam.layers {
			shown[marks{rank: rank, frame: l.frames() + 1}] = time.Now()
		}
		mu.Unlock()
		cam.frame()
	})
	receiver.await("both", func() bool { return len(receiver.from(v.id)) > 10 && len(receiver.from(cam.id)) > 10 })
	reports := map[wire.TrackID]*rtcp.SenderReport{}
	for _, id := range []wire.TrackID{v.id, cam.id} {
		mid := receiver.slotOf(id)
		for _, transceiver := range receiver.down.GetTransceivers() {
			if transceiver.Mid() != mid {
				continue
			}
			receiver.going.Go(func() {
				for {
					packets, _, err := transceiver.Receiver().ReadRTCP()
					if err != nil {
						return
					}
					for _, p := range packets {
						if report, is := p.(*rtcp.SenderReport); is {
							mu.Lock()
							reports[id] = report
							mu.Unlock()
						}
					}
				}
			})
		}
	}
	offsets := map[wire.TrackID]time.Duration{}
	for _, want := range []string{wire.WantHigh, wire.WantLow} {
		receiver.p.Want(map[wire.TrackID]string{cam.id: want})
		mu.Lock()
		clear(reports)
		mu.Unlock()
		receiver.await("another layer", func() bool {
			got := receiver.from(cam.id)
			return (want == wire.WantLow) == (marksOf(got[len(got)-1].payload).rank == 0)
		})
		for id, clock := range map[wire.TrackID]float64{v.id: opusClock, cam.id: videoClock} {
			receiver.await("a close report", func() bool {
				mu.Lock()
				defer mu.Unlock()
				report := reports[id]
				if report == nil {
					return false
				}
				got := receiver.from(id)
				last := got[len(got)-1]
				told := time.Unix(int64(report.NTPTime>>32)-ntpEpoch, int64(report.NTPTime&0xffffffff*1e9>>32)).Add(ticks(last.Timestamp-report.RTPTime, clock))
				at := said[int(binary.BigEndian.Uint32(last.payload))]
				if id == cam.id {
					m := marksOf(last.payload)
					at = shown[marks{rank: m.rank, frame: m.frame}]
				}
				offsets[id] = told.Sub(at)
				return offsets[id].Abs() < 60*time.Millisecond
			})
		}
		if apart := (offsets[v.id] - offsets[cam.id]).Abs(); apart > 60*time.Millisecond {
			t.Errorf("%s: sound is told %v and picture %v after it was made", want, offsets[v.id], offsets[cam.id])
		}
	}
}
