package callstest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

// The payload types of services/video/PROTOCOL.md.
const (
	payloadOpus = 111
	payloadVP8  = 96
	payloadRTX  = 97
)

var (
	codecOpus = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	codecVP8  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}}
	codecRTX  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", payloadVP8)}
)

func mediaEngine() (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	audio, video := webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo
	err := errors.Join(
		m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: codecOpus, PayloadType: payloadOpus}, audio),
		m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: codecVP8, PayloadType: payloadVP8}, video),
		m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: codecRTX, PayloadType: payloadRTX}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, audio),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESMidURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.SDESRTPStreamIDURI}, video),
		m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, audio),
	)
	return m, err //nolint:wrapcheck // whoever asks says for what
}

// forwarder is the smallest SFU: each of its slots carries one track for ever, and each track what comes first of it. It is ICE lite, with
// one host candidate on loopback.
type forwarder struct {
	t      testing.TB
	places int                                    // slots of a participant
	passes func(from, to wire.ParticipantID) bool // nil: everything does

	mu    sync.Mutex
	desks map[wire.ParticipantID]*desk
}

func newForwarder(t testing.TB, places int, passes func(from, to wire.ParticipantID) bool) *forwarder {
	return &forwarder{t: t, places: places, passes: passes, desks: map[wire.ParticipantID]*desk{}}
}

// desk is one participant's two connections.
type desk struct {
	forwarder *forwarder
	id        wire.ParticipantID
	echo      bool
	slots     func([]wire.Slot)

	mu      sync.Mutex
	up      *webrtc.PeerConnection
	down    *webrtc.PeerConnection
	version int
	sources map[string]string         // of the connection up, by media section
	carried map[wire.TrackID]*carrier // of the connection down
	free    map[webrtc.RTPCodecType][]*carrier
	whole   map[string]int // frames that came, by rid
}

// carrier is a slot.
type carrier struct {
	local *webrtc.TrackLocalStaticRTP
	place *webrtc.RTPTransceiver
	from  func() // asks the sender for a key frame
}

func (f *forwarder) connection() *webrtc.PeerConnection {
	engine, err := mediaEngine()
	if err != nil {
		f.t.Error(err)
	}
	registry := &interceptor.Registry{}
	for _, err := range []error{webrtc.ConfigureNack(engine, registry), webrtc.ConfigureRTCPReports(registry)} {
		if err != nil {
			f.t.Error(err)
		}
	}
	settings := webrtc.SettingEngine{LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}}
	settings.SetLite(true)
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		f.t.Error(err)
	}
	return pc
}

// sit gives a participant a desk; slots is told of what is carried.
func (f *forwarder) sit(id wire.ParticipantID, echo bool, slots func([]wire.Slot)) *desk {
	d := &desk{
		forwarder: f, id: id, echo: echo, slots: slots, sources: map[string]string{}, carried: map[wire.TrackID]*carrier{},
		free: map[webrtc.RTPCodecType][]*carrier{}, whole: map[string]int{}, up: f.connection(), down: f.connection(),
	}
	d.up.OnTrack(d.forward)
	for i := range f.places {
		codec := codecOpus
		if i >= f.places/2 {
			codec = codecVP8
		}
		local, err := webrtc.NewTrackLocalStaticRTP(codec, fmt.Sprint("slot", i), "down")
		if err != nil {
			f.t.Error(err)
		}
		place, err := d.down.AddTransceiverFromTrack(local, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			f.t.Error(err)
		}
		c := &carrier{local: local, place: place, from: func() {}}
		d.free[local.Kind()] = append(d.free[local.Kind()], c)
		go d.listen(c)
	}
	f.mu.Lock()
	f.desks[id] = d
	f.mu.Unlock()
	return d
}

// listen passes on who asks for a key frame.
func (d *desk) listen(c *carrier) {
	for {
		packets, _, err := c.place.Sender().ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			if _, is := packet.(*rtcp.PictureLossIndication); is {
				d.mu.Lock()
				ask := c.from
				d.mu.Unlock()
				ask()
			}
		}
	}
}

// counted are the frames of video that have come, by layer.
func (d *desk) counted() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.whole)
}

func (d *desk) leave() {
	d.forwarder.mu.Lock()
	delete(d.forwarder.desks, d.id)
	d.forwarder.mu.Unlock()
	_ = d.up.GracefulClose()
	_ = d.down.GracefulClose()
}

// offer describes the connection down, with restart anew.
func (d *desk) offer(restart bool) (version int, text string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offer, err := d.down.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return 0, "", err
	}
	gathered := webrtc.GatheringCompletePromise(d.down)
	if err := d.down.SetLocalDescription(offer); err != nil {
		return 0, "", err
	}
	<-gathered
	d.version++
	return d.version, d.down.LocalDescription().SDP, nil
}

func (d *desk) answered(version int, text string) error {
	d.mu.Lock()
	current := d.version
	d.mu.Unlock()
	if version != current || d.down.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return nil
	}
	return d.down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text})
}

// take answers the description of the connection up.
func (d *desk) take(text string, tracks []wire.OfferedTrack) (string, []wire.Track, error) {
	var shown []wire.Track
	d.mu.Lock()
	for _, track := range tracks {
		d.sources[track.MID] = track.Source
		shown = append(shown, wire.Track{ID: trackID(d.id, track.Source), MID: track.MID, Source: track.Source, Muted: track.Muted})
	}
	d.mu.Unlock()
	if err := d.up.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		return "", nil, err
	}
	answer, err := d.up.CreateAnswer(nil)
	if err != nil {
		return "", nil, err
	}
	gathered := webrtc.GatheringCompletePromise(d.up)
	if err := d.up.SetLocalDescription(answer); err != nil {
		return "", nil, err
	}
	<-gathered
	return d.up.LocalDescription().SDP, shown, nil
}

func trackID(id wire.ParticipantID, source string) wire.TrackID {
	return wire.TrackID(string(id) + "/" + source)
}

// forward copies a track to everybody else.
func (d *desk) forward(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	var mid string
	for _, place := range d.up.GetTransceivers() {
		if place.Receiver() == receiver {
			mid = place.Mid()
		}
	}
	d.mu.Lock()
	id := trackID(d.id, d.sources[mid])
	d.mu.Unlock()
	forwards := track.RID() == "" || track.RID() == "f"
	ask := func() {
		_ = d.up.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}})
	}
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		d.mu.Lock()
		if packet.Marker {
			d.whole[track.RID()]++
		}
		d.mu.Unlock()
		if !forwards {
			continue
		}
		for _, other := range d.forwarder.audience(d) {
			other.carry(id, track.Kind(), packet, ask)
		}
	}
}

func (f *forwarder) audience(of *desk) (others []*desk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.desks {
		if (d != of || d.echo) && (f.passes == nil || f.passes(of.id, d.id)) {
			others = append(others, d)
		}
	}
	return others
}

// carry sends a packet of a track on the slot that it has, or is given now.
func (d *desk) carry(id wire.TrackID, kind webrtc.RTPCodecType, packet *rtp.Packet, ask func()) {
	if d.down.ConnectionState() != webrtc.PeerConnectionStateConnected {
		return
	}
	d.mu.Lock()
	c := d.carried[id]
	fresh := c == nil && len(d.free[kind]) > 0
	if fresh {
		c = d.free[kind][0]
		d.free[kind] = d.free[kind][1:]
		d.carried[id], c.from = c, ask
	}
	d.mu.Unlock()
	if c == nil {
		return
	}
	if fresh {
		d.slots([]wire.Slot{{MID: c.place.Mid(), TrackID: id}})
		if kind == webrtc.RTPCodecTypeVideo {
			ask()
		}
	}
	copied := *packet
	copied.Extensions, copied.Extension = nil, false
	if err := c.local.WriteRTP(&copied); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		d.forwarder.t.Log(err)
	}
}
