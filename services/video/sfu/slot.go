package sfu

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"
)

const (
	subscriberKey = time.Second
	againAfter    = 15 * time.Millisecond // least time between sending the same packet again twice
	longestLeap   = time.Minute           // of time, where a slot goes over to another layer
)

// slot is a media section of a connection down, and one continuous stream in it, whatever it carries: packets keep their order and
// distance, and get the slot's own numbers and times.
type slot struct {
	down   *down
	kind   kind
	mid    string
	ssrc   uint32
	repair uint32 // the SSRC of retransmissions, which have numbers of their own (RFC 4588 §4)

	track *track // the room's: what it carries

	mu     sync.Mutex
	bound  bool   // it has been negotiated
	source *layer // what passes
	stream int    // of the source's
	began  uint64 // its first packet that passes
	target *layer // what shall pass from its next key frame on

	sequenceBy  uint16 // what is taken from a source's numbers and times
	timestampBy uint32
	pictureBy   uint16
	tl0By       uint8

	started   bool
	latest    *layer // of the last packet, as all that follows
	sequence  uint16
	timestamp uint32
	stamp     uint32 // as the layer had it
	picture   uint16
	tl0       uint8
	lastAt    time.Time

	keyedAt        time.Time // when its receiver last asked for a key frame
	history        history
	repairSequence uint16
	packets        uint32
	octets         uint32
	reported       uint32  // packets, at the last sender report
	probing        float64 // bytes that are to be sent to probe the way
}

func newSlot(d *down, k kind, mid string) *slot {
	return &slot{down: d, kind: k, mid: mid, ssrc: randomSSRC(), repair: randomSSRC()}
}

func (s *slot) payloadType() uint8 {
	if s.kind == audio {
		return payloadOpus
	}
	return payloadVP8
}

// bind says whether the client takes the slot.
func (s *slot) bind(taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = taken
}

func (s *slot) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound
}

// carryLocked gives the slot another track, or none. Nothing flows until it aims at a layer of it. The room's lock is held.
func (s *slot) carryLocked(t *track) {
	if s.track != nil {
		s.track.remove(s)
		s.forget()
	}
	s.track = t
}

// forget lets go of what the slot carried.
func (s *slot) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source, s.target, s.latest, s.history = nil, nil, nil, nil
}

// startLocked lets the track's packets come by. The room's lock is held.
func (s *slot) startLocked(l *layer, cut bool) {
	if !slices.Contains(*s.track.takers.Load(), s) {
		s.track.add(s)
	}
	s.aim(l, cut)
}

// aim says which layer shall pass; none, and nothing passes any more. Cut ends at once what passes now, which else goes on until the
// key frame.
func (s *slot) aim(l *layer, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = l
	if l == nil || cut && s.source != l {
		s.source = nil
	}
}

// waits gives the layer whose key frame the slot needs.
func (s *slot) waits() *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kind == audio || s.target == s.source {
		return nil
	}
	return s.target
}

// passing gives what passes now, and what shall.
func (s *slot) passing() (source, target *layer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source, s.target
}

// forward sends a packet on, if it is of the layer that passes.
func (s *slot) forward(l *layer, p *packet, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l != s.source || p.stream != s.stream {
		if l != s.target || !s.bound || s.kind == video && !p.vp8.key || !s.down.transport.ready() {
			return
		}
		s.turn(l, p, now)
	}
	if p.index < s.began || !s.bound {
		return
	}
	s.write(l, p, now)
}

// turn goes over to another layer with this packet, which follows the last one without a gap.
func (s *slot) turn(l *layer, p *packet, now time.Time) {
	next, stamp, picture, tl0 := s.sequence+1, s.timestamp+s.elapsed(l, p, now), s.picture+1, s.tl0+1
	if !s.started {
		next, stamp, picture, tl0 = p.sequence, p.timestamp, p.vp8.picture, p.vp8.tl0
	}
	s.sequenceBy, s.timestampBy = p.sequence-next, p.timestamp-stamp
	s.pictureBy, s.tl0By = p.vp8.picture-picture, p.vp8.tl0-tl0
	s.source, s.target, s.stream, s.began = l, l, p.stream, p.index
	s.sequence, s.timestamp = next-1, stamp-1
	s.down.participant.room.sfu.metrics.turns.Inc()
}

// elapsed is the time between the last packet and this one, of another layer, in ticks. Of one sender's layers it is taken from what
// their sender reports say; else from when they came.
func (s *slot) elapsed(l *layer, p *packet, now time.Time) uint32 {
	took := now.Sub(s.lastAt)
	if s.latest != nil && s.latest.track == l.track {
		before, known := s.latest.senderTime(s.stamp)
		after, too := l.senderTime(p.timestamp)
		if d := after - before; known && too && d > 0 && d < longestLeap {
			took = d
		}
	}
	return max(1, uint32(max(took, 0).Seconds()*float64(s.kind.clock())))
}

func (s *slot) write(l *layer, p *packet, now time.Time) {
	sequence, timestamp := p.sequence-s.sequenceBy, p.timestamp-s.timestampBy
	marker := p.marker || s.kind == audio && p.index == s.began // a talkspurt begins (RFC 7587 §4.1)
	picture, tl0 := p.vp8.picture-s.pictureBy, p.vp8.tl0-s.tl0By
	if int16(sequence-s.sequence) > 0 || !s.started { //nolint:gosec // serial arithmetic
		s.sequence, s.timestamp, s.stamp, s.lastAt, s.started = sequence, timestamp, p.timestamp, now, true
		s.picture, s.tl0, s.latest = picture, tl0, l
	}
	d := newDatagram()
	n := s.header(d, s.payloadType(), marker, sequence, timestamp, s.ssrc, len(p.payload), now)
	payload := d.bytes[n : n+copy(d.bytes[n:], p.payload)]
	if s.kind == video {
		p.vp8.patch(payload, picture, tl0)
		s.history = s.history.with(sent{layer: l, index: p.index, timestamp: timestamp, sequence: sequence, picture: picture, tl0: tl0})
	}
	s.send(d, n+len(payload))
	s.packets++
	s.octets += uint32(len(payload)) //nolint:gosec // wraps as it should (RFC 3550 §6.4.1)
	s.probe(len(payload), now)
}

// header writes the header of a packet with so much payload. One of video is numbered for the whole connection.
func (s *slot) header(d *datagram, payloadType uint8, marker bool, sequence uint16, timestamp, ssrc uint32, size int, now time.Time) int {
	b := d.bytes[:]
	b[0], b[1] = 0x80, payloadType
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	if s.kind == audio {
		return rtpHeader
	}
	b[0] |= 0x10
	binary.BigEndian.PutUint16(b[12:], oneByteProfile)
	binary.BigEndian.PutUint16(b[14:], 1)
	b[16], b[19] = downTransport<<4|1, 0
	binary.BigEndian.PutUint16(b[17:], s.down.band.sent(size+rtpHeader, ssrc == s.repair, now))
	return rtpHeader + 8
}

// send has the packet encrypted and queued.
func (s *slot) send(d *datagram, n int) {
	d.n = n
	s.down.participant.room.sfu.metrics.sent.add(n)
	s.down.transport.seal(d)
}

// again answers a NACK. What the SFU has not got itself cannot be given yet; it is forwarded when it comes.
func (s *slot) again(sequence uint16, now time.Time, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history == nil || !s.bound {
		return
	}
	was := s.history.at(sequence)
	if was.layer == nil || was.sequence != sequence || now.Sub(was.again) < patience {
		return
	}
	if s.resend(was, now, false) {
		was.again = now
		s.down.participant.room.sfu.metrics.repeated.Inc()
	}
}

// resend makes a packet anew and sends it as a retransmission.
func (s *slot) resend(was *sent, now time.Time, probe bool) bool {
	const at = rtpHeader + 8 + 2 // after the header, its extension and the original number
	d := newDatagram()
	k, n := was.layer.copyKept(was.index, d.bytes[at:])
	if n == 0 || !probe && !s.down.band.mayRepeat(n, now) {
		d.free()
		return false
	}
	s.repairSequence++
	s.header(d, payloadRTX, k.marker, s.repairSequence, was.timestamp, s.repair, n+2, now)
	binary.BigEndian.PutUint16(d.bytes[at-2:], was.sequence)
	k.vp8.patch(d.bytes[at:at+n], was.picture, was.tl0)
	s.send(d, at+n)
	return true
}

// copyKept copies the payload of a packet that is still in the ring.
func (l *layer) copyKept(index uint64, into []byte) (kept, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, payload := l.ring.get(index)
	if len(payload) > len(into) {
		return kept{}, 0
	}
	return k, copy(into, payload)
}

// probe sends so much again as the connection is to be tried with beyond what it carries. The last packet is as good as any; a receiver
// drops what it has.
func (s *slot) probe(size int, now time.Time) {
	if s.kind != video {
		return
	}
	share := s.down.band.probing(now)
	if share == 0 {
		s.probing = 0
		return
	}
	for s.probing += share * float64(size); s.probing >= float64(size) && size > 0; s.probing -= float64(size) {
		if !s.resend(s.history.at(s.sequence), now, true) {
			return
		}
	}
}

// keyFrame is a receiver's wish, granted once a second.
func (s *slot) keyFrame(now time.Time) {
	s.mu.Lock()
	source := s.source
	if source == nil {
		source = s.target
	}
	due := source != nil && now.Sub(s.keyedAt) >= subscriberKey
	if due {
		s.keyedAt = now
	}
	s.mu.Unlock()
	if due {
		source.wantKey(now)
	}
}

// report says which time of the SFU's clock a timestamp of the slot stands for, so that its receiver can play what one participant says
// and shows at the same moment (RFC 3550 §6.4.1).
func (s *slot) report(now time.Time) *rtcp.SenderReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil || s.packets == s.reported {
		return nil
	}
	s.reported = s.packets
	return &rtcp.SenderReport{
		SSRC: s.ssrc, NTPTime: ntp(now), RTPTime: s.source.stampAt(now) - s.timestampBy,
		PacketCount: s.packets, OctetCount: s.octets,
	}
}
