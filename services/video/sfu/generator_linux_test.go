package sfu

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// generator sends and receives the media of all callers of a room, so that one clock tells how long each packet took. What it sends is
// the same for whoever forwards it.
type generator struct {
	t        testing.TB
	began    time.Time
	counting atomic.Bool
	expected atomic.Int64 // packets that were sent while counting, times who is to get them
	late     lateness

	mu    sync.Mutex
	ears  []*ear
	going sync.WaitGroup
	stop  chan struct{}
}

// ear is one track that arrives.
type ear struct {
	mu   sync.Mutex
	seen map[uint32]struct{}
	took []time.Duration
}

// lateness is how late the generator itself was: on a machine that is too busy no figure means anything.
type lateness struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *lateness) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *lateness) sorted() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.all))
}

func newGenerator(t testing.TB) *generator {
	return &generator{t: t, began: time.Now(), stop: make(chan struct{})}
}

// The end of each payload: when it was sent, its number, and whether it counts.
const stampSize = 13

func (g *generator) stamp(payload []byte, number uint32, receivers int) {
	at := payload[len(payload)-stampSize:]
	binary.BigEndian.PutUint64(at, uint64(time.Since(g.began)))
	binary.BigEndian.PutUint32(at[8:], number)
	at[12] = 0
	if g.counting.Load() {
		at[12] = 1
		g.expected.Add(int64(receivers))
	}
}

// listen hears a track to its end.
func (g *generator) listen(track *webrtc.TrackRemote, on *port) {
	e := &ear{seen: map[uint32]struct{}{}}
	g.mu.Lock()
	g.ears = append(g.ears, e)
	g.mu.Unlock()
	g.going.Go(func() {
		buffer, packet := make([]byte, mostPacket), &rtp.Packet{}
		for {
			n, _, err := track.Read(buffer)
			if err != nil {
				return
			}
			if packet.Unmarshal(buffer[:n]) == nil && len(packet.Payload) > stampSize {
				e.hear(on.arrival(packet.SSRC, packet.SequenceNumber).Sub(g.began), packet.Payload[len(packet.Payload)-stampSize:])
			}
		}
	})
}

func (e *ear) hear(at time.Duration, stamp []byte) {
	if stamp[12] != 1 {
		return
	}
	number := binary.BigEndian.Uint32(stamp[8:])
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, again := e.seen[number]; !again {
		e.seen[number] = struct{}{}
		e.took = append(e.took, at-time.Duration(binary.BigEndian.Uint64(stamp)))
	}
}

func (g *generator) listening() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ears)
}

// delays of all that arrived, in order.
func (g *generator) delays() (all []time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.ears {
		e.mu.Lock()
		all = append(all, e.took...)
		e.mu.Unlock()
	}
	slices.Sort(all)
	return all
}

// speak sends Opus, 40 kbit/s in 50 packets a second, until it is told to stop, or the generator does.
func (g *generator) speak(track *webrtc.TrackLocalStaticRTP, receivers int, stop <-chan struct{}) {
	packet := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: payloadOpus}, Payload: make([]byte, 100)}
	number := uint32(0)
	g.paced(20*time.Millisecond, stop, func() {
		number++
		packet.SequenceNumber++
		packet.Timestamp += 960
		g.stamp(packet.Payload, number, receivers)
		_ = track.WriteRTP(packet) // the connection ends before the generator does
	})
}

const (
	burst       = 5 * time.Millisecond
	pace        = 2.5 // times the rate, as browsers send the packets of a frame
	mostPayload = 1100
)

// picture is what a camera gives.
type picture struct {
	rate  float64 // bits a second
	every time.Duration
}

// fluent is 1 Mbit/s in 30 frames a second.
var fluent = picture{1e6, time.Second / 30}

// show sends VP8, frames of different sizes, the packets of a frame of one size and paced in bursts as browsers do it, until it is told to
// stop, or the generator does. Asked for a key frame it sends one, four times as large as others.
func (g *generator) show(track *webrtc.TrackLocalStaticRTP, p picture, asked <-chan struct{}, receivers int, seed uint64, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 0))
	packet := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: payloadVP8}, Payload: make([]byte, mostPayload)}
	var waiting [][]byte
	var stamps []uint32
	number, frames, budget, next := uint32(0), uint16(0), 0.0, time.Now()
	key := true
	g.paced(burst, stop, func() {
		select {
		case <-asked:
			key = true
		default:
		}
		for ; !next.After(time.Now()); next = next.Add(p.every) {
			frames++
			frame := p.frame(random, key, frames)
			key = false
			waiting = append(waiting, frame...)
			for range frame {
				stamps = append(stamps, uint32(float64(frames)*p.every.Seconds()*videoClock))
			}
		}
		for budget = min(budget+pace*p.rate/8*burst.Seconds(), 2*mostPayload); budget > 0 && len(waiting) > 0; waiting, stamps = waiting[1:], stamps[1:] {
			number++
			packet.SequenceNumber++
			packet.Payload, packet.Timestamp = waiting[0], stamps[0]
			packet.Marker = len(waiting) == 1 || stamps[1] != stamps[0]
			budget -= float64(len(packet.Payload))
			g.stamp(packet.Payload, number, receivers)
			_ = track.WriteRTP(packet) // as above
		}
	})
}

// frame makes the packets of a frame.
func (p picture) frame(random *rand.Rand, key bool, number uint16) (packets [][]byte) {
	size := int(p.rate / 8 * p.every.Seconds() * (0.5 + random.Float64()))
	if key {
		size *= 4
	}
	n := (size + mostPayload - 1) / mostPayload
	for i := range n {
		payload := make([]byte, size/n)
		payload[0], payload[1] = 0x80, 0xe0 // picture ID, TL0PICIDX, TID
		binary.BigEndian.PutUint16(payload[2:], number|0x8000)
		payload[4], payload[5] = byte(number), 0x20
		if i == 0 {
			payload[0] |= 0x10
			payload[6] = 0x11
		}
		if i == 0 && key {
			copy(payload[6:], []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01}) // 640 × 360
		}
		packets = append(packets, payload)
	}
	return packets
}

// paced does something again and again, and notes how late it was.
func (g *generator) paced(interval time.Duration, stop <-chan struct{}, do func()) {
	next := time.Now()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		next = next.Add(interval)
		if g.counting.Load() {
			g.late.add(max(0, now.Sub(next)))
		}
		if now.Sub(next) > time.Second {
			next = now // nobody makes up for so much
		}
		do()
		timer.Reset(time.Until(next.Add(interval)))
	}
}

// end stops what is being sent, and waits for what listens to end too.
func (g *generator) end(callers []signalling) {
	close(g.stop)
	var ending sync.WaitGroup
	for _, c := range callers {
		ending.Go(c.close)
	}
	ending.Wait()
	g.going.Wait()
}

// signalling is a caller's way to whom they call by.
type signalling interface {
	publish(track *webrtc.TrackLocalStaticRTP, asked func()) error
	close()
}

// calls are the two connections of a caller.
type calls struct {
	g        *generator
	up, down *webrtc.PeerConnection
	muxes    []ice.UDPMux
}

func (g *generator) calls() (*calls, error) {
	c := &calls{g: g}
	var err error
	if c.up, _, err = c.connection(); err != nil {
		return nil, err
	}
	var on *port
	if c.down, on, err = c.connection(); err != nil {
		return nil, err
	}
	c.down.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { g.listen(track, on) })
	return c, nil
}

func (c *calls) connection() (*webrtc.PeerConnection, *port, error) {
	on, err := newPort(listen(c.g.t))
	if err != nil {
		return nil, nil, err
	}
	mux := muxOf(on)
	c.muxes = append(c.muxes, mux)
	pc, err := peerAPI(c.g.t, mux).NewPeerConnection(webrtc.Configuration{})
	return pc, on, err
}

// answerTo answers an offer of the connection down.
func (c *calls) answerTo(sdp string) (string, error) {
	if err := c.down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return "", err
	}
	answer, err := c.down.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return answer.SDP, c.down.SetLocalDescription(answer)
}

// offerOf adds a track to the connection up.
func (c *calls) offerOf(track *webrtc.TrackLocalStaticRTP, asked func()) (sdp, mid string, err error) {
	transceiver, err := c.up.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		return "", "", err
	}
	c.g.going.Go(func() { drain(transceiver.Sender(), asked) })
	offer, err := c.up.CreateOffer(nil)
	if err != nil {
		return "", "", err
	}
	return offer.SDP, transceiver.Mid(), c.up.SetLocalDescription(offer)
}

func (c *calls) answered(sdp string) error {
	return c.up.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp})
}

func (c *calls) close() {
	_ = c.up.GracefulClose()   // the end
	_ = c.down.GracefulClose() // as well
	for _, mux := range c.muxes {
		_ = mux.Close() // as well
	}
}
