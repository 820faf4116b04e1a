package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/client"
	"secureconnect/services/internal/ratelimit"
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

// signIn opens a socket and authenticates it.
func (e *edge) signIn(t *testing.T, accessToken string) *client.Socket {
	t.Helper()
	socket := e.dial(t, nil)
	if _, err := socket.Authenticate(within(t), accessToken); err != nil {
		t.Fatal(err)
	}
	return socket
}

func wantClosed(t *testing.T, socket *client.Socket, want wsconn.Code) {
	t.Helper()
	err := socket.Wait(within(t))
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != int(want) {
		t.Errorf("the socket ended with %v, want code %d (%s)", err, want, want)
	}
}

func TestSocketAuthenticates(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth)
	session, accessToken := auth.session(t, time.Now())
	socket := e.dial(t, nil)
	if socket.Answer.ServedBy != "app-09" || socket.Answer.RequestID == "" {
		t.Errorf("answered by %+v", socket.Answer)
	}
	ready, err := socket.Authenticate(within(t), accessToken)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(ready.ExpiresAt); ready.SessionID != session.SessionID || left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("ready says %+v", ready)
	}
	if _, err := socket.Ping(within(t)); err != nil {
		t.Error(err)
	}
	later := auth.token(t, session, time.Now().Add(10*time.Second))
	if renewed, err := socket.Authenticate(within(t), later); err != nil || !renewed.ExpiresAt.After(ready.ExpiresAt) {
		t.Errorf("renewed: %+v, %v", renewed, err)
	}
}

func TestSocketRefuses(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth)
	ended, endedToken := auth.session(t, time.Now())
	auth.end(ended.SessionID)
	session, accessToken := auth.session(t, time.Now())
	for _, c := range []struct {
		name    string
		kind    int
		content string
		want    wsconn.Code
	}{
		{"a bad token", websocket.TextMessage, `{"type":"auth","token":"guess"}`, wsconn.Unauthenticated},
		{"an expired token", websocket.TextMessage, authFrame(auth.token(t, session, time.Now().Add(-time.Hour))), wsconn.Unauthenticated},
		{"a good token of a session that auth has ended", websocket.TextMessage, authFrame(endedToken), wsconn.Revoked},
		{"another frame first", websocket.TextMessage, `{"type":"message"}`, wsconn.BadFrame},
		{"what is no JSON", websocket.TextMessage, `hello`, wsconn.BadFrame},
		{"a binary frame", websocket.BinaryMessage, authFrame(accessToken), wsconn.BadFrame},
		{"a frame too large", websocket.TextMessage, strings.Repeat("x", socketReadLimit+1), websocket.CloseMessageTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := e.dial(t, nil)
			if err := socket.SendRaw(within(t), c.kind, []byte(c.content)); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, socket, c.want)
		})
	}
	t.Run("another session's token on a socket in use", func(t *testing.T) {
		socket := e.signIn(t, accessToken)
		_, other := auth.session(t, time.Now())
		if _, err := socket.Authenticate(within(t), other); err == nil {
			t.Error("the socket changed hands")
		}
		wantClosed(t, socket, wsconn.Unauthenticated)
	})
	t.Run("a token in the URL", func(t *testing.T) {
		silent := newEdge(t, auth, func(c *Config) { c.Limits.AuthenticateWithin = 50 * time.Millisecond })
		conn, response, err := websocket.DefaultDialer.DialContext(within(t), "ws"+strings.TrimPrefix(silent.url, "http")+"/v1/ws?token="+accessToken, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = response.Body.Close()
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, int(wsconn.Unauthenticated)) {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("a plain request", func(t *testing.T) {
		e.get(t, "/v1/ws", nil).wantProblem(t, http.StatusBadRequest, "upgrade_required")
	})
	t.Run("when auth cannot be asked, for now", func(t *testing.T) {
		broken := newAuthService(t)
		e := newEdge(t, broken)
		_, accessToken := broken.session(t, time.Now())
		broken.breakDown(true)
		socket := e.dial(t, nil)
		if _, err := socket.Authenticate(within(t), accessToken); err == nil {
			t.Error("let in unasked")
		}
		wantClosed(t, socket, wsconn.Unavailable)
	})
}

func authFrame(accessToken string) string {
	return fmt.Sprintf(`{"type":"auth","token":%q}`, accessToken)
}

func TestSocketOrigin(t *testing.T) {
	e := newEdge(t, newAuthService(t))
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
}

func TestSocketThatNeverAuthenticates(t *testing.T) {
	e := newEdge(t, newAuthService(t), func(c *Config) { c.Limits.AuthenticateWithin = 50 * time.Millisecond })
	wantClosed(t, e.dial(t, nil), wsconn.Unauthenticated)
}

func TestSocketWhoseTokenExpires(t *testing.T) {
	auth := newAuthService(t)
	session, _ := auth.session(t, time.Now())
	// Signed so long ago that only the clocks' leeway keeps it good: it expired a moment ago.
	almost := auth.token(t, session, time.Now().Add(-10*time.Minute-time.Second))
	wantClosed(t, newEdge(t, auth).signIn(t, almost), wsconn.TokenExpired)
}

func TestStrangersAreBounded(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth, behindProxy, func(c *Config) { c.Limits.UnauthenticatedSockets = 2 })
	_, accessToken := auth.session(t, time.Now())
	first, second := e.dial(t, nil), e.dial(t, nil)
	_, err := e.tryDial(t, nil)
	if client.CodeOf(err) != "too_many_requests" {
		t.Fatalf("a third stranger: %v", err)
	}
	e.dial(t, http.Header{wire.HeaderRealIP: {"198.51.100.7"}}) // somebody else is not held up

	if _, err := first.Authenticate(within(t), accessToken); err != nil {
		t.Fatal(err)
	}
	third := e.dial(t, nil) // who signed in is no stranger
	_ = second.Close()
	_ = third.Close()
	testkit.Eventually(t, 5*time.Second, "room after strangers left", func() bool {
		_, err := e.tryDial(t, nil)
		return err == nil
	})
}

func TestSessionsSocketsAreBounded(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth, func(c *Config) { c.Limits.SocketsPerSession = 1 })
	_, accessToken := auth.session(t, time.Now())
	e.signIn(t, accessToken)
	socket := e.dial(t, nil)
	if _, err := socket.Authenticate(within(t), accessToken); err == nil {
		t.Error("a second socket of the session was let in")
	}
	wantClosed(t, socket, wsconn.TooMany)
}

func TestFramesAreBounded(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth, func(c *Config) { c.Limits.SocketFrame = ratelimit.Rule{Burst: 2, Every: time.Hour} })
	_, accessToken := auth.session(t, time.Now())
	socket := e.signIn(t, accessToken)
	for range 2 {
		if err := socket.SendRaw(within(t), websocket.TextMessage, []byte(authFrame(accessToken))); err != nil {
			t.Fatal(err)
		}
	}
	wantClosed(t, socket, wsconn.TooMany)
}

func TestRevokedSocket(t *testing.T) {
	t.Run("closes when Redis hints", func(t *testing.T) {
		auth := newAuthService(t)
		store := testkit.RedisConfig(t)
		publisher := openRedis(t, store)
		e := newEdge(t, auth, func(c *Config) { c.Redis = store })
		session, accessToken := auth.session(t, time.Now())
		_, othersToken := auth.session(t, time.Now())
		socket, other := e.signIn(t, accessToken), e.signIn(t, othersToken)
		hintUntilClosed(t, publisher, session.SessionID, socket)
		if _, err := other.Ping(within(t)); err != nil {
			t.Errorf("another session's socket: %v", err)
		}
	})
	t.Run("closes without Redis", func(t *testing.T) {
		auth := newAuthService(t)
		e := newEdge(t, auth, func(c *Config) { c.Limits.RecheckEvery = 50 * time.Millisecond })
		session, accessToken := auth.session(t, time.Now())
		socket := e.signIn(t, accessToken)
		auth.end(session.SessionID)
		wantClosed(t, socket, wsconn.Revoked)
	})
	t.Run("stays while auth says it lives", func(t *testing.T) {
		auth := newAuthService(t)
		e := newEdge(t, auth, func(c *Config) { c.Limits.RecheckEvery = 20 * time.Millisecond })
		_, accessToken := auth.session(t, time.Now())
		socket := e.signIn(t, accessToken)
		testkit.Eventually(t, 5*time.Second, "several re-checks", func() bool { return auth.timesAsked() > 5 })
		if _, err := socket.Ping(within(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("is asked to come back when nobody can vouch for it", func(t *testing.T) {
		auth := newAuthService(t)
		e := newEdge(t, auth, func(c *Config) { c.Limits.RecheckEvery = 20 * time.Millisecond })
		_, accessToken := auth.session(t, time.Now())
		socket := e.signIn(t, accessToken)
		auth.breakDown(true)
		wantClosed(t, socket, wsconn.Unavailable)
	})
}

func TestHintsComeBackWithRedis(t *testing.T) {
	auth := newAuthService(t)
	store := testkit.RedisConfig(t)
	line := testkit.NewLine(t, store.Address)
	publisher := openRedis(t, store)
	e := newEdge(t, auth, func(c *Config) {
		c.Redis = store
		c.Redis.Address = line.Address()
	})
	session, accessToken := auth.session(t, time.Now())
	socket := e.signIn(t, accessToken)
	line.Cut()
	line.Mend()
	hintUntilClosed(t, publisher, session.SessionID, socket)
}

// hintUntilClosed repeats the hint: who listens already cannot be asked, since all tests share one Redis.
func hintUntilClosed(t *testing.T, publisher *redis.Client, id wire.SessionID, socket *client.Socket) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- socket.Wait(within(t)) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			var closed *client.CloseError
			if !errors.As(err, &closed) || closed.Code != int(wsconn.Revoked) {
				t.Errorf("the socket ended with %v, want code %d", err, wsconn.Revoked)
			}
			return
		case <-tick.C:
			if err := publisher.Publish(t.Context(), wire.RevokedChannel, string(id)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestStopSendsSocketsElsewhere(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth)
	_, accessToken := auth.session(t, time.Now())
	member, stranger := e.signIn(t, accessToken), e.dial(t, nil)
	stopped := make(chan struct{})
	go func() {
		e.stop()
		close(stopped)
	}()
	wantClosed(t, member, wsconn.GoingAway)
	wantClosed(t, stranger, wsconn.GoingAway)
	<-stopped
}
