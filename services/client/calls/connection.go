package calls

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

// connection is one of the two of a seat.
type connection struct {
	pc   *webrtc.PeerConnection
	made time.Time

	gathered    atomic.Int32
	gatherEnded atomic.Bool

	// The loop's own.
	fresh      []webrtc.ICEServer // credentials that it is to have once it gathers no more
	worked     bool
	restarting time.Time // when the restart began that is under way; zero: none is
	tried      time.Time // when it was last begun
	offered    string    // up: the description that is not answered yet
	request    string    // the id under which it was sent
}

// newConnection makes one whose changes are told by changed.
func (c *Call) newConnection(ctx context.Context, up bool, changed func()) (*connection, error) {
	pc, err := newPeerConnection(up, c.options.Direct, c.relays.dialer(ctx), c.servers)
	if err != nil {
		return nil, err
	}
	n := &connection{pc: pc, made: time.Now()}
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate == nil {
			n.gatherEnded.Store(true)
		} else {
			n.gathered.Add(1)
		}
		changed()
	})
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { changed() })
	pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { changed() })
	return n, nil
}

// transport is nil before anything was negotiated.
func (c *connection) transport() *webrtc.ICETransport {
	for _, t := range c.pc.GetTransceivers() {
		if sender := t.Sender(); sender != nil && sender.Transport() != nil {
			return sender.Transport().ICETransport()
		}
		if receiver := t.Receiver(); receiver != nil && receiver.Transport() != nil {
			return receiver.Transport().ICETransport()
		}
	}
	return nil
}

// works reports whether media can pass.
func (c *connection) works() bool {
	return c.pc.ConnectionState() == webrtc.PeerConnectionStateConnected
}

// closed reports whether it is over, by whoever's will: the SFU closes those of a room that it gives up.
func (c *connection) closed() bool { return c.pc.ConnectionState() == webrtc.PeerConnectionStateClosed }

// gathersAnew forgets what was gathered before a restart.
func (c *connection) gathersAnew(now time.Time) {
	c.gathered.Store(0)
	c.gatherEnded.Store(false)
	c.tried = now
	if c.restarting.IsZero() {
		c.restarting = now
	}
}

// refresh has it use its fresh credentials. While it gathers it reads those it has, which pion does not guard.
func (c *connection) refresh() error {
	if c.fresh == nil || !c.gatherEnded.Load() {
		return nil
	}
	configuration := c.pc.GetConfiguration()
	configuration.ICEServers, c.fresh = c.fresh, nil
	if err := c.pc.SetConfiguration(configuration); err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
		return fmt.Errorf("take credentials: %w", err)
	}
	return nil
}

// describe makes an offer; with restart, of new ICE credentials.
func (c *connection) describe(restart bool) error {
	offer, err := c.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return fmt.Errorf("make offer: %w", err)
	}
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("take own offer: %w", err)
	}
	c.offered = offer.SDP
	return nil
}

// answered takes the answer to what was offered.
func (c *connection) answered(text string) error {
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return fmt.Errorf("take answer: %w", err)
	}
	c.offered, c.request = "", ""
	return nil
}

// answer takes an offer and gives the answer to it.
func (c *connection) answer(offer string) (string, error) {
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", fmt.Errorf("take offer: %w", err)
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("make answer: %w", err)
	}
	if err := c.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("take own answer: %w", err)
	}
	return answer.SDP, nil
}
