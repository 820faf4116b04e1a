package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// room is what the loop of a call owns.
type room struct {
	socket  *client.Socket // nil while there is none
	drop    context.CancelCauseFunc
	renew   time.Time // when the socket needs a new token
	last    int       // request id
	asksFor int       // sockets so far, of which each may have faults

	seat   *seat
	before *seat // the one before, whose connections live until the new ones do
	leaves time.Time
	anew   bool // the next socket is not to resume

	call    wire.Call
	host    string
	fence   int64
	ice     wire.ICE
	servers []webrtc.ICEServer
	wanted  map[wire.TrackID]string

	members   map[wire.UserID]bool // of the conversation, as far as they are known
	asking    bool                 // for them
	asked     time.Time
	outsiders map[wire.UserID]bool // who were none when they were asked for last
	strange   []strangeKey

	speakers   []wire.Speaker
	quality    wire.QualityFrame
	ended      string
	trouble    error
	leaving    bool
	finished   bool
	everWorked bool

	resumed, restarted, rejoined int
}

func newRoom() room { return room{members: map[wire.UserID]bool{}, outsiders: map[wire.UserID]bool{}} }

// tickEvery is how often the loop looks at what only time changes.
const tickEvery = 100 * time.Millisecond

func (c *Call) loop(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	defer close(c.deaf)
	defer c.giveUp()
	for !c.finished {
		select {
		case <-ctx.Done():
			return
		case <-c.acts.wake:
			for _, act := range c.acts.take() {
				act()
			}
		case <-ticker.C:
		}
		c.tick(ctx, time.Now())
	}
}

// giveUp ends all that the loop owns.
func (c *Call) giveUp() {
	c.finished = true
	c.stop()
	for _, s := range []*seat{c.before, c.seat} {
		if s != nil {
			s.close()
		}
	}
}

func (c *Call) tick(ctx context.Context, now time.Time) {
	if c.seat == nil {
		return
	}
	c.check(now)
	c.seat.ring.tick(now)
	c.sendKeys(ctx, now)
	if c.socket != nil && now.After(c.renew) {
		c.renewToken(ctx, now)
	}
}

// renewToken signs the socket in again before its token ends.
func (c *Call) renewToken(ctx context.Context, now time.Time) {
	c.renew = now.Add(time.Second) // until the platform says how long it is good
	socket := c.socket
	c.running.Go(func() {
		if token, err := c.options.Token(ctx); err == nil {
			_ = socket.Send(ctx, wire.AuthFrame{Type: wire.FrameAuth, Token: token}) // what fails is tried again, or the socket has ended
		}
	})
}

// say sends a frame, and reports whether there was a socket to send it on.
func (c *Call) say(frame wire.CallFrame) bool {
	if c.socket == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), pingEvery)
	defer cancel()
	return c.socket.Send(ctx, frame) == nil
}

func (c *Call) request() string {
	c.last++
	return strconv.Itoa(c.last)
}

// resume is what the next socket goes on with.
func (c *Call) resume() *wire.Resume {
	if c.seat == nil || c.anew {
		return nil
	}
	return &wire.Resume{ParticipantID: c.seat.id, Secret: c.seat.secret}
}

// nextFaults are those of the next socket.
func (c *Call) nextFaults() (faults []string) {
	if c.asksFor < len(c.options.Faults) {
		faults = c.options.Faults[c.asksFor]
	}
	c.asksFor++
	return faults
}

// unlinked takes the end of a socket, or of an attempt to have one.
func (c *Call) unlinked(err error) {
	c.socket = nil
	if errors.Is(err, errAnew) || errors.Is(err, errMoved) {
		return // nothing is wrong
	}
	var closed *client.CloseError
	c.trouble, c.finished = err, c.leaving || final(err)
	if errors.As(err, &closed) && closed.Code == closeOver {
		c.trouble = nil // as calls end
	}
}

// closeOver is the code of a call that has ended, or that this device has left.
const closeOver = 4510

// joined takes the answer to join on a new socket.
func (c *Call) joined(ctx context.Context, socket *client.Socket, drop context.CancelCauseFunc, ready client.Ready, frame wire.JoinedFrame) {
	now := time.Now()
	c.socket, c.drop, c.trouble = socket, drop, nil
	c.signedIn(now, ready)
	c.call, c.host, c.fence = frame.Call, frame.Host, frame.Fence
	c.use(frame.ICE)
	if c.call.Test {
		c.members[c.options.Self.User] = true
	}
	if frame.Resumed && c.seat != nil && !c.anew && c.seat.id == frame.ParticipantID {
		c.resumed++
		c.goOn(now, frame)
		return
	}
	if c.seat != nil {
		c.rejoined++
	}
	c.anew = false
	c.sitDown(ctx, now, frame)
}

// goOn says again what may not have been heard.
func (c *Call) goOn(now time.Time, frame wire.JoinedFrame) {
	c.seat.meets(now, frame.Participants)
	if c.seat.up != nil && c.seat.up.offered != "" {
		c.offer()
	}
	for _, track := range c.sent {
		if c.seat.up != nil && c.seat.up.offered == "" {
			c.say(wire.CallFrame{Type: wire.FrameMute, MID: c.seat.senders[track.source].Mid(), On: track.muted.Load()})
		}
	}
	if c.wanted != nil {
		c.say(wire.CallFrame{Type: wire.FrameWant, Want: c.wanted})
	}
	if !c.seat.down.restarting.IsZero() {
		c.say(wire.CallFrame{Type: wire.FrameRestart})
	}
}

func (c *Call) signedIn(now time.Time, ready client.Ready) {
	c.renew = now.Add(max(time.Until(ready.ExpiresAt)*2/3, time.Second))
}

// use takes fresh credentials for the TURN server: what is restarted from now on is relayed with them.
func (c *Call) use(fresh wire.ICE) {
	c.ice, c.servers = fresh, c.relays.servers(fresh)
	if c.seat == nil {
		return
	}
	for _, n := range c.seat.connections() {
		n.fresh = c.servers
	}
}

// offer sends the description of the connection up that is not answered yet.
func (c *Call) offer() {
	up := c.seat.up
	up.request = c.request()
	c.say(wire.CallFrame{Type: wire.FrameOffer, ID: up.request, SDP: up.offered, Tracks: c.seat.offeredTracks()})
}

// take does what a frame of the platform asks for. An error ends the socket.
func (c *Call) take(kind string, content json.RawMessage) error {
	now := time.Now()
	if c.seat == nil {
		return nil // there is no place to take anything to
	}
	switch kind {
	case wire.FrameReady:
		return with(content, func(ready client.Ready) { c.signedIn(now, ready) })
	case wire.FrameOffer:
		return with(content, func(frame wire.DescriptionFrame) { c.answerDown(frame) })
	case wire.FrameAnswer:
		return with(content, func(frame wire.DescriptionFrame) { c.takeAnswer(frame) })
	case wire.FrameParticipant:
		return with(content, func(frame wire.ParticipantFrame) { c.seat.comes(now, frame.Participant) })
	case wire.FrameGone:
		return with(content, func(frame wire.GoneFrame) { c.seat.goes(now, frame.ParticipantID) })
	case wire.FrameSlots:
		return with(content, func(frame wire.SlotsFrame) { c.takeSlots(frame.Slots) })
	case wire.FrameSpeakers:
		return with(content, func(frame wire.SpeakersFrame) { c.speakers = frame.Speakers })
	case wire.FrameQuality:
		return with(content, func(frame wire.QualityFrame) { c.quality = frame })
	case wire.FrameLayers:
		return with(content, func(frame wire.LayersFrame) { c.takeLayers(frame) })
	case wire.FrameICE:
		return with(content, func(frame wire.ICEFrame) { c.use(frame.ICE) })
	case wire.FrameMoved:
		c.rejoin(errMoved)
	case wire.FrameEnded:
		return with(content, func(frame wire.EndedFrame) { c.ended = frame.Reason })
	case wire.FrameError:
		return with(content, func(frame wire.ErrorFrame) { c.trouble = problemOf(frame) })
	}
	return nil
}

// with reads a frame and has something done with it.
func with[T any](content json.RawMessage, do func(T)) error {
	frame, err := read[T](content)
	if err == nil {
		do(frame)
	}
	return err
}

func (c *Call) takeSlots(slots []wire.Slot) {
	for _, slot := range slots {
		c.seat.slots[slot.MID] = slot.TrackID
	}
	c.seat.relabel()
}

func (c *Call) takeLayers(frame wire.LayersFrame) {
	for _, o := range c.seat.outlets {
		if o.player.rid != "" && c.seat.senders[o.player.track.source].Mid() == frame.MID {
			o.rest(!slices.Contains(frame.Active, o.player.rid))
		}
	}
}

// answerDown answers the newest description of the connection down.
func (c *Call) answerDown(frame wire.DescriptionFrame) {
	if frame.Version < c.seat.version {
		return
	}
	c.seat.version = frame.Version
	answer, err := c.seat.down.answer(frame.SDP)
	if err != nil {
		c.trouble = err
		return
	}
	c.say(wire.CallFrame{Type: wire.FrameAnswer, Version: frame.Version, SDP: answer})
}

func (c *Call) takeAnswer(frame wire.DescriptionFrame) {
	up := c.seat.up
	if up == nil || up.offered == "" || frame.ID != up.request {
		return // of an offer that was made anew since
	}
	if err := c.seat.answered(frame.SDP); err != nil {
		c.trouble = err
	}
}

func (c *Call) mute(source string, on bool) error {
	for _, track := range c.sent {
		if track.source != source {
			continue
		}
		track.muted.Store(on)
		for _, p := range track.players {
			p.anew.Store(true)
		}
		if c.seat != nil && c.seat.up != nil && c.seat.up.offered == "" {
			c.say(wire.CallFrame{Type: wire.FrameMute, MID: c.seat.senders[source].Mid(), On: on})
		}
		return nil
	}
	return fmt.Errorf("%w: %q", errSource, source)
}

func (c *Call) want(want map[wire.TrackID]string) {
	c.wanted = maps.Clone(want)
	c.say(wire.CallFrame{Type: wire.FrameWant, Want: c.wanted})
}

// strangeKey is a key of somebody who was not known as a member when it came.
type strangeKey struct {
	voice Voice
	key   frames.Key
}

// maxStrange bounds the keys that wait for the list of members; what comes beyond is lost, and sent again by nobody: its sender is none.
const maxStrange = 64

// takeKey takes the key of a device whose owner is a member of the conversation.
func (c *Call) takeKey(from e2ee.Peer, sent wire.CallKey) {
	secret, err := frames.ReadSecret(sent.Key)
	if err != nil {
		return
	}
	one := strangeKey{Voice{sent.ParticipantID, from}, frames.Key{Chain: sent.Chain, Step: sent.Step, Secret: secret}}
	if c.members[from.User] {
		c.hearing.heard.add(time.Now(), one.voice, one.key)
		return
	}
	if len(c.strange) < maxStrange {
		c.strange = append(c.strange, one)
	}
}

// askEveryone is how often members are asked for at most, whoever sends keys.
const askEveryone = time.Second

// askMembers reads who may be in the call, where somebody is in it, or sends keys, of whom it is not known. A call with oneself has no
// others.
func (c *Call) askMembers(ctx context.Context, now time.Time) {
	wanted := len(c.strange) > 0
	for peer := range c.seat.ring.owed {
		wanted = wanted || !c.members[peer.User] && !c.outsiders[peer.User]
	}
	if !wanted || c.asking || c.call.Test || now.Sub(c.asked) < askEveryone {
		return
	}
	c.asking, c.asked = true, now
	conversation := c.call.ConversationID
	c.running.Go(func() {
		members, err := c.readMembers(ctx, conversation)
		c.acts.put(func() { c.meet(members, err) })
	})
}

func (c *Call) readMembers(ctx context.Context, conversation wire.ConversationID) ([]wire.Member, error) {
	token, err := c.options.Token(ctx)
	if err != nil {
		return nil, err
	}
	members, _, err := c.options.Client.Members(ctx, token, conversation)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return members, nil
}

// meet takes the members, and the keys of those who turn out to be some.
func (c *Call) meet(members []wire.Member, err error) {
	c.asking = false
	if err != nil {
		c.trouble = err
		return // it is asked again
	}
	c.members, c.outsiders = map[wire.UserID]bool{}, map[wire.UserID]bool{}
	for _, member := range members {
		c.members[member.UserID] = true
	}
	for peer := range c.seat.ring.owed {
		c.outsiders[peer.User] = !c.members[peer.User]
	}
	strange := c.strange
	c.strange = nil
	for _, one := range strange {
		if c.members[one.voice.Peer.User] {
			c.hearing.heard.add(time.Now(), one.voice, one.key)
		}
	}
}

// sendKeys sends those that are due, once it is known who may have them.
func (c *Call) sendKeys(ctx context.Context, now time.Time) {
	s := c.seat
	c.askMembers(ctx, now)
	j, due := s.ring.due(now, func(user wire.UserID) bool { return c.members[user] || c.outsiders[user] })
	if !due {
		return
	}
	participant, members := s.id, maps.Clone(c.members)
	c.running.Go(func() {
		refused, err := c.deliver(ctx, participant, members, j)
		c.acts.put(func() {
			s.ring.done(time.Now(), j, refused, err)
			clear(c.outsiders) // when it is tried again, they may be members
		})
	})
}
