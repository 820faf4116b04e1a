// Package calls takes part in calls as services/video/PROTOCOL.md has it: it joins, sends and receives media through the TURN server, each
// frame encrypted for the devices that are in the call, and climbs the ladder when something breaks.
// It encodes and decodes nothing: what is sent comes from files or is noise, and what comes is counted and handed on.
package calls

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

// Keys carries the keys of calls between devices; *e2ee.Machine does. Whoever runs the device has it synced.
type Keys interface {
	// SendCallKey gives a key to devices, and tells whom it was not given and why.
	SendCallKey(ctx context.Context, key wire.CallKey, to []e2ee.Peer) (refused map[e2ee.Peer]error, err error)
	// CallKeys hands over the keys of a call with their proven senders, until stop.
	CallKeys(call wire.CallID, take func(from e2ee.Peer, key wire.CallKey)) (stop func())
}

// Options say who joins, what they send and how their media is relayed.
type Options struct {
	Client *client.Client
	// Token gives a fresh access token, always of the session of Self.
	Token func(ctx context.Context) (string, error)
	Self  e2ee.Peer
	Keys  Keys

	Send []Track
	// Receive takes every frame that comes and can be read. It is called by a goroutine for each track, and holds it up; it may be nil.
	Receive func(Frame)
	// VideoSlots is how many videos are received at once; 0 is as many as usual.
	VideoSlots int

	// Ways in to the TURN server that may be used, of OverUDP, OverTCP and OverTLS; none is all that the platform offers.
	Ways []string
	// TurnAddress is where the TURN server is, in place of what its names resolve to.
	TurnAddress string
	// RootCAs replace the machine's authorities, for TURN over TLS.
	RootCAs *x509.CertPool
	// Dial opens the streams to the TURN server, in place of the machine's own way.
	Dial client.DialFunc
	// Direct allows media past the TURN server, where the SFU lets it in.
	Direct bool

	// Faults are those that the service is asked to have on the first socket, on the second, and so on, where it allows that: for tests.
	Faults [][]string
}

// Call is a call that this device is in. Its methods may be called from several goroutines.
type Call struct {
	id      wire.CallID
	options Options
	began   time.Time
	relays  *relays
	hearing hearing
	sent    []*sent
	acts    *mailbox
	stop    context.CancelFunc
	running sync.WaitGroup
	deaf    chan struct{} // closed when the loop has ended
	over    chan struct{} // closed when nothing of the call runs any more

	room // the loop's own
}

// ErrOver is what is said of a call that this device is in no more.
var ErrOver = errors.New("the call is over")

// Join takes part in a call that goes on, and returns when the platform has let the device in; its media may take a little longer. ctx
// bounds that and nothing more: Leave must be called.
func Join(ctx context.Context, id wire.CallID, o Options) (*Call, error) {
	if err := validTracks(o.Send); err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Call{
		id: id, options: o, began: time.Now(), relays: newRelays(o), stop: stop, deaf: make(chan struct{}), over: make(chan struct{}),
		hearing: hearing{give: o.Receive, received: map[Heard]*Received{}}, acts: newMailbox(), room: newRoom(),
	}
	for _, track := range o.Send {
		c.sent = append(c.sent, newSent(track))
	}
	unsubscribe := o.Keys.CallKeys(id, func(from e2ee.Peer, key wire.CallKey) { c.acts.put(func() { c.takeKey(from, key) }) })
	c.running.Go(func() { c.loop(life) })
	c.running.Go(func() { c.keepLinked(life) })
	for _, track := range c.sent {
		for _, p := range track.players {
			c.running.Go(func() { p.play(life) })
		}
	}
	go func() {
		c.running.Wait()
		unsubscribe()
		close(c.over)
	}()
	if err := c.Await(ctx, func(s State) bool { return s.Participant != "" }); err != nil {
		c.stop()
		<-c.over
		return nil, fmt.Errorf("join call: %w", err)
	}
	return c, nil
}

// hangUp is how long the platform may take to say that the device has left.
const hangUp = time.Second

// Leave hangs up and returns when nothing of the call runs any more. The error is of telling the platform, which notices by itself later.
func (c *Call) Leave(ctx context.Context) error {
	defer func() {
		c.stop()
		<-c.over
	}()
	var said bool
	if !c.ask(func() {
		c.leaving = true
		said = c.say(wire.CallFrame{Type: wire.FrameLeave})
	}) {
		return nil
	}
	if said {
		timer := time.NewTimer(hangUp)
		defer timer.Stop()
		select {
		case <-c.over:
			return nil
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	token, err := c.options.Token(ctx)
	if err != nil {
		return err
	}
	if _, err := c.options.Client.LeaveCall(ctx, token, c.id); err != nil {
		return fmt.Errorf("leave call: %w", err)
	}
	return nil
}

// ICE is what the platform has said of the TURN server, with the credentials it gave last.
func (c *Call) ICE() (ice wire.ICE) {
	c.ask(func() { ice = c.ice })
	return ice
}

// Over is closed when the call is over for this device, whoever ended it.
func (c *Call) Over() <-chan struct{} { return c.over }

// Mute says of a source that it sends nothing, or something again.
func (c *Call) Mute(source string, on bool) error {
	err := ErrOver
	c.ask(func() { err = c.mute(source, on) })
	return err
}

// Want says which video is to come, and how large; what is not named is not to.
func (c *Call) Want(want map[wire.TrackID]string) error {
	if !c.ask(func() { c.want(want) }) {
		return ErrOver
	}
	return nil
}

// Cut ends the socket as a network that is gone would: without a word. The call comes back by itself.
func (c *Call) Cut() {
	c.ask(func() {
		if c.socket != nil {
			c.socket.Abandon()
		}
	})
}

// Look is how the call stands.
func (c *Call) Look() State {
	var s State
	if !c.ask(func() { s = c.state() }) {
		s = c.state() // the loop has ended, and its own is anybody's
	}
	return s
}

// lookEvery is how often Await looks.
const lookEvery = 20 * time.Millisecond

// Await waits until the call stands as hoped for. It ends early when the call does, with what ended it and ErrOver; when ctx does, the error
// tells besides what stands in the way, as far as that is known.
func (c *Call) Await(ctx context.Context, hoped func(State) bool) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		s := c.Look()
		if hoped(s) {
			return nil
		}
		if s.Phase == PhaseOver {
			return errors.Join(ErrOver, s.Trouble)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Trouble)
		case <-ticker.C:
		}
	}
}

// ask has the loop do something and waits for it; it reports false once the call is over.
func (c *Call) ask(act func()) bool {
	done := make(chan struct{})
	c.acts.put(func() {
		defer close(done)
		act()
	})
	select {
	case <-done:
		return true
	case <-c.deaf:
		return false
	}
}

// mailbox is what the loop is to do, in order. It needs no bound: the socket and callers wait until theirs is done, and connections and
// keys bring a few a second.
type mailbox struct {
	wake chan struct{} // has one waiting when there may be acts

	mu   sync.Mutex
	acts []func()
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(act func()) {
	m.mu.Lock()
	m.acts = append(m.acts, act)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (m *mailbox) take() (acts []func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	acts, m.acts = m.acts, nil
	return acts
}

// read is a frame of the socket as one of a type.
func read[T any](content json.RawMessage) (frame T, err error) {
	if err := json.Unmarshal(content, &frame); err != nil {
		return frame, fmt.Errorf("read frame: %w", err)
	}
	return frame, nil
}
