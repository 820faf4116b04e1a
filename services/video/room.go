package video

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
	"secureconnect/services/video/sfu"
)

// room is a call that lives on this host: who is in it, and their media.
type room struct {
	live         *Live
	id           wire.CallID
	conversation wire.ConversationID
	test         bool
	fence        int64
	media        *sfu.Room

	mu         sync.Mutex
	people     map[wire.UserID]*participant    // a user is in a call once
	members    map[wire.UserID]wire.CallMember // as SQL said last; nil before
	over       bool                            // ended here: moved, or at its end
	emptySince time.Time                       // zero while somebody is there
}

// participant is one joining of one device. What it has of the room is guarded by the room's lock; its socket by a lock of its own, since
// the SFU speaks to it while the room is busy.
type participant struct {
	room     *room
	id       wire.ParticipantID
	who      wire.Session
	secret   string // with it another socket goes on where this one ended
	joinedAt time.Time
	media    *sfu.Participant

	tracks    []wire.Track
	awaySince time.Time // zero while it has a socket
	iceUntil  time.Time // when its credentials end
	quality   string    // as the others were told
	told      map[wire.ParticipantID]string

	mu       sync.Mutex
	socket   *socket // nil while it is away
	up, down string  // quality, as the SFU says
}

// tell says something on the participant's socket, or to nobody.
func (p *participant) tell(frame any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.socket != nil {
		p.socket.tell(frame)
	}
}

// hooks pass on what the SFU says.
func (p *participant) hooks() sfu.Hooks {
	return sfu.Hooks{
		Offer: func(version int, sdp string) {
			p.tell(wire.DescriptionFrame{Type: wire.FrameOffer, Version: version, SDP: sdp})
		},
		Slots: func(slots []wire.Slot) { p.tell(wire.SlotsFrame{Type: wire.FrameSlots, Slots: slots}) },
		Layers: func(mid string, active []string) {
			p.tell(wire.LayersFrame{Type: wire.FrameLayers, MID: mid, Active: active})
		},
		Speakers: func(speakers []wire.Speaker) {
			p.tell(wire.SpeakersFrame{Type: wire.FrameSpeakers, Speakers: speakers})
		},
		Quality: func(up, down string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.up, p.down = up, down
		},
	}
}

// viewLocked is what others know of the participant.
func (p *participant) viewLocked() wire.Participant {
	return wire.Participant{
		ID: p.id, UserID: p.who.UserID, DeviceID: p.who.DeviceID, JoinedAt: p.joinedAt.UTC(), Here: p.awaySince.IsZero(), Tracks: slices.Clone(p.tracks),
	}
}

// broadcastLocked tells everybody but one. Sockets only queue: nobody is waited for.
func (r *room) broadcastLocked(frame any, but *participant) {
	encoded := frameOf(frame)
	for _, p := range r.people {
		if p == but {
			continue
		}
		p.mu.Lock()
		if p.socket != nil {
			_ = p.socket.conn.Send(encoded) // one that is closing says so by itself
		}
		p.mu.Unlock()
	}
}

// join lets a socket's user in, in the place of who was there of the same user.
func (r *room) join(k *socket, frame wire.CallFrame, call stored) (*participant, error) {
	const op = "video.join"
	who := k.whose()
	p := &participant{room: r, id: wire.ParticipantID(rand.Text()), who: who, secret: rand.Text(), joinedAt: time.Now()}
	slots := frame.VideoSlots
	if slots == 0 {
		slots = usualSlots
	}
	if err := r.place(op, who.UserID); err != nil {
		return nil, err
	}
	var err error
	if p.media, err = r.media.Join(p.id, slots, p.hooks()); err != nil {
		return nil, apperr.OrUnavailable(op, err)
	}
	before, ok := r.admit(p, k, frame, call)
	if !ok {
		p.media.Close()
		return nil, errMoved
	}
	if before != nil {
		before.dismiss(wsconn.Replaced)
	}
	p.media.Refresh()
	return p, nil
}

// place fails with Conflict where there is none.
func (r *room) place(op string, user wire.UserID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.people[user] == nil && len(r.people) >= maxParticipants {
		return apperr.E(op, apperr.Conflict, "This call has as many participants as are possible.", nil, apperr.Code("call_full"))
	}
	return nil
}

// admit puts a participant in the place of the one its user was before; it says joined first, so that whatever follows comes after it.
func (r *room) admit(p *participant, k *socket, frame wire.CallFrame, call stored) (before *participant, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, false
	}
	before = r.people[p.who.UserID]
	r.people[p.who.UserID] = p
	r.emptySince = time.Time{}
	if before != nil {
		r.broadcastLocked(wire.GoneFrame{Type: wire.FrameGone, ParticipantID: before.id}, p)
	}
	r.welcomeLocked(p, k, frame, call, false)
	r.tellLocked(p)
	return before, true
}

// resumed gives nil where the socket does not go on where another one ended; elsewhere, because its user is there from another device.
func (r *room) resumed(k *socket, who wire.Session, frame wire.CallFrame, call stored) (p *participant, elsewhere bool) {
	if frame.Resume == nil || k.faults.strikes(faultForget) {
		return nil, false
	}
	r.mu.Lock()
	p = r.people[who.UserID]
	if r.over || p == nil || p.id != frame.Resume.ParticipantID || p.who.SessionID != who.SessionID || !sameSecret(p.secret, frame.Resume.Secret) {
		elsewhere = !r.over && p != nil && p.who.SessionID != who.SessionID
		r.mu.Unlock()
		return nil, elsewhere
	}
	p.who = who
	wasAway := !p.awaySince.IsZero()
	r.welcomeLocked(p, k, frame, call, true)
	if wasAway {
		r.tellLocked(p)
	}
	r.mu.Unlock()
	p.media.Refresh()
	return p, false
}

// welcomeLocked gives a participant its socket, with joined as the first word on it.
func (r *room) welcomeLocked(p *participant, k *socket, frame wire.CallFrame, call stored, resumed bool) {
	ice := r.live.turn.ice(turnName(r.id, p.who.SessionID), time.Now())
	p.iceUntil, p.awaySince, p.told = ice.ExpiresAt, time.Time{}, nil
	everybody := make([]wire.Participant, 0, len(r.people))
	for _, each := range r.people {
		everybody = append(everybody, each.viewLocked())
	}
	slices.SortFunc(everybody, func(a, b wire.Participant) int { return a.JoinedAt.Compare(b.JoinedAt) })
	p.mu.Lock()
	before := p.socket
	p.socket = k
	k.tell(wire.JoinedFrame{
		Type: wire.FrameJoined, ID: frame.ID, Call: call.Call, ParticipantID: p.id, Secret: p.secret, Resumed: resumed,
		Participants: everybody, ICE: ice, Host: r.live.host, Fence: r.fence,
	})
	p.mu.Unlock()
	if before != nil && before != k {
		before.conn.Close(wsconn.Replaced)
	}
}

// lose notes that a participant's socket is gone; its media may go on.
func (r *room) lose(p *participant, k *socket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.mu.Lock()
	mine := p.socket == k
	if mine {
		p.socket = nil
	}
	p.mu.Unlock()
	if !mine || r.people[p.who.UserID] != p || r.over {
		return
	}
	p.awaySince = time.Now()
	r.tellLocked(p)
}

// remove takes a participant out, and reports false where it is out already.
func (r *room) remove(p *participant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.people[p.who.UserID] != p || r.over {
		return false
	}
	delete(r.people, p.who.UserID)
	if len(r.people) == 0 {
		r.emptySince = time.Now()
	}
	r.broadcastLocked(wire.GoneFrame{Type: wire.FrameGone, ParticipantID: p.id}, p)
	return true
}

// dismiss ends a participant's socket and media. It must be out of its room.
func (p *participant) dismiss(code wsconn.Code) {
	p.mu.Lock()
	k := p.socket
	p.socket = nil
	p.mu.Unlock()
	if k != nil {
		k.conn.Close(code)
	}
	p.media.Close()
}

// leave takes a participant out for good: in SQL as well, where that may be the end of the call. Only then are they told, as they may
// call again at once, which is to be another call.
func (r *room) leave(ctx context.Context, p *participant, code wsconn.Code, reason string) {
	if !r.remove(p) {
		return
	}
	p.media.Close()
	r.left(ctx, p.who.UserID, reason)
	p.dismiss(code)
}

// left tells SQL. Where it cannot be told, the call ends when nobody has been connected to it for long enough.
func (r *room) left(ctx context.Context, user wire.UserID, reason string) {
	const op = "video.leave"
	after, err := r.live.service.move(ctx, op, r.id, user, wire.MemberLeft, reason)
	switch {
	case err != nil:
		r.live.log.Warn("who left is still in the call for SQL", "op", op, "call_id", r.id, "user_id", user, "error", err)
	case after.EndedAt != nil:
		r.end(after.Reason)
	}
}

// close ends the room here, once; it gives who was in it.
func (r *room) close() (people []*participant, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil, false
	}
	r.over = true
	for _, p := range r.people {
		people = append(people, p)
	}
	return people, true
}

// end tells everybody that the call is over.
func (r *room) end(reason string) {
	people, first := r.close()
	if !first {
		return
	}
	for _, p := range people {
		p.tell(wire.EndedFrame{Type: wire.FrameEnded, Reason: reason})
		p.dismiss(wsconn.Over)
	}
	r.live.forget(r)
}

// movedTime is for clients to make connections to another host while these still work.
const movedTime = 5 * time.Second

// move tells everybody that the call goes on elsewhere. Their media go on here until they leave, for a while.
func (r *room) move() {
	people, first := r.close()
	if !first {
		return
	}
	for _, p := range people {
		p.tell(wire.HintFrame{Type: wire.FrameMoved})
	}
	r.live.mu.Lock()
	if r.live.rooms[r.id] == r {
		delete(r.live.rooms, r.id) // the call may come back
	}
	r.live.mu.Unlock()
	r.live.work.Go(func() {
		timer := time.NewTimer(movedTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.deserted(people):
		case <-r.live.stopped:
		}
		for _, p := range people {
			p.dismiss(wsconn.Moved)
		}
		r.media.Close()
	})
}

// deserted is closed when no participant has a socket any more.
func (r *room) deserted(people []*participant) <-chan struct{} {
	gone := make(chan struct{})
	var once sync.Once
	left := len(people)
	var mu sync.Mutex
	for _, p := range people {
		p.mu.Lock()
		k := p.socket
		p.mu.Unlock()
		note := func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				once.Do(func() { close(gone) })
			}
		}
		if k == nil {
			note()
			continue
		}
		k.whenGone(note)
	}
	if len(people) == 0 {
		once.Do(func() { close(gone) })
	}
	return gone
}

// dismiss puts out whom SQL does not know as joined on their device any more: who left over HTTP, or joined another call. Who came after
// SQL was asked is not judged.
func (r *room) dismiss(members map[wire.UserID]wire.CallMember, asked time.Time) {
	r.mu.Lock()
	r.members = members
	gone := map[*participant]wsconn.Code{}
	for user, p := range r.people {
		switch member := members[user]; {
		case !p.joinedAt.Before(asked):
		case member.State != wire.MemberJoined:
			gone[p] = wsconn.Over
		case member.DeviceID != p.who.DeviceID:
			gone[p] = wsconn.Replaced
		}
	}
	r.mu.Unlock()
	for p, code := range gone {
		if r.remove(p) {
			p.dismiss(code)
		}
	}
}

// setTracks notes what a participant sends, and tells the others.
func (r *room) setTracks(p *participant, tracks []wire.Track) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.tracks = tracks
	r.tellLocked(p)
}

// setTrack notes that one of them has changed.
func (r *room) setTrack(p *participant, track wire.Track) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range p.tracks {
		if p.tracks[i].ID == track.ID {
			p.tracks[i] = track
		}
	}
	r.tellLocked(p)
}

func (r *room) tellLocked(p *participant) {
	if r.people[p.who.UserID] == p && !r.over {
		r.broadcastLocked(wire.ParticipantFrame{Type: wire.FrameParticipant, Participant: p.viewLocked()}, p)
	}
}

// checkMembers puts out who is no longer a member of the conversation, or blocked in one of two, and lets in who has become one.
func (r *room) checkMembers(ctx context.Context) {
	r.mu.Lock()
	people := slices.Collect(maps.Values(r.people))
	r.mu.Unlock()
	for _, p := range people {
		callers, err := r.live.service.callers(ctx, r.conversation, p.who.UserID)
		switch {
		case apperr.Is(err, apperr.NotFound), apperr.Is(err, apperr.Forbidden):
			r.leave(ctx, p, wsconn.Removed, wire.EndedLeft)
			continue
		case err != nil:
			return // nobody can say; later, then
		}
		for _, other := range people {
			if !slices.Contains(callers.Members, other.who.UserID) {
				r.leave(ctx, other, wsconn.Removed, wire.EndedLeft)
			}
		}
		r.setMembers(ctx, callers.Members)
		return // one answer tells of all
	}
}

// setMembers tells SQL where the members are not those it knows.
func (r *room) setMembers(ctx context.Context, now []wire.UserID) {
	r.mu.Lock()
	known := r.members
	r.mu.Unlock()
	same := known == nil // later, then
	if !same {
		same = !slices.ContainsFunc(now, func(user wire.UserID) bool { _, there := known[user]; return !there })
		for user, member := range known {
			passing := member.State == wire.MemberIdle || member.State == wire.MemberRinging
			same = same && (!passing || slices.Contains(now, user))
		}
	}
	if same {
		return
	}
	after, changed, err := r.live.service.store.setMembers(ctx, r.id, now)
	switch {
	case err != nil:
		r.live.log.Warn("the members of a call are not those of its conversation, next time then", "op", "video.members", "call_id", r.id, "error", err)
	case changed:
		r.live.service.changed(ctx, after)
	}
}

// keepTime looks after deadlines: who is away too long leaves, credentials are renewed, quality is told, an empty room goes.
func (r *room) keepTime(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var lost []*participant
	for _, p := range r.people {
		if !p.awaySince.IsZero() && now.Sub(p.awaySince) > r.live.limits.KeepAway {
			lost = append(lost, p)
			continue
		}
		if p.awaySince.IsZero() && p.iceUntil.Sub(now) < r.live.turn.Life/3 {
			ice := r.live.turn.ice(turnName(r.id, p.who.SessionID), now)
			p.iceUntil = ice.ExpiresAt
			p.tell(wire.ICEFrame{Type: wire.FrameICE, ICE: ice})
		}
	}
	r.tellQualityLocked()
	empty := len(r.people) == 0 && !r.over && now.Sub(r.emptySince) > r.live.limits.KeepEmpty
	if empty {
		r.over = true
	}
	r.mu.Unlock()
	for _, p := range lost {
		r.live.beside(func() { r.leave(ctx, p, wsconn.Over, wire.EndedLost) })
	}
	if empty {
		r.live.forget(r)
	}
}

// tellQualityLocked tells each participant how the connections work, when that has changed.
func (r *room) tellQualityLocked() {
	now := map[wire.ParticipantID]string{}
	for _, p := range r.people {
		now[p.id] = p.qualityLocked()
	}
	for _, p := range r.people {
		p.mu.Lock()
		up, down := p.up, p.down
		p.mu.Unlock()
		changed := map[wire.ParticipantID]string{}
		for id, quality := range now {
			if id != p.id && p.told[id] != quality {
				changed[id] = quality
			}
		}
		own := up + " " + down
		if len(changed) == 0 && (own == p.quality || up == "") {
			continue
		}
		p.quality = own
		if p.told == nil {
			p.told = map[wire.ParticipantID]string{}
		}
		for id, quality := range changed {
			p.told[id] = quality
		}
		p.tell(wire.QualityFrame{Type: wire.FrameQuality, Up: up, Down: down, Participants: changed})
	}
}

// qualityLocked is how others should think of a participant's connection: as bad as its worse half, lost while it is away.
func (p *participant) qualityLocked() string {
	if !p.awaySince.IsZero() {
		return wire.QualityLost
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	order := []string{"", wire.QualityGood, wire.QualityFair, wire.QualityPoor, wire.QualityLost}
	return order[max(slices.Index(order, p.up), slices.Index(order, p.down), 1)]
}
