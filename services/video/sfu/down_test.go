package sfu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

// There are more video slots when more is wanted, in steps, up to what the client asked for; those that are there stay what they are.
func TestSlotsGrow(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	receiver := join(t, r, "receiver", func(o *peerOptions) { o.slots = 6 })
	var cams []*camera
	for i := range 7 {
		cam := enter(t, r, fmt.Sprint("sender-", i)).show(wire.SourceCamera)
		cam.film()
		cams = append(cams, cam)
	}
	seen := func() (n int) {
		for _, cam := range cams {
			if len(receiver.from(cam.id)) > 10 {
				n++
			}
		}
		return n
	}
	receiver.await("six pictures", func() bool { return seen() == 6 })
	if n := len(*receiver.p.down.slots.Load()); n != audioSlots+6 {
		t.Errorf("there are %d slots", n)
	}
	receiver.mu.Lock()
	versions := receiver.versions
	receiver.mu.Unlock()
	if len(versions) > 3 {
		t.Errorf("it took %d offers", len(versions))
	}
	for _, cam := range cams {
		if receiver.slotOf(cam.id) != "" {
			continuous(t, roughly, receiver.from(cam.id), cam)
		}
	}
}

// Old answers are ignored, bad ones refused, and a new socket is told everything that counts.
func TestAnswers(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	c := enter(t, r, "slow", func(o *peerOptions) { o.silent = true })
	first := <-c.offers
	if first.version != 1 || strings.Count(first.sdp, "m=audio") != audioSlots || strings.Count(first.sdp, "m=video") != slotStep ||
		!strings.Contains(first.sdp, "a=ice-lite\r\n") || !strings.Contains(first.sdp, "a=setup:actpass\r\n") {
		t.Fatalf("the first offer is %d:\n%s", first.version, first.sdp)
	}
	video := first.sdp[strings.Index(first.sdp, "m=video"):]
	group := strings.Fields(line(video, "a=ssrc-group:FID"))
	if len(group) != 2 || !strings.HasPrefix(line(video, "a=ssrc:"), group[0]) {
		t.Errorf("the first SSRC of a picture is not its media's: %s", video)
	}
	for _, text := range []string{"", "v=0", first.sdp[:strings.Index(first.sdp, "m=")], strings.Replace(first.sdp, "a=mid:1\r\n", "a=mid:2\r\n", 1)} {
		if err := c.p.Answer(1, text); !errors.Is(err, ErrDescription) {
			t.Errorf("an answer of %.20q gave %v", text, err)
		}
	}
	if err := c.p.Answer(7, "rubbish"); err != nil {
		t.Errorf("an answer to no offer: %v", err)
	}
	c.p.Refresh()
	if again := <-c.offers; again != first {
		t.Errorf("the offer that waits is said again as %d:\n%s", again.version, again.sdp)
	}
	c.p.RestartDown()
	if again := <-c.offers; again != first {
		t.Errorf("an offer that was never answered is restarted as %d:\n%s", again.version, again.sdp)
	}
	fail(t, c.take(first))
	c.await("the connection", func() bool { return c.down.ConnectionState() == webrtc.PeerConnectionStateConnected })
	c.p.RestartDown()
	c.p.RestartDown()
	second, third := <-c.offers, <-c.offers
	if second.version != 2 || third.version != 3 || line(second.sdp, "a=ice-ufrag:") == line(third.sdp, "a=ice-ufrag:") ||
		line(first.sdp, "a=fingerprint:") != line(third.sdp, "a=fingerprint:") {
		t.Errorf("restarted by %d and %d", second.version, third.version)
	}
	fail(t, c.p.Answer(2, "rubbish, and too late"))
	fail(t, c.take(third))

	sender := join(t, r, "sender")
	v, cam := sender.speak(wire.SourceMicrophone), sender.show(wire.SourceCamera, rids...)
	sender.talk(v)
	cam.film()
	c.await("slots", func() bool { return len(c.from(v.id)) > 0 && len(c.from(cam.id)) > 0 })
	c.await("speakers", func() bool { return c.onlySpeaker() == "sender" })
	sender.await("quality", func() bool { return sender.knowsQuality() })
	for _, p := range []*peer{c, sender} {
		p.forget()
		p.p.Refresh()
	}
	c.await("the slots again", func() bool {
		return c.slotOf(v.id) != "" && c.slotOf(cam.id) != "" && c.slotsKnown() == audioSlots+slotStep
	})
	c.await("the speakers again", func() bool { return c.onlySpeaker() == "sender" })
	sender.await("the quality and layers again", func() bool { return sender.knowsQuality() && len(sender.layersOf(cam.mid)) > 0 })
}

// forget is what a client does that has lost its socket.
func (c *peer) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.slots)
	clear(c.layers)
	c.speakers, c.quality = nil, [2]string{}
}

func (c *peer) knowsQuality() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quality[0] != "" && c.quality[1] != ""
}

func (c *peer) slotsKnown() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}

func (c *peer) layersOf(mid string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layers[mid]
}
