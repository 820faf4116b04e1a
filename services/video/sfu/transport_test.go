package sfu

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

// An ICE restart of either connection, as a client does it whose address has changed, brings the media back, on the same keys and in the
// same streams.
func TestRestartICE(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	ways := []*link{newLink(t), newLink(t)}
	moving, other := join(t, r, "moving", over(ways[0], ways[1])), join(t, r, "other")
	v, w := moving.speak(wire.SourceMicrophone), other.speak(wire.SourceMicrophone)
	moving.talk(v)
	other.talk(w)
	both := func(what string) {
		t.Helper()
		out, in := len(other.from(v.id)), len(moving.from(w.id))
		moving.await(what, func() bool { return len(other.from(v.id)) > out+10 && len(moving.from(w.id)) > in+10 })
	}
	both("sound both ways")
	for range 2 {
		moving.offer(&webrtc.OfferOptions{ICERestart: true}, nil)
		both("sound both ways after the connection up was restarted")
		moving.p.RestartDown()
		both("sound both ways after the connection down was restarted")
	}
	moved := time.Now()
	for _, l := range ways {
		l.move()
	}
	moving.offer(&webrtc.OfferOptions{ICERestart: true}, nil)
	moving.p.RestartDown()
	both("sound both ways from another address")
	if took := time.Since(moved); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, got := range [][]arrival{other.from(v.id), moving.from(w.id)} {
		for i := range got[1:] {
			if got[i+1].SequenceNumber <= got[i].SequenceNumber && got[i].SequenceNumber < 65000 {
				t.Errorf("packet %d came after %d", got[i+1].SequenceNumber, got[i].SequenceNumber)
			}
		}
	}
}

// A client that is seen from another address all of a sudden, as behind a NAT that has forgotten it, needs no signalling.
func TestAddressChange(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	ways := []*link{newLink(t), newLink(t)}
	moving, other := join(t, r, "moving", over(ways[0], ways[1])), join(t, r, "other")
	v, w := moving.speak(wire.SourceMicrophone), other.speak(wire.SourceMicrophone)
	moving.talk(v)
	other.talk(w)
	moving.await("sound both ways", func() bool { return len(other.from(v.id)) > 10 && len(moving.from(w.id)) > 10 })
	for _, l := range ways {
		l.move()
	}
	out, in := len(other.from(v.id)), len(moving.from(w.id))
	moving.await("sound both ways from another address", func() bool { return len(other.from(v.id)) > out+10 && len(moving.from(w.id)) > in+10 })
}

// Nothing of who is not let in reaches the SFU, whatever they know.
func TestForeignAddresses(t *testing.T) {
	t.Parallel()
	var allowed atomic.Bool
	s := begin(t, func(o *Options) { o.Allowed = func(netip.Addr) bool { return allowed.Load() } })
	r := s.Room(false)
	c := enter(t, r, "stranger")
	v := c.speak(wire.SourceMicrophone)
	c.await("its checks at the door", func() bool { return counted(s.metrics.foreign) > 5 })
	if c.up.ConnectionState() == webrtc.PeerConnectionStateConnected || c.p.up.Load().transport.remote.Load() != nil {
		t.Error("the stranger is connected")
	}
	allowed.Store(true)
	c.talk(v)
	c.await("their packets, once they are let in", func() bool { return s.metrics.received.packets.Load() > 5 })
}

// What is neither STUN, DTLS nor RTP goes to who was named for it, and their answer back.
func TestStray(t *testing.T) {
	t.Parallel()
	s := begin(t, func(o *Options) {
		o.Stray = func(packet []byte, _ netip.AddrPort) []byte { return append([]byte("back:"), packet...) }
	})
	conn := listen(t)
	defer func() { _ = conn.Close() }()
	for _, first := range []byte{4, 19, 64, 127, 192, 255} {
		if _, err := conn.WriteToUDPAddrPort([]byte{first, 'x'}, netip.AddrPortFrom(localhost, uint16(s.port))); err != nil {
			t.Fatal(err)
		}
		fail(t, conn.SetReadDeadline(time.Now().Add(patience)))
		buffer := make([]byte, 100)
		n, err := conn.Read(buffer)
		if err != nil || string(buffer[:n]) != "back:"+string([]byte{first, 'x'}) {
			t.Errorf("%d: %q came back, %v", first, buffer[:n], err)
		}
	}
}

// A check of connectivity is answered for the right password only, and never takes the SFU's role.
func TestChecks(t *testing.T) {
	t.Parallel()
	s := begin(t)
	c := enter(t, s.Room(false), "peer", func(o *peerOptions) { o.silent = true })
	offer := <-c.offers
	fragment, password := line(offer.sdp, "a=ice-ufrag:"), line(offer.sdp, "a=ice-pwd:")
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(localhost, uint16(s.port))))
	fail(t, err)
	defer func() { _ = conn.Close() }()
	name, key := stun.NewUsername(fragment+":them"), stun.NewShortTermIntegrity(password)
	for _, check := range []struct {
		name    string
		setters []stun.Setter
		answer  stun.MessageType
	}{
		{"wrong password", []stun.Setter{name, stun.NewShortTermIntegrity("guessed")}, stun.MessageType{}},
		{"none", []stun.Setter{name}, stun.MessageType{}},
		{"nobody's name", []stun.Setter{stun.NewUsername("nobody:them"), key}, stun.MessageType{}},
		{"no name", []stun.Setter{key}, stun.MessageType{}},
		{"wants the SFU to control", []stun.Setter{name, stun.RawAttribute{Type: stun.AttrICEControlled, Value: make([]byte, 8)}, key}, stun.BindingError},
		{"right", []stun.Setter{name, key, stun.Fingerprint}, stun.BindingSuccess},
	} {
		t.Run(check.name, func(t *testing.T) {
			foreign := counted(s.metrics.foreign)
			m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, check.setters...)...)
			fail(t, err)
			_, err = conn.Write(m.Raw)
			fail(t, err)
			if check.answer == (stun.MessageType{}) {
				c.await("it counted as foreign", func() bool { return counted(s.metrics.foreign) > foreign })
				if c.p.down.transport.remote.Load() != nil {
					t.Error("the address is believed")
				}
				return
			}
			buffer := make([]byte, 500)
			fail(t, conn.SetReadDeadline(time.Now().Add(patience)))
			n, err := conn.Read(buffer)
			fail(t, err)
			answer := &stun.Message{Raw: buffer[:n]}
			fail(t, answer.Decode())
			if answer.Type != check.answer || answer.TransactionID != m.TransactionID || key.Check(answer) != nil {
				t.Errorf("got %v", answer)
			}
		})
	}
	if remote := c.p.down.transport.remote.Load(); remote == nil || remote.String() != conn.LocalAddr().String() {
		t.Errorf("the address is %v", remote)
	}
}

// Which address packets go to.
func TestMoves(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.3:1")
	type check struct {
		after      time.Duration
		from       netip.AddrPort
		generation int
		nominated  bool
		want       netip.AddrPort
	}
	for _, story := range []struct {
		name   string
		checks []check
	}{
		{"to the first, until the client has chosen", []check{{0, a, 0, false, a}, {0, b, 0, false, a}, {0, b, 0, true, b}, {0, a, 0, false, b}}},
		{"to another one, where the chosen one is silent", []check{{0, a, 0, true, a}, {2 * time.Second, b, 0, false, a}, {2 * time.Second, b, 0, false, b}}},
		{"a restart, once it is chosen", []check{{0, a, 0, true, a}, {time.Second / 2, b, 1, false, a}, {0, b, 1, true, b}, {0, a, 0, true, b}}},
		{"a restart, at once where the old way is silent", []check{{0, a, 0, true, a}, {2 * time.Second, b, 1, false, b}, {0, c, 1, false, b}, {0, c, 1, true, c}, {9 * time.Second, a, 0, true, c}}},
		{"a restart on the same way", []check{{0, a, 0, true, a}, {0, a, 1, true, a}, {0, b, 0, true, a}}},
	} {
		t.Run(story.name, func(t *testing.T) {
			s := begin(t)
			now := time.Unix(1e9, 0)
			s.now = func() time.Time { return now }
			way, err := s.newTransport(&up{})
			fail(t, err)
			defer way.close()
			for i, check := range story.checks {
				now = now.Add(check.after)
				way.checked(check.from, check.generation, check.nominated)
				if remote := way.remote.Load(); remote == nil || *remote != check.want {
					t.Errorf("after check %d it is %v", i, remote)
				}
			}
		})
	}
}

// line is what follows the first such beginning of a line.
func line(text, beginning string) string {
	lines := strings.Split(text, "\r\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, beginning) })
	if at < 0 {
		return ""
	}
	return strings.TrimPrefix(lines[at], beginning)
}

// A client whose certificate is not the one of its description does not come in.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	s := begin(t)
	c := enter(t, s.Room(false), "liar", func(o *peerOptions) { o.silent = true })
	offer := <-c.offers
	fail(t, c.down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.sdp}))
	answer, err := c.down.CreateAnswer(nil)
	fail(t, err)
	fail(t, c.down.SetLocalDescription(answer))
	print := line(answer.SDP, "a=fingerprint:sha-256 ")
	other := strings.Replace(print, print[:2], map[bool]string{true: "01", false: "00"}[print[:2] == "00"], 1)
	fail(t, c.p.Answer(offer.version, strings.ReplaceAll(answer.SDP, print, other)))
	c.await("the handshake's end", func() bool { return c.p.down.transport.state.Load() == stateClosed })
	if c.down.ConnectionState() == webrtc.PeerConnectionStateConnected {
		t.Error("the client is connected")
	}
}
