package calls

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
)

// Frame is one that was received, decrypted.
type Frame struct {
	From   Voice  // as the key proves it that opened the frame
	Source string // as the server says, where it says that this is From's
	Kind   frames.Kind
	Data   []byte
}

// Heard is what has come from one source of somebody. Source is "" where the platform did not say it of them.
type Heard struct {
	From   e2ee.Peer
	Source string
	Kind   frames.Kind
}

// Received counts what has come of it.
type Received struct {
	Frames    uint64
	KeyFrames uint64
	Bytes     uint64
	First     time.Time
	Last      time.Time
	Gap       time.Duration // the longest between two frames
}

// Unheard counts what has come and was of no use.
type Unheard struct {
	NoKey       uint64 // frames whose key is not here
	Forged      uint64 // frames that their key does not open
	Seen        uint64 // frames that came before
	LostFrames  uint64 // of video: a packet of them never came
	LostPackets int64
}

// hearing is what comes in, over all connections of the call.
type hearing struct {
	heard heard
	give  func(Frame) // may be nil

	mu       sync.Mutex
	received map[Heard]*Received
	unheard  Unheard
	first    time.Time // when the first frame was decrypted
}

// slotLabel says what a slot carries, as the server tells it.
type slotLabel struct {
	voice  Voice
	source string
}

// slot reads one media section of a connection down. One goroutine does so.
type slot struct {
	hearing *hearing
	pc      *webrtc.PeerConnection
	track   *webrtc.TrackRemote
	label   *atomic.Pointer[slotLabel]
	kind    frames.Kind

	arrivals  arrivals
	assembler assembler
	lost      int64 // packets, as far as they are counted
	broken    bool  // a frame is missing, and none that needs none before it has come
	asked     time.Time
}

func newSlot(h *hearing, pc *webrtc.PeerConnection, track *webrtc.TrackRemote, label *atomic.Pointer[slotLabel]) *slot {
	kind := frames.Audio
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		kind = frames.Video
	}
	return &slot{hearing: h, pc: pc, track: track, label: label, kind: kind}
}

// read takes packets until the connection closes.
func (s *slot) read() {
	buffer := make([]byte, 1600)
	for {
		n, _, err := s.track.Read(buffer)
		if err != nil {
			return
		}
		var packet rtp.Packet
		if packet.Unmarshal(buffer[:n]) != nil {
			continue
		}
		s.take(time.Now(), &packet)
	}
}

func (s *slot) take(now time.Time, packet *rtp.Packet) {
	place, fresh := s.arrivals.take(packet.SequenceNumber)
	if lost := s.arrivals.lost(); lost != s.lost {
		s.hearing.miss(lost - s.lost)
		s.lost = lost
	}
	if !fresh {
		return
	}
	payload := append([]byte(nil), packet.Payload...) // the buffer is used again
	if s.kind == frames.Audio {
		if len(payload) > 0 {
			s.open(now, payload)
		}
		return
	}
	whole, lost := s.assembler.take(now, place, packet.Marker, payload)
	if lost > 0 {
		s.broken = true
		s.hearing.missFrames(lost)
	}
	for _, frame := range whole {
		s.open(now, frame)
	}
	if s.broken && lost > 0 {
		s.askAnew(now)
	}
}

// open decrypts a frame and hands it on.
func (s *slot) open(now time.Time, frame []byte) {
	var said slotLabel
	if label := s.label.Load(); label != nil {
		said = *label
	}
	clear, from, err := s.hearing.heard.open(now, s.kind, frame, said.voice)
	if err != nil {
		s.broken = true // what needs it cannot be shown; who has no key does not ask for more
		s.hearing.refuse(err)
		return
	}
	got := Frame{From: from, Kind: s.kind, Data: clear}
	if from == said.voice {
		got.Source = said.source
	}
	if s.kind == frames.Video && s.broken {
		if s.broken = !frames.KeyFrame(clear); s.broken {
			s.askAnew(now)
		}
	}
	s.hearing.take(now, got)
}

// askEvery is how often a key frame is asked for at most.
const askEvery = time.Second

func (s *slot) askAnew(now time.Time) {
	if now.Sub(s.asked) < askEvery {
		return
	}
	s.asked = now
	_ = s.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(s.track.SSRC())}}) // the next broken frame asks again
}

func (h *hearing) take(now time.Time, frame Frame) {
	h.count(now, frame)
	if h.give != nil {
		h.give(frame)
	}
}

func (h *hearing) count(now time.Time, frame Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first.IsZero() {
		h.first = now
	}
	of := Heard{frame.From.Peer, frame.Source, frame.Kind}
	r := h.received[of]
	if r == nil {
		r = &Received{First: now, Last: now}
		h.received[of] = r
	}
	r.Gap = max(r.Gap, now.Sub(r.Last))
	r.Last = now
	r.Frames++
	r.Bytes += uint64(len(frame.Data))
	if frame.Kind == frames.Video && frames.KeyFrame(frame.Data) {
		r.KeyFrames++
	}
}

func (h *hearing) refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, frames.ErrNoKey):
		h.unheard.NoKey++
	case errors.Is(err, frames.ErrSeen):
		h.unheard.Seen++
	default:
		h.unheard.Forged++
	}
}

func (h *hearing) miss(packets int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unheard.LostPackets += packets
}

func (h *hearing) missFrames(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unheard.LostFrames += uint64(n) // #nosec G115 -- a count
}

// report is what has come so far.
func (h *hearing) report() (map[Heard]Received, Unheard, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	received := make(map[Heard]Received, len(h.received))
	for of, r := range h.received {
		received[of] = *r
	}
	return received, h.unheard, h.first
}
