package sfu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

// offered is a client's offer of a microphone and a camera with simulcast, and what they are.
func offered(t *testing.T) (string, []Source) {
	t.Helper()
	pc, err := peerAPI(t, nil).NewPeerConnection(webrtc.Configuration{})
	fail(t, err)
	t.Cleanup(func() { _ = pc.GracefulClose() })
	sound, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: opusClock, Channels: 2}, "a", "a")
	fail(t, err)
	cam := &camera{peer: &peer{t: t}}
	for i, track := range []webrtc.TrackLocal{sound, newLens(cam, "v", "q")} {
		transceiver, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		fail(t, err)
		if i == 1 {
			fail(t, transceiver.Sender().AddEncoding(newLens(cam, "v", "h")))
			fail(t, transceiver.Sender().AddEncoding(newLens(cam, "v", "f")))
		}
	}
	offer, err := pc.CreateOffer(nil)
	fail(t, err)
	return offer.SDP, []Source{{MID: "0", Source: wire.SourceMicrophone}, {MID: "1", Source: wire.SourceCamera}}
}

// What a client should not have offered is refused, told from what is the SFU's fault, and leaves the participant what they were.
func TestOffersRefused(t *testing.T) {
	t.Parallel()
	text, sources := offered(t)
	c := enter(t, begin(t).Room(false), "client")
	section := text[strings.Index(text, "m=audio"):strings.Index(text, "m=video")]
	many := func(n int) (all string) {
		for i := range n {
			all += strings.Replace(section, "a=mid:0", fmt.Sprintf("a=mid:x%d", i), 1)
		}
		return all
	}
	for _, bad := range []struct {
		name    string
		text    string
		sources []Source
	}{
		{"nothing", "", sources},
		{"no SDP", "hello", sources},
		{"no section", text[:strings.Index(text, "m=")], nil},
		{"data", strings.Replace(text, "m=audio", "m=application", 1), sources},
		{"too many sections", text + many(mostSections), sources},
		{"too many tracks", text + many(3), append(sources, Source{MID: "x0", Source: wire.SourceScreenAudio}, Source{MID: "x1", Source: wire.SourceScreen}, Source{MID: "x2", Source: wire.SourceScreen})},
		{"no Opus", strings.Replace(text, "opus/48000/2", "G722/8000", 1), sources},
		{"no VP8", strings.Replace(text, "VP8/90000", "H264/90000", 1), sources},
		{"no fingerprint", strings.ReplaceAll(text, "a=fingerprint", "a=finger"), sources},
		{"no mid", strings.Replace(text, "a=mid:1", "a=mid:", 1), sources},
		{"the same mid twice", strings.Replace(text, "a=mid:1", "a=mid:0", 1), sources},
		{"a layer of another name", strings.Replace(text, "a=rid:q", "a=rid:tiny", 1), sources},
		{"a layer twice", strings.Replace(text, "a=rid:h", "a=rid:q", 1), sources},
		{"one number for two extensions", strings.Replace(text, "a=extmap:", "a=extmap:0 "+extensionMID+"\r\na=extmap:", 1), sources},
		{"an SSRC that is none", strings.Replace(text, "a=ssrc:", "a=ssrc:x", 1), sources},
		{"a source too few", text, sources[:1]},
		{"a source too many", text, append(sources, Source{MID: "2", Source: wire.SourceScreen})},
		{"another mid", text, []Source{sources[0], {MID: "7", Source: wire.SourceCamera}}},
		{"a camera that is sound", text, []Source{{MID: "0", Source: wire.SourceCamera}, {MID: "1", Source: wire.SourceScreen}}},
		{"no such source", text, []Source{sources[0], {MID: "1", Source: "mirror"}}},
		{"two of one source", text + strings.Replace(section, "a=mid:0", "a=mid:2", 1), append(sources, Source{MID: "2", Source: wire.SourceMicrophone})},
	} {
		t.Run(bad.name, func(t *testing.T) {
			if bad.text == text && bad.name != "" && len(bad.sources) == len(sources) && bad.sources[1] == sources[1] {
				t.Fatal("this is the good offer")
			}
			if _, _, err := c.p.Offer(bad.text, bad.sources); !errors.Is(err, ErrDescription) {
				t.Errorf("got %v", err)
			}
		})
	}
	if c.p.up.Load() != nil {
		t.Error("a connection was made of it")
	}
	answer, tracks, err := c.p.Offer(text, sources)
	if err != nil || len(tracks) != 2 || tracks[0].Source != wire.SourceMicrophone || tracks[1].MID != "1" || tracks[0].ID == tracks[1].ID {
		t.Fatalf("the good one gave %+v, %v", tracks, err)
	}
	for _, want := range []string{
		"a=ice-lite\r\n", "a=setup:passive\r\n", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n",
		"a=recvonly\r\n", "a=simulcast:recv q;h;f\r\n", "a=rtcp-fb:96 transport-cc\r\n",
		fmt.Sprintf("a=candidate:1 1 udp 2130706431 127.0.0.1 %d typ host\r\n", c.room.sfu.port),
	} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %q:\n%s", want, answer)
		}
	}
	if strings.Count(answer, "a=candidate:") != 2 {
		t.Errorf("not one candidate a section:\n%s", answer)
	}
}

// An offer that only changes what it says of the tracks leaves them what they are; one that drops a track ends it for everybody.
func TestOffersChange(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	sender, receiver := join(t, r, "sender"), join(t, r, "receiver")
	v, cam := sender.speak(wire.SourceMicrophone), sender.show(wire.SourceCamera, rids...)
	sender.talk(v)
	cam.film()
	receiver.await("both", func() bool { return len(receiver.from(v.id)) > 5 && len(receiver.from(cam.id)) > 5 })
	screen := sender.show(wire.SourceScreen)
	screen.film()
	receiver.await("a third track, and still the others", func() bool {
		was := len(receiver.from(cam.id))
		receiver.await("more", func() bool { return len(receiver.from(screen.id)) > 20 && len(receiver.from(cam.id)) > was+40 })
		return true
	})
	continuous(t, roughly, receiver.from(cam.id), cam)
	for _, transceiver := range sender.up.GetTransceivers() {
		if transceiver.Mid() == screen.mid {
			fail(t, transceiver.Sender().Stop())
			fail(t, sender.up.RemoveTrack(transceiver.Sender()))
		}
	}
	sender.sources = sender.sources[:2]
	if tracks := sender.offer(nil, nil); len(tracks) != 2 || tracks[0].ID != v.id || tracks[1].ID != cam.id {
		t.Errorf("left are %+v", tracks)
	}
	receiver.await("the screen's end", func() bool { return receiver.slotOf(screen.id) == "" })
	was := len(receiver.from(cam.id))
	receiver.await("more of the camera", func() bool { return len(receiver.from(cam.id)) > was+20 })
}
