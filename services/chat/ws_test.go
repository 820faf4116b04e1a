package chat

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/client"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

func authFrame(accessToken string) string {
	return fmt.Sprintf(`{"type":"auth","token":%q}`, accessToken)
}

func TestSocketLife(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	t.Run("authenticates and renews", func(t *testing.T) {
		session := newUser()
		socket := h.dial()
		ready, err := socket.Authenticate(within(t), n.token(session, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(ready.ExpiresAt); ready.SessionID != session.SessionID || ready.UserID != session.UserID || ready.DeviceID != "phone" || left < 9*time.Minute {
			t.Errorf("ready says %+v", ready)
		}
		w := &wired{socket, t}
		w.next(wire.FrameInbox, &wire.HintFrame{})
		w.next(wire.FrameCalls, &wire.HintFrame{})
		if renewed, err := socket.Authenticate(within(t), n.token(session, time.Now().Add(10*time.Second))); err != nil || !renewed.ExpiresAt.After(ready.ExpiresAt) {
			t.Errorf("renewed: %+v, %v", renewed, err)
		}
		w.say(wire.ClientFrame{Type: wire.FramePing, ID: "p"})
		var pong wire.PongFrame
		if w.next(wire.FramePong, &pong); pong.ID != "p" {
			t.Errorf("got %+v", pong)
		}
	})
	t.Run("with and without the subprotocol", func(t *testing.T) {
		for _, offered := range []string{"", wire.SocketProtocol, "another"} {
			header := http.Header{}
			if offered != "" {
				header.Set("Sec-Websocket-Protocol", offered)
			}
			socket, err := h.tryDial(header)
			if err != nil {
				t.Errorf("offered %q: %v", offered, err)
				continue
			}
			if _, err := socket.Authenticate(within(t), n.token(newUser(), time.Now())); err != nil {
				t.Errorf("offered %q: %v", offered, err)
			}
		}
	})
	t.Run("ends when its token expires", func(t *testing.T) {
		// Signed so long ago that only the clocks' leeway keeps it good: it expired a moment ago.
		almost := n.token(newUser(), time.Now().Add(-10*time.Minute-time.Second))
		socket := h.dial()
		if _, err := socket.Authenticate(within(t), almost); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, socket, wsconn.TokenExpired)
	})
	t.Run("ends within 2 s of its session, by a hint", func(t *testing.T) {
		ada, bob := newUser(), newUser()
		mine, others := h.signIn(ada), h.signIn(bob)
		began := time.Now()
		n.direct.Publish(t.Context(), wire.RevokedChannel, string(ada.SessionID))
		wantClosed(t, mine.Socket, wsconn.Revoked)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("after %s", took)
		}
		others.wantNothing(wire.FrameReady)
	})
	t.Run("a plain request", func(t *testing.T) {
		response, err := http.Get(h.url + "/v1/ws") //nolint:noctx // a test's own server
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest || h.live.sockets.count() > 20 {
			t.Errorf("answered %d", response.StatusCode)
		}
	})
	t.Run("closes with the host", func(t *testing.T) {
		member, stranger := h.signIn(newUser()), h.dial()
		stopped := make(chan struct{})
		go func() {
			h.stop()
			close(stopped)
		}()
		wantClosed(t, member.Socket, wsconn.GoingAway)
		wantClosed(t, stranger, wsconn.GoingAway)
		<-stopped
		if left := h.live.sockets.count(); left != 0 {
			t.Errorf("%d sockets are left", left)
		}
	})
}

// What a client may not do, and what becomes of it.
func TestSocketAttacks(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	ada, eve := newUser(), newUser()
	id := n.group(h.Service, ada)
	n.send(h.Service, ada, id, "secret")
	ended := newUser()
	n.endSession(ended.SessionID)
	good := n.token(eve, time.Now())
	for _, c := range []struct {
		name    string
		signed  bool
		kind    int
		content string
		want    wsconn.Code
	}{
		{"a bad token", false, websocket.TextMessage, `{"type":"auth","token":"guess"}`, wsconn.Unauthenticated},
		{"an expired token", false, websocket.TextMessage, authFrame(n.token(eve, time.Now().Add(-time.Hour))), wsconn.Unauthenticated},
		{"a good token of a session that auth has ended", false, websocket.TextMessage, authFrame(n.token(ended, time.Now())), wsconn.Revoked},
		{"sync first", false, websocket.TextMessage, `{"type":"sync","id":"1"}`, wsconn.BadFrame},
		{"send first", false, websocket.TextMessage, `{"type":"send","id":"1","conversation_id":"` + string(id) + `"}`, wsconn.BadFrame},
		{"no JSON", false, websocket.TextMessage, `hello`, wsconn.BadFrame},
		{"no JSON, signed in", true, websocket.TextMessage, `{"type":"ping"`, wsconn.BadFrame},
		{"a binary frame", false, websocket.BinaryMessage, authFrame(good), wsconn.BadFrame},
		{"what only the server says", true, websocket.TextMessage, `{"type":"items"}`, wsconn.BadFrame},
		{"an unknown type", true, websocket.TextMessage, `{"type":"sudo"}`, wsconn.BadFrame},
		{"no type", true, websocket.TextMessage, `{}`, wsconn.BadFrame},
		{"an id too long", true, websocket.TextMessage, `{"type":"ping","id":"` + strings.Repeat("x", 65) + `"}`, wsconn.BadFrame},
		{"invalid UTF-8", true, websocket.TextMessage, "{\"type\":\"ping\",\"id\":\"\xff\"}", wsconn.BadFrame},
		{"too large", true, websocket.TextMessage, strings.Repeat("x", frameLimit+1), websocket.CloseMessageTooBig},
		{"another session's token on a socket in use", true, websocket.TextMessage, authFrame(n.token(newUser(), time.Now())), wsconn.Unauthenticated},
		{"too many watched", true, websocket.TextMessage, `{"type":"watch","users":["` + strings.Repeat(`x","`, maxWatched) + `"]}`, wsconn.BadFrame},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := h.dial()
			if c.signed {
				if _, err := socket.Authenticate(within(t), n.token(newUser(), time.Now())); err != nil {
					t.Fatal(err)
				}
			}
			if err := socket.SendRaw(within(t), c.kind, []byte(c.content)); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, socket, c.want)
		})
	}
	t.Run("a conversation of others", func(t *testing.T) {
		w := h.follow(eve, map[wire.ConversationID]int64{id: 0})
		ears := h.follow(ada, map[wire.ConversationID]int64{id: 2})
		one := int64(1)
		for _, frame := range []wire.ClientFrame{
			{Type: wire.FrameSend, ID: "x", ConversationID: id, ClientID: newClientID(), Body: "forged"},
			{Type: wire.FrameRange, ID: "x", ConversationID: id},
			{Type: wire.FrameRange, ID: "x", ConversationID: "no uuid"},
			{Type: wire.FrameSend, ID: "x", ConversationID: "no uuid", ClientID: newClientID(), Body: "forged"},
		} {
			w.say(frame)
			var refused wire.ErrorFrame
			w.next(wire.FrameError, &refused)
			if refused.ID != "x" || refused.Code != "no_such_conversation" {
				t.Errorf("%s: %+v", frame.Type, refused)
			}
		}
		w.say(wire.ClientFrame{Type: wire.FrameTyping, ConversationID: id, On: true})
		w.say(wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Read: &one})
		w.wantNothing(wire.FrameItems)
		for _, kind := range []string{wire.FrameItems, wire.FrameTyping, wire.FrameCursors} {
			ears.wantNothing(kind)
		}
	})
	t.Run("a frame that says who it is from, by which devices and under which number", func(t *testing.T) {
		bob := newUser()
		both := n.group(h.Service, ada, bob)
		w, name := h.follow(bob, nil), newClientID()
		w.say(map[string]any{
			"type": wire.FrameSend, "id": "forged", "conversation_id": both, "client_id": name, "body": "of bob",
			"sender": ada.UserID, "user_id": ada.UserID, "session_id": ada.SessionID, "device_id": "another", "devices": []string{"another"}, "seq": 1,
		})
		var sent wire.SentFrame
		w.next(wire.FrameSent, &sent)
		items := n.readAll(h.Service, ada, both)
		if got := items[len(items)-1]; got.Sender != bob.UserID || got.ClientID != name || got.Seq != sent.Seq || got.Seq == 1 {
			t.Errorf("stored as %+v", got)
		}
	})
	t.Run("a frame that is replayed", func(t *testing.T) {
		bob := newUser()
		both := n.group(h.Service, ada, bob)
		mine, his := h.follow(ada, nil), h.follow(bob, nil)
		frame := wire.ClientFrame{Type: wire.FrameSend, ID: "once", ConversationID: both, ClientID: newClientID(), Body: "the same bytes"}
		var first, again, other wire.SentFrame
		mine.say(frame)
		mine.next(wire.FrameSent, &first)
		mine.say(frame)
		if mine.next(wire.FrameSent, &again); again.Sent != first.Sent {
			t.Errorf("sent again it is %+v, was %+v", again.Sent, first.Sent)
		}
		changed := frame
		changed.Body = "other bytes"
		mine.say(changed)
		var refused wire.ErrorFrame
		if mine.next(wire.FrameError, &refused); refused.ID != "once" || refused.Code != "client_id_reused" {
			t.Errorf("other bytes: %+v", refused)
		}
		his.say(frame) // what he was given is his own word when he says it
		his.next(wire.FrameSent, &other)
		for _, item := range n.readAll(h.Service, ada, both) {
			if want := map[int64]wire.UserID{first.Seq: ada.UserID, other.Seq: bob.UserID}[item.Seq]; item.Kind == wire.ItemMessage && item.Sender != want {
				t.Errorf("number %d is from %s, want %q", item.Seq, item.Sender, want)
			}
		}
	})
	t.Run("numbers that are none of a conversation's", func(t *testing.T) {
		w := h.follow(ada, map[wire.ConversationID]int64{id: math.MinInt64, "no uuid": math.MaxInt64})
		for _, frame := range []wire.ClientFrame{
			{Type: wire.FrameRange, After: -1}, {Type: wire.FrameRange, UpTo: -1}, {Type: wire.FrameRange, Limit: -1}, {Type: wire.FrameRange, After: math.MinInt64},
		} {
			frame.ID, frame.ConversationID = "odd", id
			w.say(frame)
			var refused wire.ErrorFrame
			if w.next(wire.FrameError, &refused); refused.ID != "odd" || refused.Code != "invalid_range" {
				t.Errorf("%+v: %+v", frame, refused)
			}
		}
		below, beyond := int64(-1), int64(math.MaxInt64)
		w.say(wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Read: &below})
		w.say(wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Read: &beyond})
		w.say(wire.ClientFrame{Type: wire.FrameSend, ID: "odd", ConversationID: id, ClientID: newClientID(), Body: "x", Clears: -1})
		var refused wire.ErrorFrame
		if w.next(wire.FrameError, &refused); refused.ID != "odd" || refused.Code == "internal" {
			t.Errorf("clears -1: %+v", refused)
		}
		w.say(wire.ClientFrame{Type: wire.FrameRange, ID: "end", ConversationID: id, After: math.MaxInt64, UpTo: math.MaxInt64, Limit: math.MaxInt})
		var page wire.PageFrame
		if w.next(wire.FramePage, &page); page.ID != "end" || len(page.Items) != 0 {
			t.Errorf("beyond the end: %+v", page)
		}
		if members, err := h.Members(t.Context(), ada, id); err != nil || members.Members[0].Read < 0 || members.Members[0].Read > page.Head {
			t.Errorf("the cursor stands at %+v, %v", members, err)
		}
	})
	t.Run("bad messages are refused, and the socket lives", func(t *testing.T) {
		w := h.follow(ada, nil)
		for want, frame := range map[string]wire.ClientFrame{
			"invalid_client_id": {Body: "x", ClientID: "1"},
			"invalid_message":   {ClientID: newClientID()},
			"too_large":         {ClientID: newClientID(), Body: strings.Repeat("x", maxBody+1)},
		} {
			frame.Type, frame.ID, frame.ConversationID = wire.FrameSend, want, id
			w.say(frame)
			var refused wire.ErrorFrame
			w.next(wire.FrameError, &refused)
			if refused.ID != want || !strings.Contains(want+" body_too_large payload_too_large", refused.Code) {
				t.Errorf("%s: %+v", want, refused)
			}
		}
	})
}

func TestSocketLimits(t *testing.T) {
	n := newNetwork(t)
	h := n.node(func(p *LiveParts) {
		p.Limits.UnauthenticatedSockets = 2
		p.Limits.SocketsPerSession = 1
		p.Limits.AuthenticateWithin = 2 * time.Second
		p.Limits.SocketSend = ratelimit.Rule{Burst: 2, Every: time.Hour}
		p.Limits.SocketFrame = ratelimit.Rule{Burst: 10, Every: time.Hour}
	})
	ada := newUser()
	id := n.group(h.Service, ada)
	t.Run("strangers", func(t *testing.T) {
		first, second := h.dial(), h.dial()
		if _, err := h.tryDial(nil); client.CodeOf(err) != "too_many_requests" {
			t.Errorf("a third stranger: %v", err)
		}
		wantClosed(t, first, wsconn.Unauthenticated) // who never authenticates
		wantClosed(t, second, wsconn.Unauthenticated)
		testkit.Eventually(t, patience, "room after strangers left", func() bool {
			socket, err := h.tryDial(nil)
			if err == nil {
				_ = socket.Close()
			}
			return err == nil
		})
		testkit.Eventually(t, patience, "all of them left", func() bool { return h.live.sockets.count() == 0 })
	})
	t.Run("a session's sockets", func(t *testing.T) {
		session := newUser()
		h.signIn(session)
		socket := h.dial()
		if _, err := socket.Authenticate(within(t), n.token(session, time.Now())); err == nil {
			t.Error("a second socket of the session was let in")
		}
		wantClosed(t, socket, wsconn.TooMany)
	})
	t.Run("messages and frames", func(t *testing.T) {
		w := h.follow(ada, nil)
		for i := range 3 {
			w.say(wire.ClientFrame{Type: wire.FrameSend, ID: fmt.Sprint(i), ConversationID: id, ClientID: newClientID(), Body: "x"})
		}
		var refused wire.ErrorFrame
		w.next(wire.FrameError, &refused)
		if refused.ID != "2" || refused.Code != "too_many_requests" || refused.RetryAfter < 1 {
			t.Errorf("got %+v", refused)
		}
		for range 10 {
			_ = w.Send(within(t), wire.ClientFrame{Type: wire.FramePing})
		}
		wantClosed(t, w.Socket, wsconn.TooMany)
	})
}

func TestSessionsAreChecked(t *testing.T) {
	n := newNetwork(t)
	often := func(p *LiveParts) {
		p.Limits.RecheckEvery, p.Limits.RecheckAlone = 50*time.Millisecond, 50*time.Millisecond
	}
	h := n.node(often)
	ada, bob, eve := newUser(), newUser(), newUser()
	mine, others := h.signIn(ada), h.signIn(bob)
	n.endSession(ada.SessionID) // and no hint comes
	wantClosed(t, mine.Socket, wsconn.Revoked)
	before := n.timesAsked()
	testkit.Eventually(t, patience, "several checks", func() bool { return n.timesAsked() > before+5 })
	others.wantNothing(wire.FrameReady)
	waiting := h.dial()
	n.breakDown(true)
	if _, err := waiting.Authenticate(within(t), n.token(eve, time.Now())); err == nil {
		t.Error("let in unasked")
	}
	wantClosed(t, waiting, wsconn.Unavailable)
	wantClosed(t, others.Socket, wsconn.Unavailable)
}
