package calls

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// seat is one joining: a participant with connections and keys of its own. All but its labels is the loop's.
type seat struct {
	call   *Call
	id     wire.ParticipantID
	secret string
	ring   *ring
	stop   context.CancelFunc

	roster  map[wire.ParticipantID]wire.Participant // this one too
	slots   map[string]wire.TrackID                 // by media section
	up      *connection
	down    *connection
	version int // of the newest description of the connection down
	outlets []*outlet
	senders map[string]*webrtc.RTPTransceiver // by source

	lingering *client.Socket // nil but where the call has moved from here

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	labels  map[string]*atomic.Pointer[slotLabel]
}

// newSeat sits down as joined says.
func (c *Call) newSeat(ctx context.Context, joined wire.JoinedFrame) (*seat, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &seat{
		call: c, id: joined.ParticipantID, secret: joined.Secret, stop: stop,
		roster: map[wire.ParticipantID]wire.Participant{}, slots: map[string]wire.TrackID{},
		senders: map[string]*webrtc.RTPTransceiver{}, labels: map[string]*atomic.Pointer[slotLabel]{},
	}
	s.ring = newRing(func(key frames.Key) {
		if joined.Call.Test { // what is sent comes back
			c.hearing.heard.add(time.Now(), Voice{s.id, c.options.Self}, key)
		}
	})
	for _, participant := range joined.Participants {
		s.roster[participant.ID] = participant
	}
	s.ring.begin(s.peers())
	var err error
	changed := func() { c.acts.put(func() { c.check(time.Now()) }) }
	if s.down, err = c.newConnection(ctx, false, changed); err != nil {
		s.close()
		return nil, err
	}
	s.down.pc.OnTrack(s.listen)
	if len(c.sent) == 0 {
		return s, nil
	}
	if s.up, err = c.newConnection(ctx, true, changed); err == nil {
		err = s.publish()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// start runs what ends with the connections; after close it does nothing.
func (s *seat) start(run func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(run)
	}
}

// close gives the seat up and waits for all that ran for it.
func (s *seat) close() {
	s.stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, o := range s.outlets {
		o.player.unplug(o)
	}
	for _, c := range []*connection{s.up, s.down} {
		if c != nil {
			_ = c.pc.GracefulClose() // there is nobody to tell
		}
	}
	if s.lingering != nil {
		_ = s.lingering.Close() // as above
	}
	s.running.Wait()
}

// publish prepares the connection up for all tracks.
func (s *seat) publish() error {
	for _, track := range s.call.sent {
		var transceiver *webrtc.RTPTransceiver
		for _, p := range track.players {
			o, err := newOutlet(p, s.ring.sender)
			if err != nil {
				return err
			}
			if transceiver == nil {
				transceiver, err = s.up.pc.AddTransceiverFromTrack(o.local, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
			} else {
				err = transceiver.Sender().AddEncoding(o.local)
			}
			if err != nil {
				return fmt.Errorf("add track: %w", err)
			}
			s.outlets = append(s.outlets, o)
			p.plug(o)
			s.start(func() { o.listen(transceiver.Sender()) })
		}
		s.senders[track.source] = transceiver
	}
	return s.up.describe(false)
}

// offeredTracks says what the media sections of the connection up are.
func (s *seat) offeredTracks() []wire.OfferedTrack {
	tracks := make([]wire.OfferedTrack, len(s.call.sent))
	for i, track := range s.call.sent {
		tracks[i] = wire.OfferedTrack{MID: s.senders[track.source].Mid(), Source: track.source, Muted: track.muted.Load()}
	}
	return tracks
}

// answered takes the answer for the connection up.
func (s *seat) answered(text string) error {
	if err := s.up.answered(text); err != nil {
		return err
	}
	for _, o := range s.outlets {
		transceiver := s.senders[o.player.track.source]
		o.negotiated(transceiver.Mid(), transceiver.Sender().GetParameters())
	}
	return nil
}

// listen reads a track of the connection down until that closes.
func (s *seat) listen(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	for _, transceiver := range s.down.pc.GetTransceivers() {
		if transceiver.Receiver() == receiver {
			slot := newSlot(&s.call.hearing, s.down.pc, track, s.label(transceiver.Mid()))
			s.start(slot.read)
			return
		}
	}
}

// label is what is said of a slot.
func (s *seat) label(mid string) *atomic.Pointer[slotLabel] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.labels[mid] == nil {
		s.labels[mid] = &atomic.Pointer[slotLabel]{}
	}
	return s.labels[mid]
}

// relabel says of all slots what they carry now.
func (s *seat) relabel() {
	said := map[wire.TrackID]*slotLabel{}
	for _, participant := range s.roster {
		for _, track := range participant.Tracks {
			said[track.ID] = &slotLabel{voiceOf(participant), track.Source}
		}
	}
	for mid, track := range s.slots {
		s.label(mid).Store(said[track])
	}
}

func voiceOf(p wire.Participant) Voice { return Voice{p.ID, peerOf(p)} }

func peerOf(p wire.Participant) e2ee.Peer { return e2ee.Peer{User: p.UserID, Device: p.DeviceID} }

// others are those in the call beside this device, the first to come first.
func (s *seat) others() []wire.Participant {
	var others []wire.Participant
	for _, id := range slices.Sorted(maps.Keys(s.roster)) {
		if id != s.id {
			others = append(others, s.roster[id])
		}
	}
	slices.SortStableFunc(others, func(a, b wire.Participant) int { return a.JoinedAt.Compare(b.JoinedAt) })
	return others
}

func (s *seat) peers() []e2ee.Peer {
	var peers []e2ee.Peer
	for _, other := range s.others() {
		peers = append(peers, peerOf(other))
	}
	return peers
}

// comes takes a participant who is new, or has changed.
func (s *seat) comes(now time.Time, participant wire.Participant) {
	_, known := s.roster[participant.ID]
	s.roster[participant.ID] = participant
	if !known && participant.ID != s.id {
		s.ring.came(now, peerOf(participant))
	}
	s.relabel()
}

// goes takes leave of a participant.
func (s *seat) goes(now time.Time, id wire.ParticipantID) {
	participant, known := s.roster[id]
	if !known || id == s.id {
		return
	}
	delete(s.roster, id)
	gone := voiceOf(participant)
	s.call.hearing.heard.forget(func(v Voice) bool { return v == gone })
	if slices.Contains(s.peers(), gone.Peer) {
		s.ring.rotate(now) // it joined anew before it was gone
	} else {
		s.ring.left(now, gone.Peer)
	}
	s.relabel()
}

// meets takes who is there now, after a time without a socket.
func (s *seat) meets(now time.Time, participants []wire.Participant) {
	there := map[wire.ParticipantID]bool{}
	for _, participant := range participants {
		there[participant.ID] = true
	}
	for _, other := range s.others() {
		if !there[other.ID] {
			s.goes(now, other.ID)
		}
	}
	for _, participant := range participants {
		s.comes(now, participant)
	}
}

// works reports whether media can pass both ways.
func (s *seat) works() bool { return s.down.works() && (s.up == nil || s.up.works()) }

// connections are those there are.
func (s *seat) connections() []*connection {
	if s.up == nil {
		return []*connection{s.down}
	}
	return []*connection{s.up, s.down}
}
