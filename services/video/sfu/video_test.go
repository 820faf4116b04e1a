package sfu

import (
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// A layer is gone over to at its key frames only, up and down, and what the receiver gets stays one stream.
func TestLayers(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	cam := sender.show(wire.SourceCamera, rids...)
	cam.film()
	receiver.await("sender reports of all layers", func() bool {
		for _, l := range sender.p.tracks[0].layers {
			if _, known := l.senderTime(0); !known {
				return false
			}
		}
		return true
	})
	for _, step := range []struct {
		want string
		rank int
	}{{wire.WantLow, 0}, {wire.WantHigh, 2}, {wire.WantMedium, 1}, {wire.WantHigh, 2}, {wire.WantLow, 0}} {
		receiver.p.Want(map[wire.TrackID]string{cam.id: step.want})
		receiver.await("the layer of "+step.want, func() bool {
			got := inOrder(receiver.from(cam.id))
			if len(got) < 20 {
				return false
			}
			for _, p := range got[len(got)-5:] {
				if marksOf(p.payload).rank != step.rank {
					return false
				}
			}
			return true
		})
	}
	continuous(t, 50*time.Millisecond, receiver.from(cam.id), cam)
}
