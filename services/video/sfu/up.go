package sfu

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

const (
	mostStreams  = 64 // SSRCs on a connection up; those beyond are not taken
	leastPatient = 30 * time.Millisecond
	mostPatient  = 300 * time.Millisecond
)

// up is a participant's connection up. What arrives on it is taken by one goroutine, its transport's.
type up struct {
	participant *Participant
	transport   *transport
	peer        peerKey
	fragment    string
	session     uint64
	version     uint64 // of the answers

	mu       sync.Mutex
	ids      extensions
	streams  map[uint32]*stream
	byMID    map[string]*track
	recorder *twcc.Recorder
	ssrc     uint32 // our own, in what we report

	packet  packet   // the taking goroutine's
	missing []uint16 // as well
}

// stream is one SSRC.
type stream struct {
	layer   *layer
	repairs bool // it carries retransmissions of the layer
}

func (p *Participant) newUp(o *offer) (*up, error) {
	u := &up{
		participant: p, peer: o.peerKey, fragment: o.fragment, session: uint64(randomSSRC()), ssrc: randomSSRC(),
		streams: map[uint32]*stream{}, missing: make([]uint16, 0, mostMissing),
	}
	u.recorder = twcc.NewRecorder(u.ssrc)
	var err error
	u.transport, err = p.room.sfu.newTransport(u)
	return u, err
}

// answer takes an offer, which begins the connection, changes its tracks or restarts its ICE.
func (u *up) answer(o *offer, tracks []*track) (string, error) {
	if u.fragment != o.fragment {
		u.transport.renew()
		u.fragment = o.fragment
	}
	setup := "passive"
	if !o.client {
		setup = "active"
	}
	our, err := u.transport.side(setup)
	if err != nil {
		return "", err
	}
	u.carry(o, tracks)
	u.transport.begin(u.peer)
	u.version++
	return o.answerTo(our, u.session, u.version), nil
}

// carry says which tracks the connection has from now on. Streams of tracks that stay are still known: a sender introduces each once, and
// then leaves it at its SSRC.
func (u *up) carry(o *offer, tracks []*track) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids, u.byMID = o.ids, map[string]*track{}
	maps.DeleteFunc(u.streams, func(_ uint32, s *stream) bool { return !slices.Contains(tracks, s.layer.track) })
	for i, s := range o.sections {
		u.byMID[s.mid] = tracks[i]
		if len(s.rids) > 0 {
			continue // which SSRC is which layer, packets tell
		}
		for _, ssrc := range s.ssrcs {
			u.streams[ssrc] = &stream{layer: tracks[i].layers[0]}
		}
		for _, ssrc := range s.repairs {
			u.streams[ssrc] = &stream{layer: tracks[i].layers[0], repairs: true}
		}
	}
}

// takeRTP takes a packet and forwards it, before it returns.
func (u *up) takeRTP(b []byte, now time.Time) {
	s, p := u.participant.room.sfu, &u.packet
	u.participant.heardAt.Store(now.UnixNano())
	stream := u.resolve(b, p, now)
	if stream == nil {
		return
	}
	l := stream.layer
	if stream.repairs {
		if p.payloadType != l.track.rtxType || !p.unwrapRTX(l.ssrc.Load(), l.track.payloadType) {
			return // a probe
		}
	} else if p.payloadType != l.track.payloadType {
		return
	}
	s.metrics.received.add(len(b))
	if s.o.Tap != nil {
		s.o.Tap(u.participant.id, l.track.mid, tapped(p))
	}
	fresh, missing := l.take(p, stream.repairs, now, u.participant.patience(), u.missing[:0])
	u.missing = missing
	l.ask(missing)
	if !fresh || l.track.muted.Load() {
		return
	}
	if l.track.kind == audio && l.track.loudness.hear(p.level, now) {
		u.participant.room.wakeUp()
	}
	for _, slot := range *l.track.takers.Load() {
		slot.forward(l, p, now)
	}
}

// resolve reads a packet and finds what it is of: by its SSRC, where that is known, else by what it says itself (RFC 8843 §9.2,
// RFC 8852). It also notes when it came, for the feedback.
func (u *up) resolve(b []byte, p *packet, now time.Time) *stream {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.parse(b, &u.ids) != nil {
		u.participant.room.sfu.metrics.broken.Inc()
		return nil
	}
	if p.hasTransport {
		u.recorder.Record(p.ssrc, p.transport, now.Sub(u.participant.room.sfu.began).Microseconds())
	}
	s := u.streams[p.ssrc]
	if s == nil {
		if s = u.introduced(p); s == nil || len(u.streams) >= mostStreams {
			return nil
		}
		u.streams[p.ssrc] = s
	}
	if !s.repairs && s.layer.ssrc.Load() != p.ssrc {
		s.layer.is(p.ssrc)
	}
	return s
}

// introduced is what a packet says it is of.
func (u *up) introduced(p *packet) *stream {
	t := u.byMID[string(p.mid)]
	if t == nil {
		return nil
	}
	rid := p.rid
	repairs := t.rtxType != 0 && p.payloadType == t.rtxType
	if repairs && len(p.repaired) > 0 {
		rid = p.repaired
	}
	for _, l := range t.layers {
		if l.rid == string(rid) {
			return &stream{layer: l, repairs: repairs}
		}
	}
	return nil
}

// tapped is a copy for the test that looks at it.
func tapped(p *packet) *rtp.Packet {
	return &rtp.Packet{
		Header: rtp.Header{
			Version: 2, Marker: p.marker, PayloadType: p.payloadType, SequenceNumber: p.sequence, Timestamp: p.timestamp, SSRC: p.ssrc,
		},
		Payload: append([]byte{}, p.payload...),
	}
}

// takeRTCP takes a compound of the sender's.
func (u *up) takeRTCP(b []byte, now time.Time) {
	u.participant.heardAt.Store(now.UnixNano())
	parseControls(b, upControl{u, now})
}

func (u *up) connected() {}

func (u *up) state() int32 {
	if u == nil {
		return stateNew
	}
	return u.transport.state.Load()
}

// report says what arrived: the feedback for the sender's estimate, and once a second a receiver report.
func (u *up) report(now time.Time, receivers bool) {
	u.mu.Lock()
	packets := u.recorder.BuildFeedbackPacket()
	if receivers {
		r := &rtcp.ReceiverReport{SSRC: u.ssrc}
		for ssrc, s := range u.streams {
			if s.repairs || s.layer.ssrc.Load() != ssrc || len(r.Reports) == 31 {
				continue
			}
			s.layer.mu.Lock()
			r.Reports = append(r.Reports, s.layer.arrivals.report(ssrc, now))
			s.layer.mu.Unlock()
		}
		packets = append([]rtcp.Packet{r}, packets...)
	}
	u.mu.Unlock()
	if len(packets) > 0 {
		u.transport.say(packets...)
	}
}

// upControl takes what a sender says by RTCP.
type upControl struct {
	up  *up
	now time.Time
}

func (c upControl) senderReport(ssrc uint32, senderNTP uint64, stamp uint32) {
	c.up.mu.Lock()
	s := c.up.streams[ssrc]
	c.up.mu.Unlock()
	if s == nil || s.repairs {
		return
	}
	c.up.participant.wall.meet(senderNTP, c.now)
	l := s.layer
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals.reportNTP, l.arrivals.reportRTP, l.arrivals.reportAt = senderNTP, stamp, c.now
}

// What only the other connection is told.
func (upControl) reception(uint32, reception) {}
func (upControl) nack(uint32, uint16)         {}
func (upControl) keyFrameWanted(uint32)       {}
func (upControl) feedback([]byte)             {}
