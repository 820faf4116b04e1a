package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
)

func TestTokens(t *testing.T) {
	auth := newAuthService(t)
	e := newEdge(t, auth)
	session, good := auth.session(t, time.Now())
	t.Run("none is demanded", func(t *testing.T) { e.get(t, "/v1/users/me", nil).seen(t) })
	t.Run("a good one passes as it is", func(t *testing.T) {
		header := e.get(t, "/v1/users/me", bearer(good)).seen(t).Header
		if header.Get("Authorization") != "Bearer "+good {
			t.Errorf("the service saw %q", header.Get("Authorization"))
		}
	})

	stranger, err := token.NewSigner(config.NewSecret(strings.Repeat("x", 40)))
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := stranger.Sign(session, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"sub": string(session.UserID)}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, authorization, code string }{
		{"expired", "Bearer " + auth.token(t, session, time.Now().Add(-time.Hour)), "token_expired"},
		{"signed by somebody else", "Bearer " + foreign, "token_invalid"},
		{"unsigned", "Bearer " + unsigned, "token_invalid"},
		{"changed", "Bearer " + good[:len(good)-4] + "AAAA", "token_invalid"},
		{"no token", "Bearer x", "token_invalid"},
		{"an empty one", "Bearer ", "token_missing"},
		{"another scheme", "Basic YTpi", "token_missing"},
		{"endless", "Bearer " + strings.Repeat("a", 8000), "token_invalid"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			got := e.get(t, "/v1/users/me", map[string]string{"Authorization": c.authorization})
			got.wantProblem(t, http.StatusUnauthorized, c.code)
			if got.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate (RFC 9110 §11.6.1)")
			}
		})
	}
	t.Run("one nobody can judge is Unavailable, not wrong", func(t *testing.T) {
		e := newEdge(t, auth, func(c *Config) { c.Auth = mustURL(t, "http://127.0.0.1:1") })
		e.get(t, "/v1/users/me", bearer(good)).wantProblem(t, http.StatusServiceUnavailable, "unavailable")
	})
}

func TestRevokedToken(t *testing.T) {
	auth := newAuthService(t)
	store := testkit.RedisConfig(t)
	line := testkit.NewLine(t, store.Address)
	publisher := openRedis(t, store)
	e := newEdge(t, auth, func(c *Config) {
		c.Redis = store
		c.Redis.Address = line.Address()
	})
	signedIn, accessToken := auth.session(t, time.Now())
	e.get(t, "/v1/users/me", bearer(accessToken)).seen(t)
	if err := publisher.Set(t.Context(), wire.RevokedPrefix+string(signedIn.SessionID), 1, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	e.get(t, "/v1/users/me", bearer(accessToken)).wantProblem(t, http.StatusUnauthorized, session.CodeEnded)

	// Without Redis the service decides, which asks SQL: the request must reach it, and soon.
	line.Cut()
	start := time.Now()
	e.get(t, "/v1/users/me", bearer(accessToken)).seen(t)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("a request took %s without Redis", took)
	}
}

func tight(rule ratelimit.Rule) func(*Config) {
	return func(c *Config) { c.Limits.Anonymous = rule }
}

func TestLimits(t *testing.T) {
	auth := newAuthService(t)
	three := ratelimit.Rule{Burst: 3, Every: time.Hour}
	login := func(e *edge) answer { return e.do(t, http.MethodPost, "/v1/auth/login", "{}", nil) }
	spend := func(e *edge) {
		for range 3 {
			login(e).seen(t)
		}
	}
	t.Run("hosts count together through Redis", func(t *testing.T) {
		shared := withRedis(t)
		one, other := newEdge(t, auth, shared, tight(three)), newEdge(t, auth, shared, tight(three))
		spend(one)
		got := login(other)
		got.wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
		if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 3600 {
			t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
		}
		other.get(t, "/v1/users/me", nil).seen(t) // reading is not what the tight limit is for
	})
	t.Run("without Redis each host counts for itself", func(t *testing.T) {
		e := newEdge(t, auth, tight(three))
		spend(e)
		login(e).wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
	})
	t.Run("a client cannot choose the address it is counted under", func(t *testing.T) {
		e := newEdge(t, auth, tight(three))
		spend(e)
		for _, name := range []string{wire.HeaderRealIP, "X-Forwarded-For", "Forwarded", "X-Client-Ip"} {
			e.do(t, http.MethodPost, "/v1/auth/login", "{}", map[string]string{name: "198.51.100.7"}).
				wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
		}
	})
	t.Run("clients behind the load balancer are told apart", func(t *testing.T) {
		e := newEdge(t, auth, tight(three), behindProxy)
		spend(e)
		e.do(t, http.MethodPost, "/v1/auth/login", "{}", map[string]string{wire.HeaderRealIP: "198.51.100.7"}).seen(t)
	})
	t.Run("an IPv6 customer cannot wander through a /64", func(t *testing.T) {
		e := newEdge(t, auth, tight(ratelimit.Rule{Burst: 1, Every: time.Hour}), behindProxy)
		e.do(t, http.MethodPost, "/v1/auth/login", "{}", map[string]string{wire.HeaderRealIP: "2001:db8::1"}).seen(t)
		e.do(t, http.MethodPost, "/v1/auth/login", "{}", map[string]string{wire.HeaderRealIP: "2001:db8::2"}).
			wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
		e.do(t, http.MethodPost, "/v1/auth/login", "{}", map[string]string{wire.HeaderRealIP: "2001:db8:0:1::1"}).seen(t)
	})
	t.Run("bad tokens are counted like guesses", func(t *testing.T) {
		e := newEdge(t, auth, tight(three))
		for range 3 {
			e.get(t, "/v1/users/me", bearer("guess")).wantProblem(t, http.StatusUnauthorized, "token_invalid")
		}
		e.get(t, "/v1/users/me", bearer("guess")).wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
	})
	t.Run("a session is counted wherever it calls from", func(t *testing.T) {
		e := newEdge(t, auth, behindProxy, func(c *Config) { c.Limits.Session = three })
		_, accessToken := auth.session(t, time.Now())
		from := func(address string) answer {
			header := bearer(accessToken)
			header[wire.HeaderRealIP] = address
			return e.get(t, "/v1/users/me", header)
		}
		for _, address := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
			from(address).seen(t)
		}
		from("198.51.100.4").wantProblem(t, http.StatusTooManyRequests, "too_many_requests")
	})
}
