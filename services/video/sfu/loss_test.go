package sfu

import (
	"testing"

	"secureconnect/services/internal/wire"
)

// 8 % lost on all ways, up and down, both directions: what is missing is asked for and comes, so that a picture has no holes.
func TestLoss(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	ways := []*link{newLink(t), newLink(t), newLink(t), newLink(t)}
	sender := join(t, r, "sender", over(ways[0], ways[1]))
	receiver := join(t, r, "receiver", over(ways[2], ways[3]))
	cam := sender.show(wire.SourceCamera, rids...)
	cam.film()
	receiver.p.Want(map[wire.TrackID]string{cam.id: wire.WantMedium})
	receiver.await("a picture", func() bool { return len(receiver.from(cam.id)) > 10 })
	for _, w := range ways {
		w.lossy.Store(80)
	}
	from := cam.layers[1].frames()
	receiver.await("six seconds of it", func() bool { return cam.layers[1].frames() > from+180 })
	for _, w := range ways {
		w.lossy.Store(0)
	}
	last := cam.layers[1].frames()
	receiver.await("what was sent last", func() bool {
		got := receiver.from(cam.id)
		return marksOf(got[len(got)-1].payload).frame > last
	})
	var lost int64
	for _, w := range ways {
		lost += w.sentLost.Load() + w.cameLost.Load()
	}
	missing, expected := 0, 0
	receiver.await("what is missing", func() bool {
		got := inOrder(receiver.from(cam.id))
		expected = int(got[len(got)-1].SequenceNumber-got[0].SequenceNumber) + 1
		missing = expected - len(got)
		return missing <= expected/1000
	})
	t.Logf("%d packets lost on the four ways; of %d, %d are missing at the end; the sender repeated %d", lost, expected, missing, cam.layers[1].repairing.Load())
	if lost < 100 {
		t.Errorf("only %d packets were lost: this tests nothing", lost)
	}
}

// A receiver that asks for a key frame all the time gets one a second, and a sender is asked twice a second at most, however many ask.
func TestKeyFramesAreRationed(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender := join(t, r, "sender")
	cam := sender.show(wire.SourceCamera)
	cam.film()
	var greedy []*peer
	for _, name := range []string{"a", "b", "c"} {
		c := join(t, r, name)
		c.await("a picture", func() bool { return len(c.from(cam.id)) > 0 })
		greedy = append(greedy, c)
	}
	before, frame := cam.layers[0].plis.Load(), cam.layers[0].frames()
	for _, c := range greedy[:1] {
		c.every(frameEvery, func() { c.wantKey(cam.id) })
	}
	sender.await("four seconds", func() bool { return cam.layers[0].frames() > frame+120 })
	if asked := cam.layers[0].plis.Load() - before; asked < 3 || asked > 6 {
		t.Errorf("in four seconds one receiver's wish was passed on %d times", asked)
	}
	before, frame = cam.layers[0].plis.Load(), cam.layers[0].frames()
	for _, c := range greedy[1:] {
		c.every(frameEvery, func() { c.wantKey(cam.id) })
	}
	sender.await("four seconds", func() bool { return cam.layers[0].frames() > frame+120 })
	if asked := cam.layers[0].plis.Load() - before; asked < 3 || asked > 10 {
		t.Errorf("in four seconds three receivers' wishes were passed on %d times", asked)
	}
}
