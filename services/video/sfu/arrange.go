package sfu

import (
	"cmp"
	"slices"
	"time"

	"secureconnect/services/internal/wire"
)

// scene is what is being sent in a room, looked at once for all who get it.
type scene struct {
	sounds []sound // the most important first
	views  []view
}

type sound struct {
	track *track
	level int // silence where nobody speaks
	spoke time.Time
}

type view struct {
	track *track
	rates []float64
	alive []bool
	there []bool // alive, or at rest because nobody wanted it
}

// unanswered is how long a layer may take to come, once it is wanted, until it is taken for one that its sender cannot send.
const unanswered = 3 * time.Second

func (r *Room) sceneLocked(now time.Time) scene {
	var s scene
	for _, p := range r.members {
		for _, t := range p.tracks {
			switch {
			case t.muted.Load():
			case t.kind == audio:
				s.sounds = append(s.sounds, sound{t, t.loudness.level(now), t.loudness.lastSpoke()})
			default:
				s.views = append(s.views, viewOf(t, now))
			}
		}
	}
	slices.SortStableFunc(s.sounds, func(a, b sound) int {
		return cmp.Or(cmp.Compare(a.level, b.level), b.spoke.Compare(a.spoke))
	})
	return s
}

func viewOf(t *track, now time.Time) view {
	v := view{track: t}
	for rank, l := range t.layers {
		alive, rate := l.alive(now)
		rests := !slices.Contains(t.active, l.rid) || now.Sub(t.toldAt[rank]) < unanswered
		v.rates, v.alive, v.there = append(v.rates, rate), append(v.alive, alive), append(v.there, alive || rests)
	}
	return v
}

// arrange gives everybody the slots and layers they are to have. Who gets something is told so before it flows.
func (r *Room) arrange(now time.Time) {
	r.mu.Lock()
	scene, members := r.sceneLocked(now), r.members
	var news []func()
	for _, p := range members {
		slots := *p.down.slots.Load()
		p.hearLocked(slots, scene.sounds)
		p.watchLocked(slots, scene.views)
		news = append(news, p.newsLocked(slots, r.speaking)...)
	}
	r.mu.Unlock()
	for _, tell := range news {
		tell()
	}
	r.mu.Lock()
	news = nil
	for _, p := range members {
		if !p.leaving {
			p.startLocked(now)
		}
	}
	for _, p := range members {
		news = append(news, p.activeLocked(now)...)
	}
	r.mu.Unlock()
	for _, tell := range news {
		tell()
	}
}

// hearLocked fills the audio slots. They stay with whom they carry until all are taken; then those who speak take them over from those
// who do not, or who are much quieter.
func (p *Participant) hearLocked(slots []*slot, sounds []sound) {
	var free, taken []*slot
	for _, s := range slots {
		if !s.usable() || s.kind != audio {
			continue
		}
		if s.track == nil {
			free = append(free, s)
		} else {
			taken = append(taken, s)
		}
	}
	for _, sound := range sounds {
		if sound.track.owner == p && !p.room.echo || slices.ContainsFunc(taken, func(s *slot) bool { return s.track == sound.track }) {
			continue
		}
		if len(free) == 0 {
			if sound.level == silence {
				return // as are all that follow
			}
			least := leastImportant(taken, sounds, sound)
			if least == nil {
				return
			}
			taken = slices.DeleteFunc(taken, func(s *slot) bool { return s == least })
			free = append(free, least)
		}
		free[0].carryLocked(sound.track)
		taken, free = append(taken, free[0]), free[1:]
	}
}

// leastImportant is the slot that somebody who speaks may take over: of somebody muted, of who has been still the longest, or of the
// quietest.
func leastImportant(taken []*slot, sounds []sound, newcomer sound) *slot {
	var least *slot
	at := -1
	for _, s := range taken {
		place := slices.IndexFunc(sounds, func(other sound) bool { return other.track == s.track })
		if place < 0 {
			return s // muted
		}
		if other := sounds[place]; place > at && other.level >= newcomer.level+overtake {
			least, at = s, place
		}
	}
	return least
}

// wish is a video track that somebody is to get.
type wish struct {
	view   view
	most   int // the largest layer
	weight int
	slot   *slot
}

// watchLocked fills the video slots with what is wanted, and has more made if they do not suffice.
func (p *Participant) watchLocked(slots []*slot, views []view) {
	p.wishes = p.wishesLocked(views)
	var free []*slot
	for _, s := range slots {
		if !s.usable() || s.kind != video {
			continue
		}
		at := slices.IndexFunc(p.wishes, func(w wish) bool { return w.view.track == s.track })
		if at >= 0 {
			p.wishes[at].slot = s
			continue
		}
		s.carryLocked(nil)
		free = append(free, s)
	}
	for i := range p.wishes {
		if p.wishes[i].slot != nil {
			continue
		}
		if len(free) == 0 {
			p.growLocked(len(p.wishes))
			return
		}
		p.wishes[i].slot, free = free[0], free[1:]
		p.wishes[i].slot.carryLocked(p.wishes[i].view.track)
	}
}

func (p *Participant) wishesLocked(views []view) []wish {
	var wishes []wish
	for _, v := range views {
		if v.track.owner == p && !p.room.echo {
			continue
		}
		want := wire.WantMedium
		if p.want != nil {
			want = p.want[v.track.id]
		}
		if most := v.track.rank(want); most >= 0 {
			wishes = append(wishes, wish{view: v, most: most, weight: weightOf(want, v.track.source)})
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(b.weight, a.weight) })
	return wishes[:min(len(wishes), p.videoSlots)]
}

// weightOf puts what is wanted large before what is wanted small, and a screen before faces.
func weightOf(want, source string) int {
	weight := 0
	switch want {
	case wire.WantMedium:
		weight = 2
	case wire.WantHigh:
		weight = 4
	}
	if source == wire.SourceScreen {
		weight++
	}
	return weight
}

func (p *Participant) growLocked(wanted int) {
	slots := min((wanted+slotStep-1)/slotStep*slotStep, p.videoSlots)
	if slots <= p.grown {
		return
	}
	p.grown = slots
	p.background(func() {
		if err := p.down.grow(slots); err != nil {
			p.complain("add slots", err)
		}
	})
}

// newsLocked is what the participant has to be told: slots that carry something else, or everything, for a new socket.
func (p *Participant) newsLocked(slots []*slot, speaking []wire.Speaker) (news []func()) {
	again := p.again
	p.again = false
	var changed []wire.Slot
	for _, s := range slots {
		if !s.usable() {
			continue
		}
		mid := s.mid
		carries := wire.TrackID("")
		if s.track != nil {
			carries = s.track.id
		}
		if again || p.told[mid] != carries {
			changed = append(changed, wire.Slot{MID: mid, TrackID: carries})
		}
		p.told[mid] = carries
	}
	if len(changed) > 0 {
		news = append(news, func() { p.tell(func(h Hooks) { h.slots(changed) }) })
	}
	if !again {
		return news
	}
	up, down := p.verdict.up.now, p.verdict.down.now
	var active []func(Hooks)
	for _, t := range p.tracks {
		if mid, rids := t.mid, slices.Clone(t.active); len(rids) > 0 {
			active = append(active, func(h Hooks) { h.layers(mid, rids) })
		}
	}
	return append(news, func() {
		p.tell(func(h Hooks) {
			h.speakers(speaking)
			if up != "" {
				h.quality(up, down)
			}
			for _, tell := range active {
				tell(h)
			}
		})
	})
}

// startLocked lets the slots' tracks flow, each in the layer that the connection bears.
func (p *Participant) startLocked(now time.Time) {
	for _, s := range *p.down.slots.Load() {
		if s.track != nil && s.kind == audio {
			s.startLocked(s.track.layers[0], true)
		}
	}
	var demands []demand
	var wishes []wish
	for _, w := range p.wishes {
		if w.slot == nil || w.slot.track != w.view.track {
			continue
		}
		d := demand{most: w.most, now: -1, rates: w.view.rates, alive: w.view.alive}
		for d.most > 0 && !w.view.there[d.most] {
			d.most--
		}
		if source, _ := w.slot.passing(); source != nil {
			d.now = source.rank
		}
		demands, wishes = append(demands, d), append(wishes, w)
	}
	layers, next := allocate(p.down.band.believed(now), demands)
	if next > 0 && p.down.transport.ready() && p.down.band.want(next*1.05, now) {
		p.room.wakeUp()
	}
	broken := p.down.band.broken(now)
	for i, w := range wishes {
		if layers[i] < 0 {
			w.slot.startLocked(nil, true)
			continue
		}
		t := w.view.track
		for rank := layers[i]; rank <= w.most && (rank == layers[i] || !w.view.there[rank]); rank++ {
			t.wantedAt[rank] = now
		}
		sent := demands[i].sent(layers[i])
		w.slot.startLocked(t.layers[sent], broken && sent < demands[i].now)
		if l := w.slot.waits(); l != nil && p.down.transport.ready() {
			l.wantKey(now)
		}
	}
}

// activeLocked tells a sender which layers anybody wants. The smallest never rests: who comes next sees it at once.
func (p *Participant) activeLocked(now time.Time) (news []func()) {
	for _, t := range p.tracks {
		if len(t.layers) == 1 {
			continue
		}
		var active []string
		for rank, l := range t.layers {
			if rank > 0 && now.Sub(t.wantedAt[rank]) >= restAfter {
				continue
			}
			if !slices.Contains(t.active, l.rid) {
				t.toldAt[rank] = now
			}
			active = append(active, l.rid)
		}
		if slices.Equal(active, t.active) {
			continue
		}
		t.active = active
		mid := t.mid
		news = append(news, func() { p.tell(func(h Hooks) { h.layers(mid, active) }) })
	}
	return news
}

// attend does what is to be done from time to time. It says whether it is time to look at who gets what, too.
func (r *Room) attend(now time.Time) (look bool) {
	r.mu.Lock()
	r.beats++
	members, beats := r.members, r.beats
	var news []func()
	if now.Sub(r.spokenAt) >= speakersTold {
		if speaking := speakers(members, now); !sameSpeakers(speaking, r.speaking) {
			r.speaking, r.spokenAt = speaking, now
			for _, p := range members {
				news = append(news, func() { p.tell(func(h Hooks) { h.speakers(speaking) }) })
			}
		}
	}
	for _, p := range members {
		if (beats+p.number)%int(healthEvery/beat) == 0 {
			news = append(news, p.checkLocked()...)
		}
		for _, t := range p.tracks {
			for _, l := range t.layers {
				l.askAgain(now, p.patience())
			}
		}
	}
	r.mu.Unlock()
	for _, tell := range news {
		tell()
	}
	for _, p := range members {
		reports := (beats+p.number)%reportBeats == 0
		p.down.transport.look(now)
		if u := p.up.Load(); u != nil {
			u.transport.look(now)
			u.report(now, reports)
		}
		if reports {
			p.down.report(now)
		}
	}
	return beats%arrangeBeats == 0
}

// checkLocked judges the participant's connections.
func (p *Participant) checkLocked() (news []func()) {
	expected, got := uint64(0), uint64(0)
	uneven := time.Duration(0)
	for _, t := range p.tracks {
		for _, l := range t.layers {
			l.mu.Lock()
			e, g, jitter := l.arrivals.quality()
			l.mu.Unlock()
			expected, got = expected+e, got+g
			if e > 0 && t.kind == audio { // that of video is its frames'
				uneven = max(uneven, jitter)
			}
		}
	}
	lost := 0.0
	if expected > got {
		lost = float64(expected-got) / float64(expected)
	}
	up := qualityOf(p.up.Load().state(), lost, 0, uneven)
	lost, trip, jitter := p.health.take()
	down := qualityOf(p.down.transport.state.Load(), lost, trip, jitter)
	changedUp, changedDown := p.verdict.up.turn(up), p.verdict.down.turn(down)
	if !changedUp && !changedDown {
		return nil
	}
	up, down = p.verdict.up.now, p.verdict.down.now
	return []func(){func() { p.tell(func(h Hooks) { h.quality(up, down) }) }}
}
