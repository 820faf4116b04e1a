package sfu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverSetting) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const patience = time.Minute // with the race detector, on a machine that does other things as well

var localhost = netip.MustParseAddr("127.0.0.1")

// listen opens a media port for a test.
func listen(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// begin makes an SFU that ends with the test.
func begin(t testing.TB, change ...func(*Options)) *SFU {
	t.Helper()
	o := Options{Conn: listen(t), Address: localhost, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the SFU: %v", err)
		}
	})
	return s
}

// peer is a client: pion with what a browser brings.
type peer struct {
	t        testing.TB
	name     wire.ParticipantID
	room     *Room
	p        *Participant
	up, down *webrtc.PeerConnection
	offers   chan invitation
	gone     chan struct{}
	going    sync.WaitGroup

	mu       sync.Mutex
	sources  []Source
	slots    map[string]wire.TrackID
	layers   map[string][]string
	speakers []wire.Speaker
	told     int // how often of speakers
	quality  [2]string
	heard    map[string]*heard // by mid
	versions []int
}

// invitation is an offer of the SFU's that is to be answered.
type invitation struct {
	version int
	sdp     string
}

// heard is what came in one slot.
type heard struct {
	mu      sync.Mutex
	packets []arrival
}

type arrival struct {
	rtp.Header
	payload []byte
	at      time.Time
}

func (h *heard) all() []arrival {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.packets)
}

// peerOptions change what a peer brings.
type peerOptions struct {
	up     net.PacketConn // its ways to the SFU; nil are plain ones
	down   net.PacketConn
	slots  int
	silent bool // answers no offers
}

// join makes a peer that is in the room, and whose connection down is up.
func join(t testing.TB, r *Room, name string, change ...func(*peerOptions)) *peer {
	t.Helper()
	c := enter(t, r, name, change...)
	c.await("the connection down", func() bool { return c.down.ConnectionState() == webrtc.PeerConnectionStateConnected })
	return c
}

// enter makes a peer that has joined the room.
func enter(t testing.TB, r *Room, name string, change ...func(*peerOptions)) *peer {
	t.Helper()
	o := peerOptions{slots: 8}
	for _, c := range change {
		c(&o)
	}
	c := &peer{
		t: t, name: wire.ParticipantID(name), room: r, offers: make(chan invitation, 16), gone: make(chan struct{}),
		slots: map[string]wire.TrackID{}, layers: map[string][]string{}, heard: map[string]*heard{},
	}
	c.up, c.down = c.connection(o.up), c.connection(o.down)
	c.down.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		c.listen(track, receiver.RTPTransceiver().Mid())
	})
	t.Cleanup(c.leave)
	var err error
	if c.p, err = r.Join(c.name, o.slots, c.hooks()); err != nil {
		t.Fatal(err)
	}
	if !o.silent {
		c.going.Go(c.answer)
	}
	return c
}

func (c *peer) connection(way net.PacketConn) *webrtc.PeerConnection {
	c.t.Helper()
	var mux ice.UDPMux
	if way != nil {
		mux = muxOf(way)
		c.t.Cleanup(func() { _ = mux.Close() })
	}
	pc, err := peerAPI(c.t, mux).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		c.t.Fatal(err)
	}
	return pc
}

func (c *peer) hooks() Hooks {
	return Hooks{
		Offer: func(version int, sdp string) {
			c.mu.Lock()
			c.versions = append(c.versions, version)
			c.mu.Unlock()
			c.offers <- invitation{version, sdp}
		},
		Slots: func(slots []wire.Slot) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, s := range slots {
				c.slots[s.MID] = s.TrackID
			}
		},
		Layers: func(mid string, active []string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.layers[mid] = active
		},
		Quality: func(up, down string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.quality = [2]string{up, down}
		},
		Speakers: func(speakers []wire.Speaker) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.speakers, c.told = speakers, c.told+1
		},
	}
}

// answer answers the SFU's offers, one after the other.
func (c *peer) answer() {
	for {
		select {
		case <-c.gone:
			return
		case o := <-c.offers:
			if err := c.take(o); err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
				c.t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func (c *peer) take(o invitation) error {
	if err := c.down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.sdp}); err != nil {
		return fmt.Errorf("take the offer: %w", err)
	}
	answer, err := c.down.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if err := c.down.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return c.p.Answer(o.version, answer.SDP)
}

// leave ends everything of the peer's.
func (c *peer) leave() {
	c.mu.Lock()
	select {
	case <-c.gone:
		c.mu.Unlock()
		return
	default:
	}
	close(c.gone)
	c.mu.Unlock()
	if c.p != nil {
		c.p.Close()
	}
	_ = c.up.GracefulClose()   // a test's end
	_ = c.down.GracefulClose() // as above
	c.going.Wait()
}

// listen keeps what comes in a slot.
func (c *peer) listen(track *webrtc.TrackRemote, mid string) {
	h := c.ear(mid)
	c.going.Go(func() {
		buffer := make([]byte, 2000)
		for {
			n, _, err := track.Read(buffer)
			if err != nil {
				return
			}
			var p rtp.Packet
			if err := p.Unmarshal(slices.Clone(buffer[:n])); err != nil {
				c.t.Errorf("what came is no RTP: %v", err)
				return
			}
			h.mu.Lock()
			h.packets = append(h.packets, arrival{p.Header, p.Payload, time.Now()})
			h.mu.Unlock()
		}
	})
}

func (c *peer) ear(mid string) *heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard[mid] == nil {
		c.heard[mid] = &heard{}
	}
	return c.heard[mid]
}

func (c *peer) await(what string, done func() bool) {
	c.t.Helper()
	testkit.Eventually(c.t, patience, string(c.name)+": "+what, done)
}

// slotOf is the mid of the slot that carries a track.
func (c *peer) slotOf(track wire.TrackID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for mid, id := range c.slots {
		if id == track {
			return mid
		}
	}
	return ""
}

func (c *peer) hears() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.heard) > 0
}

// from is what came of a track, in the slot that carries it now.
func (c *peer) from(track wire.TrackID) []arrival {
	mid := c.slotOf(track)
	if mid == "" {
		return nil
	}
	return c.ear(mid).all()
}

// voice is a track of Opus that a peer sends.
type voice struct {
	track  *webrtc.TrackLocalStaticRTP
	sender *webrtc.RTPSender
	mid    string
	id     wire.TrackID
	level  atomic.Int32

	mu     sync.Mutex
	packet rtp.Packet
	sent   [][]byte
}

func (v *voice) all() [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.sent)
}

// marksVoice is the number of a packet that say has sent.
func marksVoice(payload []byte) int { return int(binary.BigEndian.Uint32(payload)) }

// speak adds a track of sound to the connection up.
func (c *peer) speak(source string) *voice {
	c.t.Helper()
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: opusClock, Channels: 2}, source, string(c.name))
	if err != nil {
		c.t.Fatal(err)
	}
	v := &voice{track: track, packet: rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: 65500, Timestamp: 1 << 31}}}
	v.level.Store(30)
	v.sender, v.mid, v.id = c.add(track, source)
	c.going.Go(func() { drain(v.sender, nil) })
	return v
}

// add offers one more track.
func (c *peer) add(track webrtc.TrackLocal, source string) (*webrtc.RTPSender, string, wire.TrackID) {
	c.t.Helper()
	transceiver, err := c.up.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		c.t.Fatal(err)
	}
	tracks := c.offer(nil, func() Source { return Source{MID: transceiver.Mid(), Source: source} })
	for _, t := range tracks {
		if t.MID == transceiver.Mid() {
			return transceiver.Sender(), t.MID, t.ID
		}
	}
	c.t.Fatalf("the SFU gave %v", tracks)
	return nil, "", ""
}

// offer negotiates the connection up.
func (c *peer) offer(options *webrtc.OfferOptions, also func() Source) []wire.Track {
	c.t.Helper()
	offer, err := c.up.CreateOffer(options)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.up.SetLocalDescription(offer); err != nil {
		c.t.Fatal(err)
	}
	if also != nil {
		c.sources = append(c.sources, also())
	}
	answer, tracks, err := c.p.Offer(offer.SDP, c.sources)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.up.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		c.t.Fatal(err)
	}
	return tracks
}

// talk says something every 20 ms until the test ends, or it is told to stop.
func (c *peer) talk(v *voice) (stop func()) {
	return c.every(20*time.Millisecond, func() { v.say(c.t) })
}

// every does something again and again.
func (c *peer) every(interval time.Duration, do func()) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	c.going.Go(func() {
		defer close(stopped)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-c.gone:
				return
			case <-done:
				return
			case <-ticker.C:
				do()
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		<-stopped
	})
}

// say sends one packet of 20 ms, which tells its number.
func (v *voice) say(t testing.TB) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.packet.SequenceNumber++
	v.packet.Timestamp += 960
	v.packet.Payload = append(binary.BigEndian.AppendUint32(nil, uint32(len(v.sent))), v.id...)
	id := uint8(0)
	for _, extension := range v.sender.GetParameters().HeaderExtensions {
		if extension.URI == extensionAudioLevel {
			id = uint8(extension.ID)
		}
	}
	if id != 0 {
		if err := v.packet.SetExtension(id, []byte{byte(v.level.Load()) | 0x80}); err != nil {
			t.Error(err)
		}
	}
	v.sent = append(v.sent, v.packet.Payload)
	if err := v.track.WriteRTP(&v.packet); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

// peerAPI is what a browser brings: Opus, VP8 and RTX, reports, NACK and transport-wide feedback.
func peerAPI(t testing.TB, way ice.UDPMux) *webrtc.API {
	t.Helper()
	media := mediaEngine(t)
	registry := &interceptor.Registry{}
	generator, err := nack.NewGeneratorInterceptor(nack.WithGeneratorLoggerFactory(quietPion{}))
	fail(t, err)
	responder, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(quietPion{}))
	fail(t, err)
	receiver, err := report.NewReceiverInterceptor(report.WithReceiverLoggerFactory(quietPion{}))
	fail(t, err)
	sender, err := report.NewSenderInterceptor(report.WithSenderLoggerFactory(quietPion{}))
	fail(t, err)
	feedback, err := twcc.NewSenderInterceptor(twcc.WithLoggerFactory(quietPion{}))
	fail(t, err)
	numbers, err := twcc.NewHeaderExtensionInterceptor()
	fail(t, err)
	for _, i := range []interceptor.Factory{generator, responder, receiver, sender, feedback, numbers} {
		registry.Add(i)
	}
	e := webrtc.SettingEngine{LoggerFactory: quietPion{}}
	e.SetIncludeLoopbackCandidate(true)
	e.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if way != nil {
		e.SetICEUDPMux(way)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(e))
}

// mediaEngine knows Opus and VP8, and the header extensions of both connections.
func mediaEngine(t testing.TB) *webrtc.MediaEngine {
	t.Helper()
	m := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "transport-cc"}}
	fail(t, m.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: opusClock, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"},
		PayloadType:        payloadOpus,
	}, webrtc.RTPCodecTypeAudio))
	fail(t, m.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: videoClock, RTCPFeedback: feedback},
		PayloadType:        payloadVP8,
	}, webrtc.RTPCodecTypeVideo))
	fail(t, m.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: videoClock, SDPFmtpLine: "apt=96"},
		PayloadType:        payloadRTX,
	}, webrtc.RTPCodecTypeVideo))
	for kind, uris := range map[webrtc.RTPCodecType][]string{
		webrtc.RTPCodecTypeAudio: {extensionMID, extensionAudioLevel},
		webrtc.RTPCodecTypeVideo: {extensionMID, extensionTWCC, extensionRID, extensionRepairRID},
	} {
		for _, uri := range uris {
			fail(t, m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind))
		}
	}
	return m
}

func muxOf(way net.PacketConn) ice.UDPMux {
	return ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: way, Logger: quietPion{}.NewLogger("")})
}

func fail(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quietPion is what a client has to say.
type quietPion struct{}

func (quietPion) NewLogger(string) logging.LeveledLogger {
	return pionLog{log: slog.New(slog.DiscardHandler)}
}

// drain reads what comes back to a sender, and says when a key frame is asked for.
func drain(sender *webrtc.RTPSender, asked func()) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				if asked != nil {
					asked()
				}
			}
		}
	}
}

// wantKey asks for a key frame of the slot that carries a track.
func (c *peer) wantKey(track wire.TrackID) {
	mid := c.slotOf(track)
	for _, transceiver := range c.down.GetTransceivers() {
		if transceiver.Mid() == mid {
			_ = c.down.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(transceiver.Receiver().Track().SSRC())}})
		}
	}
}

// counted is what has been counted.
func counted(c prometheus.Collector) float64 { return testutil.ToFloat64(c) }
