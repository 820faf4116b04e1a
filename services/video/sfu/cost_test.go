package sfu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pion/srtp/v3"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// audienceOf is a room with one who sends, and so many whose packets the kernel throws away.
func audienceOf(t testing.TB, n int) (sender *up, receivers []*Participant) {
	t.Helper()
	s := begin(t)
	r := s.Room(false)
	sink := listen(t)
	t.Cleanup(func() { _ = sink.Close() })
	fail(t, sink.SetReadBuffer(1)) // soon full
	to := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	for i := range n {
		p, err := r.Join(wire.ParticipantID(fmt.Sprint(i)), 4, Hooks{})
		fail(t, err)
		out, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
		fail(t, err)
		p.down.transport.out = out
		p.down.transport.remote.Store(&to)
		p.down.transport.heard.Store(time.Now().Add(time.Hour).UnixNano())
		p.down.transport.state.Store(stateConnected)
		p.down.band.rate, p.down.band.waiting = 1e12, time.Now().Add(time.Hour) // nobody tells of what came
		testkit.Eventually(t, patience, "the slots", func() bool { return len(*p.down.slots.Load()) > 0 })
		for _, slot := range *p.down.slots.Load() {
			slot.bind(true)
		}
		receivers = append(receivers, p)
	}
	p, err := r.Join("sender", 4, Hooks{})
	fail(t, err)
	text := `v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1
a=fingerprint:sha-256 00
a=ice-ufrag:them
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=rtpmap:111 opus/48000/2
a=sendonly
a=ssrc:1 cname:x
m=video 9 UDP/TLS/RTP/SAVPF 96
a=mid:1
a=rtpmap:96 VP8/90000
a=sendonly
a=ssrc:2 cname:x
`
	_, _, err = p.Offer(text, []Source{{MID: "0", Source: wire.SourceMicrophone}, {MID: "1", Source: wire.SourceCamera}})
	fail(t, err)
	for _, track := range p.tracks {
		testkit.Eventually(t, patience, "takers", func() bool { return len(*track.takers.Load()) == n })
	}
	return p.up.Load(), receivers
}

// next makes the next packet of such a stream.
func next(b []byte, sequence uint16) {
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[4:], uint32(sequence)*960)
}

func soundPacket() []byte {
	b := make([]byte, rtpHeader+100)
	b[0], b[1], b[11] = 0x80, payloadOpus, 1
	return b
}

func picturePacket() []byte {
	b := make([]byte, rtpHeader+1000)
	b[0], b[1], b[11] = 0x80, payloadVP8, 2
	copy(b[rtpHeader:], []byte{0x90, 0xe0, 0x80, 0, 0, 0x20, 0}) // a key frame, each of them
	return b
}

// A packet is forwarded without allocating anything.
func TestForwardingAllocatesNothing(t *testing.T) {
	for _, kind := range []struct {
		name   string
		packet []byte
	}{{"sound", soundPacket()}, {"picture", picturePacket()}} {
		t.Run(kind.name, func(t *testing.T) {
			const receivers = 20
			u, _ := audienceOf(t, receivers)
			sequence := uint16(0)
			one := func() {
				sequence++
				next(kind.packet, sequence)
				u.takeRTP(kind.packet, time.Now())
				u.participant.room.sfu.socket.flush()
			}
			for range 2000 { // rings, pools and histories have grown
				one()
			}
			before := u.participant.room.sfu.metrics.sent.packets.Load()
			allocated := testing.AllocsPerRun(500, one)
			if sent := u.participant.room.sfu.metrics.sent.packets.Load() - before; sent < 500*receivers {
				t.Fatalf("%d packets were sent", sent)
			}
			if perPacket := allocated / receivers; perPacket > 0.5 { // the race detector has pools forget one in four
				t.Errorf("%.2f allocations for each packet that goes out", perPacket)
			}
		})
	}
}

func BenchmarkForward(b *testing.B) {
	for _, load := range []struct {
		name      string
		packet    []byte
		receivers int
	}{{"sound to 200", soundPacket(), 200}, {"picture to 5", picturePacket(), 5}, {"picture to 11", picturePacket(), 11}} {
		b.Run(load.name, func(b *testing.B) {
			u, _ := audienceOf(b, load.receivers)
			b.ReportAllocs()
			sequence := uint16(0)
			for i := 0; i < b.N; i += load.receivers {
				sequence++
				next(load.packet, sequence)
				u.takeRTP(load.packet, time.Now())
				u.participant.room.sfu.socket.flush()
			}
		})
	}
}

// Whatever a client sends by RTP or RTCP, once it has its keys, the SFU goes on.
func FuzzClient(f *testing.F) {
	u, receivers := audienceOf(f, 1)
	f.Add(picturePacket(), []byte{0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0xff, 0xff})
	f.Add(soundPacket(), []byte{0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	at := time.Now()
	f.Fuzz(func(_ *testing.T, media, control []byte) {
		at = at.Add(time.Millisecond)
		u.takeRTP(bytes.Clone(media), at)
		u.takeRTCP(control, at)
		d := receivers[0].down
		d.takeRTCP(control, at)
		if len(control) >= 12 { // as if it were about a slot that is there
			for _, s := range *d.slots.Load() {
				about := bytes.Clone(control)
				binary.BigEndian.PutUint32(about[8:], s.ssrc)
				d.takeRTCP(about, at)
				d.report(at)
			}
		}
		u.report(at, true)
		u.participant.room.sfu.socket.flush()
	})
}
