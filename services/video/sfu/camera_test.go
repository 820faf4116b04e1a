package sfu

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

const frameEvery = time.Second / 30

// camera is a track of VP8 that a peer sends, in layers or as one. It answers for itself what is asked of a sender.
type camera struct {
	number int
	peer   *peer
	mid    string
	id     wire.TrackID
	layers []*lens
}

var cameras atomic.Int32

// lens is one layer of a camera, and a webrtc.TrackLocal.
type lens struct {
	camera *camera
	rid    string
	name   string
	size   int // bytes of a packet
	count  int // packets of a frame

	mu                    sync.Mutex
	writer                webrtc.TrackLocalWriter
	header                rtp.Header
	ids                   map[string]uint8
	ssrc, repair          uint32
	repairSequence        uint16
	picture               uint16
	tl0                   uint8
	frame                 uint32
	sent                  map[uint16][]byte
	stamps                map[uint16]uint32
	asked                 bool
	resting               bool
	keys, plis, repairing atomic.Int32
	began                 time.Time
	taken                 []time.Time // of frames, from the first on
}

// A packet's payload is a descriptor, a frame's first bytes, and marks: rank, key, frame, packet, packets of the frame, camera.
const (
	descriptorSize = 6
	marksAt        = descriptorSize + 10
)

type marks struct {
	camera        int
	rank, key     int
	frame         uint32
	packet, count int
}

func marksOf(payload []byte) marks {
	m := payload[marksAt:]
	return marks{
		camera: int(binary.BigEndian.Uint32(m[10:])), rank: int(m[0]), key: int(m[1]), frame: binary.BigEndian.Uint32(m[2:]),
		packet: int(binary.BigEndian.Uint16(m[6:])), count: int(binary.BigEndian.Uint16(m[8:])),
	}
}

func newLens(c *camera, name, rid string) *lens {
	l := &lens{camera: c, rid: rid, name: name, size: 500, count: 2, sent: map[uint16][]byte{}, stamps: map[uint16]uint32{}, asked: true, ids: map[string]uint8{}}
	switch rid {
	case "q":
		l.size, l.count = 600, 1
	case "h":
		l.size, l.count = 1000, 2
	case "f":
		l.size, l.count = 1100, 6
	}
	return l
}

func (l *lens) ID() string                { return l.name }
func (l *lens) StreamID() string          { return string(l.camera.peer.name) }
func (l *lens) RID() string               { return l.rid }
func (l *lens) Kind() webrtc.RTPCodecType { return webrtc.RTPCodecTypeVideo }

func (l *lens) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer, l.ssrc, l.repair = c.WriteStream(), uint32(c.SSRC()), uint32(c.SSRCRetransmission())
	l.header = rtp.Header{Version: 2, PayloadType: payloadVP8, SSRC: l.ssrc, SequenceNumber: uint16(l.ssrc), Timestamp: l.ssrc}
	l.picture, l.tl0 = uint16(l.ssrc)&0x7fff, uint8(l.ssrc)
	for _, e := range c.HeaderExtensions() {
		l.ids[e.URI] = uint8(e.ID)
	}
	l.began = time.Now()
	for _, codec := range c.CodecParameters() {
		if codec.MimeType == webrtc.MimeTypeVP8 {
			return codec, nil
		}
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

func (l *lens) Unbind(webrtc.TrackLocalContext) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writer = nil
	return nil
}

// show adds a camera or a screen, with simulcast if there are rids.
func (c *peer) show(source string, rids ...string) *camera {
	c.t.Helper()
	cam := &camera{number: int(cameras.Add(1)), peer: c}
	name := fmt.Sprint(source, "-", c.name)
	if len(rids) == 0 {
		cam.layers = []*lens{newLens(cam, name, "")}
	}
	for _, rid := range rids {
		cam.layers = append(cam.layers, newLens(cam, name, rid))
	}
	transceiver, err := c.up.AddTransceiverFromTrack(cam.layers[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	fail(c.t, err)
	for _, l := range cam.layers[1:] {
		fail(c.t, transceiver.Sender().AddEncoding(l))
	}
	tracks := c.offer(nil, func() Source { return Source{MID: transceiver.Mid(), Source: source} })
	cam.mid = transceiver.Mid()
	for _, t := range tracks {
		if t.MID == cam.mid {
			cam.id = t.ID
		}
	}
	for _, l := range cam.layers {
		c.going.Go(func() { l.control(transceiver.Sender()) })
	}
	return cam
}

// control hears what comes back: wishes for key frames, and for packets that did not come.
func (l *lens) control(sender *webrtc.RTPSender) {
	buffer := make([]byte, 2000)
	for {
		n, _, err := sender.ReadSimulcast(buffer, l.rid)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buffer[:n])
		if err != nil {
			l.camera.peer.t.Errorf("the SFU sent no RTCP: %v", err)
			return
		}
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.PictureLossIndication:
				l.plis.Add(1)
				l.mu.Lock()
				l.asked = true
				l.mu.Unlock()
			case *rtcp.TransportLayerNack:
				for _, pair := range p.Nacks {
					for _, sequence := range pair.PacketList() {
						l.again(sequence)
					}
				}
			}
		}
	}
}

// again sends a packet once more, as RTX does (RFC 4588).
func (l *lens) again(sequence uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	payload := l.sent[sequence]
	if payload == nil || l.writer == nil {
		return
	}
	l.repairing.Add(1)
	l.repairSequence++
	h := rtp.Header{
		Version: 2, PayloadType: payloadRTX, SSRC: l.repair, SequenceNumber: l.repairSequence, Timestamp: l.stamps[sequence],
	}
	l.extend(&h, extensionRepairRID)
	_, _ = l.writer.WriteRTP(&h, append(binary.BigEndian.AppendUint16(nil, sequence), payload...))
}

// extend says whose packet it is (RFC 8843 §9.2, RFC 8852).
func (l *lens) extend(h *rtp.Header, rid string) {
	if id := l.ids[extensionMID]; id != 0 {
		_ = h.SetExtension(id, []byte(l.camera.mid))
	}
	if id := l.ids[rid]; id != 0 && l.rid != "" {
		_ = h.SetExtension(id, []byte(l.rid))
	}
}

// obeys lets layers rest as the SFU says, and begins them again with a key frame.
func (c *camera) obeys() {
	c.peer.every(10*time.Millisecond, func() {
		active := c.peer.layersOf(c.mid)
		for _, l := range c.layers {
			l.mu.Lock()
			rests := active != nil && !slices.Contains(active, l.rid)
			l.asked = l.asked || l.resting && !rests
			l.resting = rests
			l.mu.Unlock()
		}
	})
}

// film shows a frame every 33 ms until the test ends, or it is told to stop.
func (c *camera) film() (stop func()) {
	return c.peer.every(frameEvery, c.frame)
}

// frame sends a frame of each layer that does not rest; a key frame, where one was asked for.
func (c *camera) frame() {
	for _, l := range c.layers {
		l.shoot()
	}
}

func (l *lens) shoot() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writer == nil || l.resting {
		return
	}
	key, count := l.asked, l.count
	l.asked = false
	if key {
		l.keys.Add(1)
		count *= 2
	}
	l.frame++
	l.picture = (l.picture + 1) & 0x7fff
	l.tl0++
	took := time.Since(l.began)
	l.taken = append(l.taken, l.began.Add(took))
	l.header.Timestamp = l.ssrc + uint32(took.Seconds()*videoClock)
	for i := range count {
		l.packet(i, count, key)
	}
}

func (l *lens) frames() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frame
}

func (l *lens) packet(i, count int, key bool) {
	payload := make([]byte, l.size)
	payload[0], payload[1] = 0x80, 0xe0
	if i == 0 {
		payload[0] |= 0x10
	}
	binary.BigEndian.PutUint16(payload[2:], l.picture|0x8000)
	payload[4], payload[5] = l.tl0, 0x20
	payload[6] = 1
	if key && i == 0 {
		payload[6] = 0
	}
	m := payload[marksAt:]
	m[0] = byte(max(0, slices.Index(rids, l.rid)))
	if key {
		m[1] = 1
	}
	binary.BigEndian.PutUint32(m[2:], l.frame)
	binary.BigEndian.PutUint16(m[6:], uint16(i))
	binary.BigEndian.PutUint16(m[8:], uint16(count))
	binary.BigEndian.PutUint32(m[10:], uint32(l.camera.number))
	l.header.SequenceNumber++
	l.header.Marker = i == count-1
	l.sent[l.header.SequenceNumber], l.stamps[l.header.SequenceNumber] = payload, l.header.Timestamp
	delete(l.sent, l.header.SequenceNumber-2000)
	h := l.header.Clone()
	l.extend(&h, extensionRID)
	_, _ = l.writer.WriteRTP(&h, payload)
}

// inOrder puts what came of a slot in order, each packet once.
func inOrder(packets []arrival) []arrival {
	if len(packets) == 0 {
		return nil
	}
	first := packets[0].SequenceNumber
	place := func(p arrival) int16 { return int16(p.SequenceNumber - first) }
	ordered := slices.Clone(packets)
	slices.SortStableFunc(ordered, func(a, b arrival) int { return int(place(a)) - int(place(b)) })
	return slices.CompactFunc(ordered, func(a, b arrival) bool { return a.SequenceNumber == b.SequenceNumber })
}

// continuous wants what came of a video slot to be one stream: no number left out, pictures numbered one after the other, another camera
// or layer only from a key frame on, and time that goes on as it did for the cameras: to the tick while one layer lasts, and within a
// tolerance from one to the other.
func continuous(t *testing.T, tolerance time.Duration, packets []arrival, cams ...*camera) {
	t.Helper()
	packets = inOrder(packets)
	for i, p := range packets {
		m := marksOf(p.payload)
		if i == 0 {
			if m.key == 0 || m.packet != 0 {
				t.Errorf("the first packet is %d of frame %d, no key frame's first", m.packet, m.frame)
			}
			continue
		}
		before, was := packets[i-1], marksOf(packets[i-1].payload)
		if p.SequenceNumber != before.SequenceNumber+1 {
			t.Errorf("packet %d follows %d", p.SequenceNumber, before.SequenceNumber)
			continue
		}
		picture, last := binary.BigEndian.Uint16(p.payload[2:])&0x7fff, binary.BigEndian.Uint16(before.payload[2:])&0x7fff
		if m.packet > 0 {
			if p.Timestamp != before.Timestamp || picture != last || p.payload[4] != before.payload[4] {
				t.Errorf("a frame has two times or pictures: %d and %d, %d and %d", before.Timestamp, p.Timestamp, last, picture)
			}
			continue
		}
		if picture != (last+1)&0x7fff || p.payload[4] != before.payload[4]+1 {
			t.Errorf("picture %d follows %d, TL0PICIDX %d %d", picture, last, p.payload[4], before.payload[4])
		}
		turned := m.rank != was.rank || m.camera != was.camera || m.frame != was.frame+1
		if turned && m.key == 0 {
			t.Errorf("layer %d of camera %d follows layer %d of %d without a key frame", m.rank, m.camera, was.rank, was.camera)
		}
		clock, stamp := takenAt(m, cams).Sub(takenAt(was, cams)), ticks(p.Timestamp-before.Timestamp, videoClock)
		if d := (stamp - clock).Abs(); stamp <= 0 || d > time.Millisecond && !turned || d > tolerance {
			t.Errorf("the time goes on by %v in %v, turned: %v", stamp, clock, turned)
		}
	}
}

// Of turns of which nothing but the time of arrival is known, no more can be wanted on a busy machine.
const roughly = 2 * time.Second

func takenAt(m marks, cams []*camera) time.Time {
	for _, c := range cams {
		if c.number != m.camera {
			continue
		}
		l := c.layers[m.rank]
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.taken[m.frame-1]
	}
	return time.Time{}
}
