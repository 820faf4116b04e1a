// Package callstest is a platform with one call on it, for tests of what takes part in calls: the socket, an SFU and the members of a
// conversation as services/video/PROTOCOL.md shows them from outside, and a TURN server, all on loopback and each to be broken at will.
// It keeps no account and checks nothing that a client could do wrong on purpose.
package callstest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

// The one call, and its conversation.
const (
	Call         wire.CallID         = "0192f0c0-0000-7000-8000-00000000000e"
	Conversation wire.ConversationID = "0192f0c0-0000-7000-8000-00000000000c"
)

// Host is the app host that the call lives on.
const Host = "app-01"

// Setup says what a platform is like.
type Setup struct {
	Members []wire.UserID
	Test    bool // the call is one with oneself
	Slots   int  // of each participant; 6 when it is zero. Each joining of somebody else takes some for good
	// SignedIn is how long a token is good; a minute when it is zero.
	SignedIn time.Duration
	TURN     TURNSettings
	// ICE changes what joined says of the TURN server; nil: nothing.
	ICE func(wire.ICE) wire.ICE
	// Passes says whose media reach whom; nil: everybody's everybody.
	Passes func(from, to wire.UserID) bool
	// Labels changes what is said of slots; nil: nothing.
	Labels func(wire.Slot) wire.Slot
}

// Platform is one app host with one call.
type Platform struct {
	URL  string
	TURN *TURN
	Post *Post

	t     testing.TB
	setup Setup

	mu        sync.Mutex
	members   []wire.UserID
	guests    map[wire.ParticipantID]*guest
	joined    int
	forwarder *forwarder
	refuses   int    // the status that sockets are refused with; 0: they are not
	closed    string // the code that joining is refused with; "": it is not
	deaf      bool   // pings are not answered
	signed    int    // how often somebody has signed in, or renewed that
	left      []wire.UserID
}

// guest is a participant, as the platform has them.
type guest struct {
	wire.Participant
	secret string
	desk   *desk
	line   *line // nil: their socket is away
	moved  bool  // where they are, the call is no more
}

// line is one socket.
type line struct {
	conn    *websocket.Conn
	writing sync.Mutex
}

func (l *line) say(frame any) {
	if l == nil {
		return
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.conn.WriteJSON(frame) // the reader notices
}

func (l *line) close(code int) {
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	_ = l.conn.Close() // whoever is there has been told
}

// New starts one that goes with the test.
func New(t testing.TB, setup Setup) *Platform {
	t.Helper()
	if setup.Slots == 0 {
		setup.Slots = 6
	}
	if setup.SignedIn == 0 {
		setup.SignedIn = time.Minute
	}
	p := &Platform{
		t: t, setup: setup, members: setup.Members, TURN: NewTURN(t, setup.TURN), Post: &Post{}, guests: map[wire.ParticipantID]*guest{},
	}
	p.forwarder = newForwarder(t, setup.Slots, p.passes)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/calls/{id}/ws", p.socket)
	mux.HandleFunc("POST /v1/calls/{id}/leave", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.left = append(p.left, peerOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")).User)
	})
	mux.HandleFunc("GET /v1/conversations/{id}/members", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var list wire.Members
		for _, member := range p.members {
			list.Members = append(list.Members, wire.Member{UserID: member})
		}
		_ = json.NewEncoder(w).Encode(list) // whoever asked is gone else
	})
	server := httptest.NewServer(mux)
	p.URL = server.URL
	t.Cleanup(func() {
		p.Forget(websocket.CloseGoingAway)
		server.Close()
	})
	return p
}

// Client speaks to the platform until the test ends.
func (p *Platform) Client() *client.Client {
	p.t.Helper()
	c, err := client.New(client.Options{BaseURL: p.URL})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// Token is an access token of a device; it is its name.
func Token(of e2ee.Peer) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return string(of.User) + "/" + string(of.Device), nil }
}

func peerOf(token string) e2ee.Peer {
	user, device, _ := strings.Cut(token, "/")
	return e2ee.Peer{User: wire.UserID(user), Device: wire.DeviceID(device)}
}

// Phone is a user's device, where they have one.
func Phone(user wire.UserID) e2ee.Peer {
	return e2ee.Peer{User: user, Device: wire.DeviceID(user + "-phone")}
}

// passes is the setup's word, by participants.
func (p *Platform) passes(from, to wire.ParticipantID) bool {
	if p.setup.Passes == nil {
		return true
	}
	p.mu.Lock()
	one, other := p.guests[from], p.guests[to]
	p.mu.Unlock()
	return one != nil && other != nil && p.setup.Passes(one.UserID, other.UserID)
}

// Refuse answers new sockets with a status, until it is 0.
func (p *Platform) Refuse(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = status
}

// Close refuses whoever joins, with a code, until it is "".
func (p *Platform) Close(code string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = code
}

// Deafen has pings go unanswered.
func (p *Platform) Deafen(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = on
}

// Admit makes a member of somebody.
func (p *Platform) Admit(user wire.UserID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = append(slices.Clone(p.members), user)
}

// Left are those who have left over HTTP.
func (p *Platform) Left() []wire.UserID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.left)
}

// Signed is how often somebody has signed in, or renewed that.
func (p *Platform) Signed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signed
}

// Say says something to a user who is in the call.
func (p *Platform) Say(to wire.UserID, frame any) { p.lineOf(p.of(to)).say(frame) }

// Hang closes a user's socket.
func (p *Platform) Hang(user wire.UserID, code int) { p.lineOf(p.of(user)).close(code) }

// Frames counts those of video that have come from a user, by layer.
func (p *Platform) Frames(user wire.UserID) map[string]int { return p.of(user).desk.counted() }

// ShowTrack has a user who is in the call seem to send something; the name of it is given.
func (p *Platform) ShowTrack(user wire.UserID, source string) wire.TrackID {
	g := p.of(user)
	p.mu.Lock()
	defer p.mu.Unlock()
	g.Tracks = append(slices.Clone(g.Tracks), wire.Track{ID: trackID(g.ID, source), Source: source})
	return trackID(g.ID, source)
}

// Forget loses all participants, as a host that dies.
func (p *Platform) Forget(code int) {
	p.mu.Lock()
	guests := p.guests
	p.guests, p.forwarder = map[wire.ParticipantID]*guest{}, newForwarder(p.t, p.setup.Slots, p.passes)
	p.mu.Unlock()
	for _, g := range guests {
		if l := p.lineOf(g); l != nil {
			l.close(code)
		}
		g.desk.leave()
	}
}

// Move has the call go on elsewhere: what was here lasts as long as its sockets do.
func (p *Platform) Move() {
	p.mu.Lock()
	old := p.guests
	p.guests, p.forwarder = map[wire.ParticipantID]*guest{}, newForwarder(p.t, p.setup.Slots, p.passes)
	p.mu.Unlock()
	for _, g := range old {
		p.mu.Lock()
		g.moved = true
		l := g.line
		p.mu.Unlock()
		l.say(map[string]string{"type": wire.FrameMoved})
	}
}

// leftBehind judges who closes the socket to where the call was: by then, they have made their new connections.
func (p *Platform) leftBehind(old *guest) {
	old.desk.leave()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.guests {
		if g.UserID == old.UserID && g.desk.down.CurrentRemoteDescription() != nil && g.desk.up.CurrentRemoteDescription() != nil {
			return
		}
	}
	p.t.Errorf("%s left where the call was before being where it is", old.UserID)
}

func (p *Platform) socket(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	refuses := p.refuses
	p.mu.Unlock()
	if refuses != 0 {
		w.Header().Set("Content-Type", wire.ProblemMediaType)
		w.WriteHeader(refuses)
		_, _ = fmt.Fprintf(w, `{"code":"refused","status":%d}`, refuses) // as above
		return
	}
	conn, err := (&websocket.Upgrader{Subprotocols: []string{wire.CallProtocol}}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if conn.Subprotocol() != wire.CallProtocol {
		p.t.Errorf("the subprotocol is %q", conn.Subprotocol())
	}
	l := &line{conn: conn}
	if g := p.serve(l); g != nil {
		p.hungUp(g, l)
	}
}

// serve takes frames until the socket ends, and gives who was on it.
func (p *Platform) serve(l *line) (g *guest) {
	var peer e2ee.Peer
	for {
		var frame wire.CallFrame
		if l.conn.ReadJSON(&frame) != nil {
			return g
		}
		switch frame.Type {
		case wire.FrameAuth:
			peer = peerOf(frame.Token)
			p.mu.Lock()
			p.signed++
			p.mu.Unlock()
			l.say(wire.ReadyFrame{Type: wire.FrameReady, UserID: peer.User, DeviceID: peer.Device, ExpiresAt: time.Now().Add(p.setup.SignedIn)})
		case wire.FramePing:
			p.mu.Lock()
			deaf := p.deaf
			p.mu.Unlock()
			if !deaf {
				l.say(wire.PongFrame{Type: wire.FramePong, ID: frame.ID})
			}
		case wire.FrameJoin:
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed != "" {
				l.say(wire.ErrorFrame{Type: wire.FrameError, ID: frame.ID, Code: closed})
				continue
			}
			g = p.join(l, peer, frame)
		case wire.FrameLeave:
			p.gone(g)
			l.close(closeOver)
		default:
			p.take(g, frame)
		}
	}
}

// closeOver is the code of a call that has ended, or that a client has left.
const closeOver = 4510

func (p *Platform) hungUp(g *guest, l *line) {
	p.mu.Lock()
	mine, moved := g.line == l, g.moved
	if mine {
		g.line = nil
	}
	p.mu.Unlock()
	if mine && moved {
		p.leftBehind(g)
	}
}

// credentialLife is how long credentials for the TURN server are good.
const credentialLife = 10 * time.Minute

func (p *Platform) join(l *line, peer e2ee.Peer, frame wire.CallFrame) *guest {
	p.mu.Lock()
	g := p.resumedLocked(frame.Resume)
	resumed := g != nil
	if !resumed {
		p.joined++
		g = &guest{secret: fmt.Sprint("secret", p.joined), Participant: wire.Participant{
			ID: wire.ParticipantID(fmt.Sprintf("p%d", p.joined)), UserID: peer.User, DeviceID: peer.Device, JoinedAt: time.Now(), Here: true, Tracks: []wire.Track{},
		}}
		p.guests[g.ID] = g
		g.desk = p.forwarder.sit(g.ID, p.setup.Test, func(slots []wire.Slot) { p.tellSlots(g, slots) })
	}
	g.line = l
	joined := wire.JoinedFrame{
		Type: wire.FrameJoined, ID: frame.ID, ParticipantID: g.ID, Secret: g.secret, Resumed: resumed, Host: Host, Fence: 1,
		Call: wire.Call{ID: Call, ConversationID: Conversation, Test: p.setup.Test, State: wire.CallLive}, ICE: p.TURN.ICE(string(g.ID), credentialLife),
	}
	if p.setup.Test {
		joined.Call.ConversationID = ""
	}
	if p.setup.ICE != nil {
		joined.ICE = p.setup.ICE(joined.ICE)
	}
	for _, other := range p.guests {
		joined.Participants = append(joined.Participants, other.Participant)
	}
	p.mu.Unlock()
	l.say(joined)
	if !resumed {
		p.tell(g, wire.ParticipantFrame{Type: wire.FrameParticipant, Participant: g.Participant})
		p.offer(g, false)
	}
	return g
}

func (p *Platform) resumedLocked(resume *wire.Resume) *guest {
	if resume == nil {
		return nil
	}
	if g := p.guests[resume.ParticipantID]; g != nil && g.secret == resume.Secret {
		return g
	}
	return nil
}

func (p *Platform) offer(g *guest, restart bool) {
	version, text, err := g.desk.offer(restart)
	if err != nil {
		p.t.Log(err) // they are going
		return
	}
	p.lineOf(g).say(wire.DescriptionFrame{Type: wire.FrameOffer, Version: version, SDP: text})
}

func (p *Platform) lineOf(g *guest) *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return g.line
}

// of is the participant that a user is now.
func (p *Platform) of(user wire.UserID) *guest {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.guests {
		if g.UserID == user {
			return g
		}
	}
	p.t.Fatalf("%s is not in the call", user)
	return nil
}

// tell tells everybody but of.
func (p *Platform) tell(of *guest, frame any) {
	p.mu.Lock()
	var lines []*line
	for _, g := range p.guests {
		if g != of {
			lines = append(lines, g.line)
		}
	}
	p.mu.Unlock()
	for _, l := range lines {
		l.say(frame)
	}
}

func (p *Platform) tellSlots(g *guest, slots []wire.Slot) {
	for i := range slots {
		if p.setup.Labels != nil {
			slots[i] = p.setup.Labels(slots[i])
		}
	}
	p.lineOf(g).say(wire.SlotsFrame{Type: wire.FrameSlots, Slots: slots})
}

func (p *Platform) gone(g *guest) {
	p.mu.Lock()
	delete(p.guests, g.ID)
	p.mu.Unlock()
	g.desk.leave()
	p.tell(g, wire.GoneFrame{Type: wire.FrameGone, ParticipantID: g.ID})
}

func (p *Platform) take(g *guest, frame wire.CallFrame) {
	switch frame.Type {
	case wire.FrameOffer:
		answer, tracks, err := g.desk.take(frame.SDP, frame.Tracks)
		if err != nil {
			p.lineOf(g).say(wire.ErrorFrame{Type: wire.FrameError, ID: frame.ID, Code: "invalid_description", Detail: err.Error()})
			return
		}
		p.mu.Lock()
		g.Tracks = tracks
		changed := g.Participant
		p.mu.Unlock()
		p.lineOf(g).say(wire.DescriptionFrame{Type: wire.FrameAnswer, ID: frame.ID, SDP: answer})
		p.tell(nil, wire.ParticipantFrame{Type: wire.FrameParticipant, Participant: changed})
	case wire.FrameAnswer:
		if err := g.desk.answered(frame.Version, frame.SDP); err != nil {
			p.t.Error(err)
		}
	case wire.FrameRestart:
		p.offer(g, true)
	case wire.FrameMute:
		p.tell(nil, wire.ParticipantFrame{Type: wire.FrameParticipant, Participant: p.muted(g, frame)})
	case wire.FrameWant:
	default:
		p.t.Errorf("a client sends a %q", frame.Type)
	}
}

func (p *Platform) muted(g *guest, frame wire.CallFrame) wire.Participant {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.Tracks = slices.Clone(g.Tracks)
	for i := range g.Tracks {
		if g.Tracks[i].MID == frame.MID {
			g.Tracks[i].Muted = frame.On
		}
	}
	return g.Participant
}
