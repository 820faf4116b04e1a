package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"secureconnect/services/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func platform(t *testing.T, handle http.HandlerFunc, change ...func(*Options)) *Client {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	options := Options{BaseURL: server.URL}
	for _, apply := range change {
		apply(&options)
	}
	c, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestBaseURL(t *testing.T) {
	for _, raw := range []string{"", "api.example.test", "ftp://api.example.test", "https://", "https://api.example.test/v1", "https://a b"} {
		if _, err := New(Options{BaseURL: raw}); err == nil {
			t.Errorf("accepted %q", raw)
		}
	}
}

func TestRequest(t *testing.T) {
	var got *http.Request
	c := platform(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("X-Served-By", "app-02")
		w.Header().Set("X-Request-Id", "abc")
		_ = json.NewEncoder(w).Encode(User{Username: "linh"})
	}, func(o *Options) { o.PreferHost, o.UserAgent = "app-02", "test/1" })
	user, answer, err := c.Me(t.Context(), "token")
	if err != nil || user.Username != "linh" || answer != (Answer{200, "app-02", "abc"}) {
		t.Errorf("got %+v, %+v, %v", user, answer, err)
	}
	if got.Header.Get("Authorization") != "Bearer token" || got.Header.Get("Cookie") != "sc_app=app-02" || got.UserAgent() != "test/1" {
		t.Errorf("sent %v", got.Header)
	}
}

func TestDialToReplacesResolution(t *testing.T) {
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{BaseURL: "http://api.example.test:" + port, Dial: DialTo("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Logout(t.Context(), "token"); err != nil || host != "api.example.test:"+port {
		t.Errorf("asked for %q: %v", host, err)
	}
}

func TestPatience(t *testing.T) {
	var asked atomic.Int32
	busy := func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%2 == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = w.Write([]byte("{}"))
	}
	client := platform(t, busy)
	if _, _, err := client.Me(t.Context(), "token"); err == nil {
		t.Error("without patience, the answer is the caller's")
	}
	asked.Store(0)
	client.patience = 2 * time.Second
	if _, _, err := client.Me(t.Context(), "token"); err != nil {
		t.Errorf("with patience: %v", err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body, retryAfter string
		status                              int
		want                                Problem
	}{
		{
			"a problem document", "application/problem+json", `{"code":"too_many_requests","title":"Too Many Requests","detail":"Wait.","status":429}`, "7", 429,
			Problem{Code: "too_many_requests", Status: 429, Title: "Too Many Requests", Detail: "Wait.", RetryAfter: 7 * time.Second},
		},
		{"a proxy's page", "text/html", "<html>", "", 502, Problem{Status: 502, Title: "Bad Gateway"}},
		{"nothing", "", "", "soon", 503, Problem{Status: 503, Title: "Service Unavailable"}},
		{"a redirect, which is not followed", "", "", "", 308, Problem{Status: 308, Title: "Permanent Redirect"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := platform(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.Header().Set("Retry-After", c.retryAfter)
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			_, _, err := client.Login(t.Context(), Credentials{})
			var got *Problem
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			got.Answer = Answer{}
			if *got != c.want || CodeOf(err) != c.want.Code || got.Error() == "" {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for name, body := range map[string]string{"no JSON": "hello", "endless": strings.Repeat(" ", maxAnswer+1)} {
		c := platform(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		if _, _, err := c.Me(t.Context(), ""); err == nil || CodeOf(err) != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// upgraded serves sockets with handle.
func upgraded(t *testing.T, handle func(*websocket.Conn)) *Client {
	t.Helper()
	return platform(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		handle(conn)
	})
}

func TestSocketEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	t.Run("with the platform's code", func(t *testing.T) {
		c := upgraded(t, func(conn *websocket.Conn) {
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4501, "no"), time.Now().Add(time.Second))
			_, _, _ = conn.ReadMessage()
		})
		_, _, err := c.Socket(ctx, "token")
		var closed *CloseError
		if !errors.As(err, &closed) || closed.Code != 4501 || !closed.Final() || closed.Text != "no" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("with ErrClosed after Close, also with frames nobody took", func(t *testing.T) {
		c := upgraded(t, func(conn *websocket.Conn) {
			for conn.WriteMessage(websocket.TextMessage, []byte(`{}`)) == nil { // until the client left
			}
		})
		socket, err := c.DialSocket(ctx, PathSocket, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = socket.Close()
		_ = socket.Close()
		if err := socket.Wait(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("with the context", func(t *testing.T) {
		c := upgraded(t, func(conn *websocket.Conn) { _, _, _ = conn.ReadMessage() })
		socket, err := c.DialSocket(ctx, PathSocket, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = socket.Close() }()
		short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		defer stop()
		if err := socket.Receive(short, new(any)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("before it began, with the problem", func(t *testing.T) {
		c := platform(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"code":"foreign_origin"}`))
		})
		if _, err := c.DialSocket(ctx, PathSocket, nil); CodeOf(err) != "foreign_origin" {
			t.Errorf("got %v", err)
		}
	})
}

// Who is taken out and in again while a device hears nothing has two times to read: the rest of the first, and the second.
func TestDeviceThatComesBackIntoAConversation(t *testing.T) {
	asked := make(chan wire.ClientFrame, 1)
	items := func(seqs ...int64) (items []wire.Item) {
		for _, seq := range seqs {
			items = append(items, wire.Item{Seq: seq, Kind: wire.ItemMessage})
		}
		return items
	}
	c := upgraded(t, func(conn *websocket.Conn) {
		_, _, _ = conn.ReadMessage() // auth
		_ = conn.WriteJSON(wire.ReadyFrame{Type: wire.FrameReady, ExpiresAt: time.Now().Add(time.Hour)})
		_, _, _ = conn.ReadMessage() // sync
		for _, known := range []wire.ConversationID{"known", "new"} {
			_ = conn.WriteJSON(wire.ConversationFrame{Type: wire.FrameConversation, Conversation: wire.Conversation{ID: known, JoinedSeq: 10}})
			_ = conn.WriteJSON(wire.ItemsFrame{Type: wire.FrameItems, ConversationID: known, After: 9, Items: items(10), Through: 10, Head: 10})
		}
		var frame wire.ClientFrame
		_ = conn.ReadJSON(&frame)
		asked <- frame
		_ = conn.WriteJSON(wire.PageFrame{Type: wire.FramePage, ID: frame.ID, ConversationID: "known", Page: wire.Page{Items: items(4, 5, 10), Through: 10, Head: 10}})
		_, _, _ = conn.ReadMessage()
	})
	got := make(chan string, 10)
	device := c.Device(DeviceOptions{
		Token:   func(context.Context) (string, error) { return "token", nil },
		Cursors: map[wire.ConversationID]int64{"known": 3},
		Deliver: func(id wire.ConversationID, items []wire.Item, through int64) {
			for _, item := range items {
				got <- fmt.Sprint(id, " ", item.Seq)
			}
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- device.Run(ctx) }()
	for _, want := range []string{"new 10", "known 4", "known 5", "known 10"} {
		select {
		case item := <-got:
			if item != want {
				t.Errorf("given %s, want %s", item, want)
			}
		case <-ctx.Done():
			t.Fatalf("never given %s", want)
		}
	}
	if frame := <-asked; frame.Type != wire.FrameRange || frame.ConversationID != "known" || frame.After != 3 {
		t.Errorf("asked %+v", frame)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A platform that is gone without a goodbye is noticed; one that only pings is not given up.
func TestSilentSocketEnds(t *testing.T) {
	const pings, apart = 8, 250 * time.Millisecond
	last := make(chan time.Time, 1)
	c := upgraded(t, func(conn *websocket.Conn) {
		tick := time.NewTicker(apart)
		defer tick.Stop()
		for range pings {
			_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
			<-tick.C
		}
		last <- time.Now()
		_, _, _ = conn.ReadMessage()
		_, _, _ = conn.ReadMessage()
	})
	c.silence = pings * apart / 2
	socket, err := c.DialSocket(t.Context(), PathSocket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var timeout net.Error
	if err := socket.Wait(ctx); !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
		t.Errorf("ended with %v", err)
	}
	select {
	case <-last:
	default:
		t.Error("given up while the platform pinged")
	}
}

func TestPing(t *testing.T) {
	c := upgraded(t, func(conn *websocket.Conn) { _, _, _ = conn.ReadMessage() })
	socket, err := c.DialSocket(t.Context(), PathSocket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	for range 3 {
		if took, err := socket.Ping(t.Context()); err != nil || took <= 0 {
			t.Errorf("ping: %s, %v", took, err)
		}
	}
}

// A transport that has spoken HTTP/2 must not offer it for an upgrade, which HTTP/2 does not have.
func TestSocketOpensAfterCalls(t *testing.T) {
	upgrader := websocket.Upgrader{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/ws" {
			_, _ = fmt.Fprintf(w, `{"username": %q}`, r.Proto)
			return
		}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c, err := New(Options{BaseURL: server.URL, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if me, _, err := c.Me(t.Context(), "token"); err != nil || me.Username != "HTTP/2.0" {
		t.Fatalf("the call spoke %q, %v", me.Username, err)
	}
	socket, err := c.DialSocket(t.Context(), PathSocket, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
}

// The first call and the first socket of a client may come at once.
func TestSocketBesideCall(t *testing.T) {
	c := platform(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == PathSocket {
			_, _ = (&websocket.Upgrader{}).Upgrade(w, r, nil) // whoever asked hangs up
			return
		}
		_, _ = w.Write([]byte("{}"))
	})
	var both sync.WaitGroup
	both.Go(func() {
		if _, _, err := c.Me(t.Context(), ""); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() {
		socket, err := c.DialSocket(t.Context(), PathSocket, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_ = socket.Close()
	})
	both.Wait()
}
