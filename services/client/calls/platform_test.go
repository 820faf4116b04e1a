package calls

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

const (
	aCall         wire.CallID         = "0192f0c0-0000-7000-8000-00000000000e"
	aConversation wire.ConversationID = "0192f0c0-0000-7000-8000-00000000000c"
)

// platform is one app host with one call, as services/video/PROTOCOL.md describes it from outside.
type platform struct {
	t    *testing.T
	turn *turnServer
	http *httptest.Server
	post *postOffice
	test bool // the call is one with oneself

	mu        sync.Mutex
	members   []wire.UserID
	guests    map[wire.ParticipantID]*guest
	joined    int
	forwarder *forwarder
	lives     time.Duration // of credentials
	refuses   int           // the status that sockets are refused with; 0: they are not
	deaf      bool          // pings are not answered, and nothing else is
	lies      func(wire.Slot) wire.Slot
	left      []wire.UserID // over HTTP
}

// guest is a participant, as the platform has them.
type guest struct {
	wire.Participant
	secret string
	desk   *desk
	line   *line // nil: their socket is away
	wanted map[wire.TrackID]string
	moved  bool // where they are, the call is no more
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
	_ = l.conn.Close()
}

func newPlatform(t *testing.T, members ...wire.UserID) *platform {
	t.Helper()
	p := &platform{
		t: t, turn: newTurnServer(t), post: &postOffice{}, members: members, guests: map[wire.ParticipantID]*guest{},
		forwarder: newForwarder(t, 6), lives: 10 * time.Minute,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/calls/{id}/ws", p.socket)
	mux.HandleFunc("POST /v1/calls/{id}/leave", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		user, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "/")
		p.left = append(p.left, wire.UserID(user))
	})
	mux.HandleFunc("GET /v1/conversations/{id}/members", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		var list wire.Members
		for _, member := range p.members {
			list.Members = append(list.Members, wire.Member{UserID: member})
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	p.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.forget(1001)
		p.http.Close()
	})
	return p
}

// forget loses all participants, as a host that dies.
func (p *platform) forget(code int) {
	p.mu.Lock()
	guests := p.guests
	p.guests = map[wire.ParticipantID]*guest{}
	p.forwarder = newForwarder(p.t, p.forwarder.places)
	p.mu.Unlock()
	for _, g := range guests {
		if g.line != nil {
			g.line.close(code)
		}
		g.desk.leave()
	}
}

// move has the call go on elsewhere: what was here lasts as long as its sockets do.
func (p *platform) move() {
	p.mu.Lock()
	old := p.guests
	p.guests, p.forwarder = map[wire.ParticipantID]*guest{}, newForwarder(p.t, p.forwarder.places)
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
func (p *platform) leftBehind(old *guest) {
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

// options are those of a device; its token names it.
func (p *platform) options(user wire.UserID, send ...Track) Options {
	p.t.Helper()
	c, err := client.New(client.Options{BaseURL: p.http.URL})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	self := e2ee.Peer{User: user, Device: wire.DeviceID(user + "-phone")}
	return Options{
		Client: c, Self: self, Keys: p.post.box(self), Send: send, TurnAddress: "127.0.0.1", RootCAs: p.turn.roots,
		Token: func(context.Context) (string, error) { return string(self.User) + "/" + string(self.Device), nil },
	}
}

func (p *platform) socket(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	refuses := p.refuses
	p.mu.Unlock()
	if refuses != 0 {
		w.Header().Set("Content-Type", wire.ProblemMediaType)
		w.WriteHeader(refuses)
		_, _ = fmt.Fprintf(w, `{"code":"refused","status":%d}`, refuses)
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
	var g *guest
	var peer e2ee.Peer
	for {
		var frame wire.CallFrame
		if conn.ReadJSON(&frame) != nil {
			break
		}
		switch frame.Type {
		case wire.FrameAuth:
			user, device, _ := strings.Cut(frame.Token, "/")
			peer = e2ee.Peer{User: wire.UserID(user), Device: wire.DeviceID(device)}
			l.say(wire.ReadyFrame{Type: wire.FrameReady, UserID: peer.User, DeviceID: peer.Device, ExpiresAt: time.Now().Add(time.Minute)})
		case wire.FramePing:
			p.mu.Lock()
			deaf := p.deaf
			p.mu.Unlock()
			if !deaf {
				l.say(map[string]string{"type": wire.FramePong, "id": frame.ID})
			}
		case wire.FrameJoin:
			g = p.join(l, peer, frame)
		case wire.FrameLeave:
			p.gone(g)
			l.close(closeOver)
		default:
			p.take(g, frame)
		}
	}
	if g == nil {
		return
	}
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

func (p *platform) join(l *line, peer e2ee.Peer, frame wire.CallFrame) *guest {
	p.mu.Lock()
	g := p.resumedLocked(frame.Resume)
	resumed := g != nil
	if !resumed {
		p.joined++
		g = &guest{secret: fmt.Sprint("secret", p.joined), Participant: wire.Participant{
			ID: wire.ParticipantID(fmt.Sprintf("p%d", p.joined)), UserID: peer.User, DeviceID: peer.Device, JoinedAt: time.Now(), Here: true, Tracks: []wire.Track{},
		}}
		p.guests[g.ID] = g
		g.desk = p.forwarder.sit(g.ID, p.test, func(slots []wire.Slot) { p.tellSlots(g, slots) })
	}
	g.line = l
	joined := wire.JoinedFrame{
		Type: wire.FrameJoined, ID: frame.ID, ParticipantID: g.ID, Secret: g.secret, Resumed: resumed, Host: "app-01", Fence: 1,
		Call: wire.Call{ID: aCall, ConversationID: aConversation, Test: p.test, State: wire.CallLive}, ICE: p.turn.offer(string(g.ID), p.lives),
	}
	if p.test {
		joined.Call.ConversationID = ""
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

func (p *platform) resumedLocked(resume *wire.Resume) *guest {
	if resume == nil {
		return nil
	}
	if g := p.guests[resume.ParticipantID]; g != nil && g.secret == resume.Secret {
		return g
	}
	return nil
}

func (p *platform) offer(g *guest, restart bool) {
	version, text, err := g.desk.offer(restart)
	if err != nil {
		p.t.Log(err)
		return
	}
	p.lineOf(g).say(wire.DescriptionFrame{Type: wire.FrameOffer, Version: version, SDP: text})
}

func (p *platform) lineOf(g *guest) *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return g.line
}

// tell tells everybody but of.
func (p *platform) tell(of *guest, frame any) {
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

func (p *platform) tellSlots(g *guest, slots []wire.Slot) {
	p.mu.Lock()
	lies := p.lies
	p.mu.Unlock()
	for i := range slots {
		if lies != nil {
			slots[i] = lies(slots[i])
		}
	}
	p.lineOf(g).say(wire.SlotsFrame{Type: wire.FrameSlots, Slots: slots})
}

func (p *platform) gone(g *guest) {
	p.mu.Lock()
	delete(p.guests, g.ID)
	p.mu.Unlock()
	g.desk.leave()
	p.tell(g, wire.GoneFrame{Type: wire.FrameGone, ParticipantID: g.ID})
}

func (p *platform) take(g *guest, frame wire.CallFrame) {
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
		p.mu.Lock()
		g.Tracks = slices.Clone(g.Tracks)
		for i := range g.Tracks {
			if g.Tracks[i].MID == frame.MID {
				g.Tracks[i].Muted = frame.On
			}
		}
		changed := g.Participant
		p.mu.Unlock()
		p.tell(nil, wire.ParticipantFrame{Type: wire.FrameParticipant, Participant: changed})
	case wire.FrameWant:
		p.mu.Lock()
		g.wanted = frame.Want
		p.mu.Unlock()
	default:
		p.t.Errorf("a client sends a %q", frame.Type)
	}
}

// of is the participant that a user is now.
func (p *platform) of(user wire.UserID) *guest {
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

// postOffice carries keys between devices at once, all of them honest.
type postOffice struct {
	mu      sync.Mutex
	boxes   []*box
	refuses map[e2ee.Peer]error
	fails   error           // of all sending
	sent    []delivery      // in order
	tampers func(*delivery) // changes what is under way
}

type delivery struct {
	from, to e2ee.Peer
	key      wire.CallKey
}

// box is one device's.
type box struct {
	office *postOffice
	peer   e2ee.Peer
	call   wire.CallID
	take   func(e2ee.Peer, wire.CallKey) // nil: nobody listens
}

func (o *postOffice) box(peer e2ee.Peer) *box { return &box{office: o, peer: peer} }

func (b *box) CallKeys(call wire.CallID, take func(e2ee.Peer, wire.CallKey)) (stop func()) {
	b.office.mu.Lock()
	defer b.office.mu.Unlock()
	b.call, b.take = call, take
	b.office.boxes = append(b.office.boxes, b)
	return func() {
		b.office.mu.Lock()
		defer b.office.mu.Unlock()
		b.office.boxes = slices.DeleteFunc(b.office.boxes, func(one *box) bool { return one == b })
	}
}

func (b *box) SendCallKey(_ context.Context, key wire.CallKey, to []e2ee.Peer) (map[e2ee.Peer]error, error) {
	o := b.office
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails != nil {
		return nil, o.fails
	}
	refused := map[e2ee.Peer]error{}
	for _, peer := range to {
		if err := o.refuses[peer]; err != nil {
			refused[peer] = err
			continue
		}
		d := delivery{b.peer, peer, key}
		if o.tampers != nil {
			o.tampers(&d)
		}
		o.sent = append(o.sent, d)
		for _, other := range o.boxes {
			if other.peer == d.to && other.call == d.key.CallID {
				other.take(d.from, d.key)
			}
		}
	}
	return refused, nil
}

// change does something to the office while nothing is carried.
func (o *postOffice) change(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}
