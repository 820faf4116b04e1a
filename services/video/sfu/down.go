package sfu

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
)

const (
	audioSlots = 8
	slotStep   = 4 // video slots are made so many at a time
)

// down is a participant's connection down: slots, made in advance. It is offered again only to add some, or for an ICE restart.
type down struct {
	participant *Participant
	transport   *transport
	band        *band
	slots       atomic.Pointer[[]*slot] // replaced, never changed

	mu       sync.Mutex // of the negotiation
	session  uint64
	version  int
	waiting  string // the offer that has not been answered
	answered bool   // one has
	again    bool   // another is needed once that one is
	wanted   int    // slots of video

	ssrcs map[uint32]*slot // the taking goroutine's; of slots that are there
}

func (p *Participant) newDown() (*down, error) {
	d := &down{participant: p, band: newBand(p.room.sfu.now()), session: uint64(randomSSRC()), ssrcs: map[uint32]*slot{}}
	d.slots.Store(&[]*slot{})
	var err error
	d.transport, err = p.room.sfu.newTransport(d)
	return d, err
}

// grow offers the connection with so many slots for video, and those for audio.
func (d *down) grow(video int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = max(d.wanted, video)
	if d.waiting != "" {
		d.again = true
		return nil
	}
	return d.offerLocked()
}

// restartICE offers the connection anew, on new ways. One that was never answered is only said again. It does not wait for an answer
// that is due: that may have been lost with the client's socket.
func (d *down) restartICE() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.answered {
		d.tellLocked()
		return nil
	}
	d.transport.renew()
	return d.offerLocked()
}

func (d *down) offerLocked() error {
	d.addSlotsLocked()
	our, err := d.transport.side("actpass")
	if err != nil {
		return err
	}
	d.version++
	d.waiting, d.again = offerOf(*d.slots.Load(), our, d.session, uint64(d.version)), false //nolint:gosec // counts from one
	d.tellLocked()
	return nil
}

// addSlotsLocked makes the slots that are wanted.
func (d *down) addSlotsLocked() {
	slots := append([]*slot{}, *d.slots.Load()...)
	for len(slots) < audioSlots {
		slots = append(slots, newSlot(d, audio, strconv.Itoa(len(slots))))
	}
	for len(slots) < audioSlots+d.wanted {
		slots = append(slots, newSlot(d, video, strconv.Itoa(len(slots))))
	}
	d.slots.Store(&slots)
}

// tellLocked says the offer that waits for an answer.
func (d *down) tellLocked() {
	if d.waiting != "" {
		d.participant.tell(func(h Hooks) { h.offer(d.version, d.waiting) })
	}
}

func (d *down) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tellLocked()
}

// answer takes the answer to an offer, if it is the newest's.
func (d *down) answer(version int, text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if version != d.version || d.waiting == "" {
		return nil
	}
	slots := *d.slots.Load()
	a, err := parseAnswer(text, slots)
	if err != nil {
		return err
	}
	d.waiting, d.answered = "", true
	for i, s := range slots {
		s.bind(a.accepted[i])
	}
	d.transport.begin(a.peerKey)
	if d.again {
		return d.offerLocked()
	}
	return nil
}

// report sends the sender reports of the slots that carry something.
func (d *down) report(now time.Time) {
	var packets []rtcp.Packet
	for _, s := range *d.slots.Load() {
		if r := s.report(now); r != nil {
			packets = append(packets, r)
		}
	}
	if len(packets) > 0 {
		d.transport.say(packets...)
	}
}

// connected begins to forward, as packets get through from now on. Pictures that went on meanwhile need a key frame.
func (d *down) connected() {
	now := d.participant.room.sfu.now()
	for _, s := range *d.slots.Load() {
		if source, _ := s.passing(); source != nil && s.kind == video {
			source.wantKey(now)
		}
	}
	d.participant.room.wakeUp()
}

// takeRTP: nobody sends media on a connection down.
func (d *down) takeRTP([]byte, time.Time) {}

// takeRTCP takes a compound of the receiver's.
func (d *down) takeRTCP(b []byte, now time.Time) {
	d.participant.heardAt.Store(now.UnixNano())
	parseControls(b, downControl{d, now})
}

// downControl takes what a receiver says by RTCP.
type downControl struct {
	down *down
	now  time.Time
}

func (c downControl) slot(ssrc uint32) *slot {
	if s := c.down.ssrcs[ssrc]; s != nil {
		return s
	}
	for _, s := range *c.down.slots.Load() {
		if s.ssrc == ssrc {
			c.down.ssrcs[ssrc] = s
			return s
		}
	}
	return nil
}

func (c downControl) reception(ssrc uint32, r reception) {
	if s := c.slot(ssrc); s != nil {
		c.down.participant.health.heard(r, s.kind.clock(), c.now)
	}
}

func (c downControl) nack(ssrc uint32, sequence uint16) {
	if s := c.slot(ssrc); s != nil {
		s.again(sequence, c.now, c.down.participant.patience())
	}
}

func (c downControl) keyFrameWanted(ssrc uint32) {
	if s := c.slot(ssrc); s != nil {
		s.keyFrame(c.now)
	}
}

func (c downControl) feedback(b []byte) {
	if c.down.band.heard(b, c.now) {
		c.down.participant.room.wakeUp()
	}
}

// A receiver of ours sends nothing else.
func (downControl) senderReport(uint32, uint64, uint32) {}
