package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// Track is what is sent from one source.
type Track struct {
	Source string // of wire's Source…
	// Layers are one medium, or of video three, from small to large: simulcast.
	Layers []Media
	Muted  bool
}

// kind of what a source sends.
func kindOf(source string) frames.Kind {
	if source == wire.SourceMicrophone || source == wire.SourceScreenAudio {
		return frames.Audio
	}
	return frames.Video
}

// rids name the layers of simulcast, from small to large.
var rids = []string{"q", "h", "f"}

// loudness is what is said of all sound that is sent: a voice, at −30 dBov (RFC 6464 §3).
const loudness = 0x80 | 30

// Errors of tracks that cannot be sent.
var (
	errLayers = errors.New("a track has one layer, or of video three")
	errSource = errors.New("a source is there once, and one of the four")
)

func validTracks(tracks []Track) error {
	known := []string{wire.SourceMicrophone, wire.SourceCamera, wire.SourceScreen, wire.SourceScreenAudio}
	for i, track := range tracks {
		if !slices.Contains(known, track.Source) || slices.ContainsFunc(tracks[:i], func(t Track) bool { return t.Source == track.Source }) {
			return fmt.Errorf("%w: %q", errSource, track.Source)
		}
		if n := len(track.Layers); n != 1 && (n != len(rids) || kindOf(track.Source) != frames.Video) {
			return fmt.Errorf("%w: %q has %d", errLayers, track.Source, n)
		}
	}
	return nil
}

// player paces one layer of a track. It lives as long as the call, and every seat of it is given the frames.
type player struct {
	track   *sent
	media   Media
	rid     string // "" without simulcast
	anew    atomic.Bool
	outlets atomic.Pointer[[]*outlet]
}

// sent is a track that is sent, and how much of it was.
type sent struct {
	source  string
	kind    frames.Kind
	players []*player
	muted   atomic.Bool
	frames  atomic.Uint64
	bytes   atomic.Uint64
}

func newSent(track Track) *sent {
	s := &sent{source: track.Source, kind: kindOf(track.Source)}
	s.muted.Store(track.Muted)
	for i, media := range track.Layers {
		p := &player{track: s, media: media}
		if len(track.Layers) > 1 {
			p.rid = rids[i]
		}
		p.outlets.Store(&[]*outlet{})
		s.players = append(s.players, p)
	}
	return s
}

// plug has the player send through an outlet too, from a key frame on.
func (p *player) plug(o *outlet) {
	with := append(slices.Clone(*p.outlets.Load()), o)
	p.outlets.Store(&with)
	p.anew.Store(true)
}

func (p *player) unplug(o *outlet) {
	without := slices.DeleteFunc(slices.Clone(*p.outlets.Load()), func(one *outlet) bool { return one == o })
	p.outlets.Store(&without)
}

// play sends frame after frame until ctx ends. A machine that falls behind leaves out what is late.
func (p *player) play(ctx context.Context) {
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if p.anew.Swap(false) {
			p.media.Anew()
		}
		frame, lasts := p.media.Next()
		for _, o := range *p.outlets.Load() {
			o.send(frame, lasts)
		}
		due = due.Add(lasts)
		if late := time.Since(due); late > lasts {
			due = due.Add(late)
		}
		timer.Reset(time.Until(due))
	}
}

// outlet sends a player's frames on one connection. The player's goroutine alone sends.
type outlet struct {
	player *player
	local  *webrtc.TrackLocalStaticRTP
	sender *frames.Sender

	mu      sync.Mutex
	packets rtp.Packetizer
	resting bool // nobody wants this layer
	ready   bool // the connection is there
	mid     string
	numbers map[string]uint8 // of header extensions, by URI
	buffer  []byte
}

// mtu leaves room for what a relay and SRTP add.
const mtu = 1200

func newOutlet(p *player, sender *frames.Sender) (*outlet, error) {
	codec, clock := codecVP8, uint32(clockVP8)
	var payloader rtp.Payloader = &codecs.VP8Payloader{EnablePictureID: true}
	if p.track.kind == frames.Audio {
		codec, clock, payloader = codecOpus, clockOpus, &codecs.OpusPayloader{}
	}
	var options []func(*webrtc.TrackLocalStaticRTP)
	if p.rid != "" {
		options = append(options, webrtc.WithRTPStreamID(p.rid))
	}
	local, err := webrtc.NewTrackLocalStaticRTP(codec, p.track.source, "call", options...)
	if err != nil {
		return nil, fmt.Errorf("make track: %w", err)
	}
	packets := rtp.NewPacketizerWithOptions(mtu, payloader, rtp.NewRandomSequencer(), clock)
	return &outlet{player: p, local: local, sender: sender, packets: packets}, nil
}

// negotiated tells how packets are marked.
func (o *outlet) negotiated(mid string, parameters webrtc.RTPSendParameters) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mid, o.numbers = mid, map[string]uint8{}
	for _, extension := range parameters.HeaderExtensions {
		o.numbers[extension.URI] = uint8(extension.ID) // #nosec G115 -- of one or two bytes, they have no larger number
	}
}

// open begins to send, from a key frame on.
func (o *outlet) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = true
	o.player.anew.Store(true)
}

// rest says whether anybody wants the layer.
func (o *outlet) rest(resting bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resting && !resting {
		o.player.anew.Store(true)
	}
	o.resting = resting
}

// send encrypts a frame and sends its packets. What cannot be sent now is lost, as what is said into a dead line is; time passes all the
// same.
func (o *outlet) send(frame []byte, lasts time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	track := o.player.track
	samples := uint32(lasts * clockVP8 / time.Second) // #nosec G115 -- frames last less than a day
	if track.kind == frames.Audio {
		samples = uint32(lasts * clockOpus / time.Second) // #nosec G115 -- as above
	}
	if !o.ready || o.resting || track.muted.Load() {
		o.packets.SkipSamples(samples)
		return
	}
	sealed, err := o.sender.Encrypt(o.buffer[:0], track.kind, frame)
	if err != nil {
		o.packets.SkipSamples(samples)
		return
	}
	o.buffer = sealed
	for _, packet := range o.packets.Packetize(sealed, samples) {
		o.mark(packet)
		if o.local.WriteRTP(packet) != nil {
			return // the connection is closing
		}
	}
	track.frames.Add(1)
	track.bytes.Add(uint64(len(frame)))
}

// mark adds what the SFU reads of a packet.
func (o *outlet) mark(packet *rtp.Packet) {
	values := map[string][]byte{extensionMID: []byte(o.mid)}
	if o.player.rid != "" {
		values[extensionRID] = []byte(o.player.rid)
	}
	if o.player.track.kind == frames.Audio {
		values[extensionAudioLevel] = []byte{loudness}
	}
	for uri, value := range values {
		if number := o.numbers[uri]; number != 0 {
			_ = packet.SetExtension(number, value) // none is too long
		}
	}
}

// listen reads what the SFU says of an outlet's packets, until its connection closes.
func (o *outlet) listen(sender *webrtc.RTPSender) {
	for {
		packets, err := o.feedback(sender)
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				o.player.anew.Store(true)
			}
		}
	}
}

func (o *outlet) feedback(sender *webrtc.RTPSender) ([]rtcp.Packet, error) {
	if o.player.rid == "" {
		packets, _, err := sender.ReadRTCP()
		return packets, err //nolint:wrapcheck // it is not told to anybody
	}
	packets, _, err := sender.ReadSimulcastRTCP(o.player.rid)
	return packets, err //nolint:wrapcheck // as above
}
