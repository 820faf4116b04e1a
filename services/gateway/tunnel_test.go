package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/client"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// chatService stands where chat would: it says every frame again, and what it was sent when the socket began.
type chatService struct {
	*httptest.Server

	mu    sync.Mutex
	first http.Header
	open  map[*wsconn.Conn]struct{}
	ended []wsconn.Code
}

func newChatService(t *testing.T) *chatService {
	t.Helper()
	s := &chatService{open: map[*wsconn.Conn]struct{}{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		testkit.Eventually(t, 10*time.Second, "the sockets gone", func() bool { open, _ := s.count(); return open == 0 })
		s.Close()
	})
	return s
}

func (s *chatService) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Served-By", "forged")
	if r.URL.Query().Has("full") {
		w.Header().Set("Content-Type", wire.ProblemMediaType)
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"status":429,"code":"too_many_requests"}`))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conn, err := wsconn.Accept(w, r, wsconn.Options{Subprotocol: wire.SocketProtocol})
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.first = r.Header
	s.open[conn] = struct{}{}
	conn.Begin(func(frame []byte) { _ = conn.Send(frame) }, func(code wsconn.Code) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = append(s.ended, code)
		delete(s.open, conn)
	})
}

func (s *chatService) closeAll(code wsconn.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close(code)
	}
}

func (s *chatService) told() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

func (s *chatService) count() (open, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), len(s.ended)
}

// withChat starts an edge in front of a chat service.
func withChat(t *testing.T, change ...func(*Config)) (*edge, *chatService) {
	t.Helper()
	chat := newChatService(t)
	return newEdge(t, newAuthService(t), append(change, func(c *Config) { c.Chat = mustURL(t, chat.URL) })...), chat
}

func wantClosed(t *testing.T, socket *client.Socket, want wsconn.Code) {
	t.Helper()
	err := socket.Wait(within(t))
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != int(want) {
		t.Errorf("the socket ended with %v, want code %d (%s)", err, want, want)
	}
}

func wantEcho(t *testing.T, socket *client.Socket, frame string) {
	t.Helper()
	if err := socket.Send(within(t), frame); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := socket.Receive(within(t), &got); err != nil || got != frame {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(frame), err)
	}
}

func TestTunnelCarriesBothWays(t *testing.T) {
	e, chat := withChat(t, behindProxy, func(c *Config) { c.Limits.ServiceTimeout = 50 * time.Millisecond })
	socket := e.dial(t, http.Header{
		wire.HeaderRealIP: {"198.51.100.7"}, "X-Forwarded-For": {"203.0.113.9"}, "Sec-Websocket-Protocol": {wire.SocketProtocol},
	})
	if socket.Answer.ServedBy != "app-09" || socket.Answer.RequestID == "" {
		t.Errorf("answered by %+v", socket.Answer)
	}
	if told := chat.told(); told.Get(wire.HeaderRealIP) != "198.51.100.7" || told.Get("X-Forwarded-For") != "" {
		t.Errorf("chat was told %v", told)
	}
	for _, size := range []int{1, 1 << 10, 32<<10 - 20, 60_000, 3} {
		wantEcho(t, socket, strings.Repeat("x", size))
	}
	testkit.Eventually(t, 5*time.Second, "life beyond a request's time", func() bool {
		began := time.Now()
		wantEcho(t, socket, "still here")
		return time.Since(began) < time.Second && e.openTunnels() == 1
	})
	_ = socket.Close()
	testkit.Eventually(t, 5*time.Second, "both ends gone", func() bool {
		open, ended := chat.count()
		return open == 0 && ended == 1 && e.openTunnels() == 0
	})
}

func TestTunnelTellsTheServicesCode(t *testing.T) {
	e, chat := withChat(t)
	socket := e.dial(t, nil)
	wantEcho(t, socket, "hello")
	chat.closeAll(wsconn.Revoked)
	wantClosed(t, socket, wsconn.Revoked)
	testkit.Eventually(t, 10*time.Second, "the tunnel gone", func() bool { return e.openTunnels() == 0 })
}

// When only the gateway stops, chat says goodbye in its place.
func TestStopSendsSocketsElsewhere(t *testing.T) {
	e, chat := withChat(t)
	socket := e.dial(t, nil)
	wantEcho(t, socket, "hello")
	stopped := make(chan struct{})
	go func() {
		e.stop()
		close(stopped)
	}()
	wantClosed(t, socket, wsconn.GoingAway)
	<-stopped
	testkit.Eventually(t, 5*time.Second, "chat's end gone", func() bool { open, _ := chat.count(); return open == 0 })
}

// A client that is cut off without a word leaves nothing behind.
func TestClientThatVanishes(t *testing.T) {
	e, chat := withChat(t)
	line := testkit.NewLine(t, strings.TrimPrefix(e.url, "http://"))
	far := &edge{url: "http://" + line.Address()}
	wantEcho(t, far.dial(t, nil), "hello")
	line.Cut()
	testkit.Eventually(t, 10*time.Second, "both ends gone", func() bool { open, _ := chat.count(); return open == 0 && e.openTunnels() == 0 })
}

func TestSocketRefusals(t *testing.T) {
	t.Run("origin", func(t *testing.T) {
		e, _ := withChat(t)
		for origin, allowed := range map[string]bool{
			"https://chat." + domain: true, "https://api." + domain: true,
			"http://chat." + domain: false, "https://evil.test": false, "null": false, "https://chat." + domain + ".evil.test": false,
			"https://files." + domain: false, "https://evil.test/chat." + domain: false,
		} {
			_, err := e.tryDial(t, http.Header{"Origin": {origin}})
			if (err == nil) != allowed {
				t.Errorf("from %s: %v", origin, err)
			}
			if !allowed && client.CodeOf(err) != "foreign_origin" {
				t.Errorf("from %s: refused with %v", origin, err)
			}
		}
	})
	t.Run("a bad token in the header", func(t *testing.T) {
		e, _ := withChat(t)
		if _, err := e.tryDial(t, http.Header{"Authorization": {"Bearer guess"}}); client.CodeOf(err) != "token_invalid" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		e, _ := withChat(t, func(c *Config) { c.Limits.Sockets = 1 })
		e.dial(t, nil)
		if _, err := e.tryDial(t, nil); client.CodeOf(err) != "unavailable" {
			t.Errorf("a second socket: %v", err)
		}
	})
	t.Run("no chat", func(t *testing.T) {
		e, chat := withChat(t)
		chat.Close()
		if _, err := e.tryDial(t, nil); client.CodeOf(err) != "unavailable" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what chat refuses", func(t *testing.T) {
		e, _ := withChat(t)
		_, response, err := websocket.DefaultDialer.DialContext(within(t), "ws"+strings.TrimPrefix(e.url, "http")+"/v1/ws?full", nil)
		if err == nil || response == nil || response.StatusCode != http.StatusTooManyRequests || response.Header.Get(wire.HeaderServedBy) != "app-09" {
			t.Errorf("got %+v, %v", response, err)
		}
		if response != nil {
			_ = response.Body.Close()
		}
	})
	t.Run("of a service without sockets", func(t *testing.T) {
		auth := newAuthService(t)
		e := newEdge(t, auth)
		got := e.get(t, "/v1/auth/ws", map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}).seen(t)
		if got.Header.Get("Upgrade") != "" {
			t.Errorf("passed on %v", got.Header)
		}
	})
}
