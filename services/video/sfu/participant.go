package sfu

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/pion/rtcp"

	"secureconnect/services/internal/wire"
)

// Participant is one joining of one device.
type Participant struct {
	room       *Room
	id         wire.ParticipantID
	hooks      Hooks
	videoSlots int
	number     int           // in the order of joining
	ended      chan struct{} // everything of it is gone

	telling sync.Mutex // one hook at a time
	working sync.WaitGroup
	closing sync.Mutex    // of closed
	closed  chan struct{} // nothing begins any more

	offering sync.Mutex // one offer at a time
	up       atomic.Pointer[up]
	down     *down
	heardAt  atomic.Int64
	wall     wall
	health   health

	// The room's.
	leaving bool
	tracks  []*track
	want    map[wire.TrackID]string // nil until it is said
	wishes  []wish
	grown   int                     // video slots that were asked for
	told    map[string]wire.TrackID // of slots, by mid
	again   bool                    // everything is to be told again
	verdict struct{ up, down verdict }
}

func newTrackID() wire.TrackID { return wire.TrackID(uuid.NewString()) }

func randomSSRC() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint32(b[:])
}

// tell calls hooks, one after the other.
func (p *Participant) tell(hook func(Hooks)) {
	p.telling.Lock()
	defer p.telling.Unlock()
	if !p.gone() {
		hook(p.hooks)
	}
}

// Offer takes the description of the connection up, says which track each of its sections is, and gives the answer. What is wrong with
// it and not with the SFU is ErrDescription.
func (p *Participant) Offer(text string, sources []Source) (answer string, tracks []wire.Track, err error) {
	o, err := parseOffer(text)
	if err != nil {
		return "", nil, err
	}
	matched, err := o.match(sources)
	if err != nil {
		return "", nil, err
	}
	p.offering.Lock()
	defer p.offering.Unlock()
	u, err := p.upFor(o)
	if err != nil {
		return "", nil, err
	}
	carried := p.room.carry(p, o, matched)
	if answer, err = u.answer(o, carried); err != nil {
		return "", nil, err
	}
	for _, t := range carried {
		tracks = append(tracks, t.wire())
	}
	return answer, tracks, nil
}

// upFor gives the connection that an offer is about: a new one, if it has another key than the one there is.
func (p *Participant) upFor(o *offer) (*up, error) {
	if p.gone() {
		return nil, ErrClosed
	}
	if u := p.up.Load(); u != nil {
		if u.peer.fingerprint == o.fingerprint && u.state() != stateClosed {
			return u, nil
		}
		p.dropUp()
	}
	u, err := p.newUp(o)
	if err != nil {
		return nil, err
	}
	p.up.Store(u)
	return u, nil
}

// dropUp ends the connection up, and its tracks.
func (p *Participant) dropUp() {
	if u := p.up.Swap(nil); u != nil {
		u.transport.close()
	}
	p.room.carry(p, &offer{}, nil)
}

// Answer takes the answer to an offer. Those to older ones than the newest are ignored.
func (p *Participant) Answer(version int, text string) error {
	if err := p.down.answer(version, text); err != nil {
		return err
	}
	p.room.wakeUp()
	return nil
}

// RestartDown offers the connection down anew, with an ICE restart.
func (p *Participant) RestartDown() {
	p.background(func() {
		if err := p.down.restartICE(); err != nil {
			p.complain("restart the connection down", err)
		}
	})
}

// background does what takes long. Close waits for it.
func (p *Participant) background(do func()) {
	p.closing.Lock()
	defer p.closing.Unlock()
	if !p.gone() {
		p.working.Go(do)
	}
}

func (p *Participant) gone() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// complain logs what went wrong, if it was not the end that made it go wrong.
func (p *Participant) complain(what string, err error) {
	if !p.gone() && !errors.Is(err, ErrClosed) {
		p.room.sfu.o.Log.Warn("the SFU could not "+what, "participant_id", p.id, "error", err)
	}
}

// Mute says that nothing of a track is to be passed on, or that it is again. Of a mid that is none's it says so.
func (p *Participant) Mute(mid string, on bool) (wire.Track, bool) {
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	for _, t := range p.tracks {
		if t.mid != mid {
			continue
		}
		t.muted.Store(on)
		p.room.wakeUp()
		return t.wire(), true
	}
	return wire.Track{}, false
}

// Want says which video the participant wants and how good, in place of what they wanted before.
func (p *Participant) Want(want map[wire.TrackID]string) {
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	p.want = map[wire.TrackID]string{}
	maps.Copy(p.want, want)
	p.room.wakeUp()
}

// Refresh says again what a new socket must know.
func (p *Participant) Refresh() {
	p.room.mu.Lock()
	p.again = true
	p.room.mu.Unlock()
	p.room.wakeUp()
	p.background(p.down.tell)
}

// LastMedia is when RTP or RTCP last came, on either connection; when the participant joined, if none did.
func (p *Participant) LastMedia() time.Time { return time.Unix(0, p.heardAt.Load()) }

// Close ends both connections, and waits until nothing is left of them.
func (p *Participant) Close() {
	if !p.room.remove(p) {
		<-p.ended
		return
	}
	p.closing.Lock()
	close(p.closed)
	p.closing.Unlock()
	p.offering.Lock() // an offer that is being taken ends first
	p.dropUp()
	p.offering.Unlock()
	p.down.transport.close()
	p.working.Wait()
	p.room.sfu.metrics.participants.Dec()
	close(p.ended)
}

// sayUp sends RTCP to who sends.
func (p *Participant) sayUp(packets ...rtcp.Packet) {
	if u := p.up.Load(); u != nil {
		u.transport.say(packets...)
	}
}

// patience is how long to wait for what was asked for.
func (p *Participant) patience() time.Duration {
	return min(max(p.health.roundTrip()*5/4, leastPatient), mostPatient)
}
