package sfu

import (
	"slices"
	"sync"
	"time"

	"secureconnect/services/internal/wire"
)

const (
	beat         = 100 * time.Millisecond
	arrangeBeats = 3  // so many beats between looks at what layers take and who speaks
	reportBeats  = 10 // and between reports
	mostMembers  = 512
	mostSlots    = 24
)

// Room is a call. One goroutine of its own decides who gets what: it wakes when something has changed, and ten times a second. Packets
// do not pass through it.
type Room struct {
	sfu   *SFU
	echo  bool
	wake  chan struct{}
	done  chan struct{} // it is to end
	ended chan struct{} // its goroutine has
	gone  chan struct{} // everything has

	mu       sync.Mutex
	closed   bool
	members  []*Participant // in the order of joining
	joined   int
	speaking []wire.Speaker
	spokenAt time.Time
	beats    int
}

// Room makes a room. In one with echo participants also get what they send themselves.
func (s *SFU) Room(echo bool) *Room {
	r := &Room{sfu: s, echo: echo, wake: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		r.closed = true
		close(r.gone)
		return r
	}
	s.rooms[r] = struct{}{}
	s.metrics.rooms.Inc()
	go r.run()
	return r
}

// Join adds a participant, who gets video in at most so many slots. The first offer of the connection down follows by the hook.
func (r *Room) Join(id wire.ParticipantID, videoSlots int, hooks Hooks) (*Participant, error) {
	p := &Participant{
		room: r, id: id, hooks: hooks, videoSlots: min(max(videoSlots, 0), mostSlots), closed: make(chan struct{}), ended: make(chan struct{}),
		told: map[string]wire.TrackID{},
	}
	p.heardAt.Store(r.sfu.now().UnixNano())
	var err error
	if p.down, err = p.newDown(); err != nil {
		return nil, err
	}
	if err := r.add(p); err != nil {
		p.down.transport.close()
		return nil, err
	}
	r.sfu.metrics.participants.Inc()
	p.background(func() {
		if err := p.down.grow(min(slotStep, p.videoSlots)); err != nil {
			p.complain("offer the connection down", err)
		}
	})
	return p, nil
}

func (r *Room) add(p *Participant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrClosed
	case len(r.members) >= mostMembers:
		return ErrFull
	case slices.ContainsFunc(r.members, func(other *Participant) bool { return other.id == p.id }):
		return ErrTwice
	}
	r.joined++
	p.number = r.joined
	r.members = append(slices.Clone(r.members), p)
	return nil
}

// remove says whether the participant was there. Their tracks, and what they got, are gone with them.
func (r *Room) remove(p *Participant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.leaving {
		return false
	}
	p.leaving = true
	r.members = slices.DeleteFunc(slices.Clone(r.members), func(other *Participant) bool { return other == p })
	for _, t := range p.tracks {
		r.withdrawLocked(t)
	}
	p.tracks = nil
	for _, s := range *p.down.slots.Load() {
		s.carryLocked(nil)
	}
	r.wakeUp()
	return true
}

// withdrawLocked takes a track from everybody who gets it.
func (r *Room) withdrawLocked(t *track) {
	for _, p := range r.members {
		for _, s := range *p.down.slots.Load() {
			if s.track == t {
				s.carryLocked(nil)
			}
		}
	}
}

// Close ends the calls of all who are in it.
func (r *Room) Close() {
	r.mu.Lock()
	members, closed := r.members, r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		<-r.gone
		return
	}
	close(r.done)
	<-r.ended
	var leaving sync.WaitGroup
	for _, p := range members {
		leaving.Go(p.Close)
	}
	leaving.Wait()
	r.sfu.forget(r)
	close(r.gone)
}

func (r *Room) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Room) run() {
	defer close(r.ended)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-r.wake:
			r.arrange(r.sfu.now())
		case <-ticker.C:
			now := r.sfu.now()
			if r.attend(now) {
				r.arrange(now)
			}
		}
	}
}

// carry replaces a participant's tracks by those of an offer. One that was there before stays what it was.
func (r *Room) carry(p *Participant, o *offer, sources []Source) []*track {
	r.mu.Lock()
	defer r.mu.Unlock()
	tracks := make([]*track, len(o.sections))
	for i, s := range o.sections {
		at := slices.IndexFunc(p.tracks, func(t *track) bool { return t.mid == s.mid && t.source == sources[i].Source && t.like(s) })
		if at < 0 {
			tracks[i] = newTrack(p, s, sources[i])
			continue
		}
		tracks[i] = p.tracks[at]
		tracks[i].muted.Store(sources[i].Muted)
	}
	for _, t := range p.tracks {
		if !slices.Contains(tracks, t) {
			r.withdrawLocked(t)
		}
	}
	p.tracks = tracks
	if p.leaving {
		p.tracks = nil
	}
	r.wakeUp()
	return tracks
}
