package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

func TestForward(t *testing.T) {
	auth := newAuthService(t)
	t.Run("a request reaches its service unchanged", func(t *testing.T) {
		got := newEdge(t, auth).do(t, http.MethodPost, "/v1/users/me?search=a%20b&x=%2F", `{"a":1}`, map[string]string{"Content-Type": "application/json"})
		s := got.seen(t)
		if s.Method != http.MethodPost || s.URI != "/v1/users/me?search=a%20b&x=%2F" || s.Body != `{"a":1}` {
			t.Errorf("the service saw %s %s %s", s.Method, s.URI, s.Body)
		}
		if got.header.Get(wire.HeaderServedBy) != "app-09" || len(got.header.Values(wire.HeaderRequestID)) != 1 {
			t.Errorf("headers: %v", got.header)
		}
		if got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control: %q", got.header.Get("Cache-Control"))
		}
	})
	t.Run("what nobody serves is a problem document", func(t *testing.T) {
		e := newEdge(t, auth)
		for _, path := range []string{"/v1", "/v1/nothing", "/v1/authority", "/v1/usersx/me", "/metrics", "/", "/favicon.ico"} {
			e.get(t, path, nil).wantProblem(t, http.StatusNotFound, "no_such_route")
		}
	})
	t.Run("a service that is away is Unavailable, without its cause", func(t *testing.T) {
		e := newEdge(t, auth, func(c *Config) { c.Auth = mustURL(t, "http://127.0.0.1:1") })
		got := e.get(t, "/v1/users/me", nil)
		got.wantProblem(t, http.StatusServiceUnavailable, "unavailable")
		if strings.Contains(got.body, "127.0.0.1") || got.header.Get("Retry-After") == "" {
			t.Errorf("the answer: %v %s", got.header, got.body)
		}
	})
	t.Run("a service that does not answer in time is Unavailable", func(t *testing.T) {
		slow := newAuthService(t)
		slow.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		e := newEdge(t, slow, func(c *Config) { c.Limits.ServiceTimeout = 50 * time.Millisecond })
		e.get(t, "/v1/users/me", nil).wantProblem(t, http.StatusServiceUnavailable, "unavailable")
	})
	t.Run("a service cannot speak for the edge", func(t *testing.T) {
		loud := newAuthService(t)
		loud.handle = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Security-Policy", "default-src *")
			w.Header().Set(wire.HeaderServedBy, "elsewhere")
			w.Header().Set("Server", "secret/1.0")
			w.Header().Set("Cache-Control", "private")
		}
		got := newEdge(t, loud).get(t, "/v1/users/me", nil)
		for name, want := range answersOnly {
			if values := got.header.Values(name); len(values) != 1 || values[0] != want {
				t.Errorf("%s: %q", name, values)
			}
		}
		if got.header.Get(wire.HeaderServedBy) != "app-09" || got.header.Get("Server") != "" || got.header.Get("Cache-Control") != "private" {
			t.Errorf("headers: %v", got.header)
		}
	})
}

// What a client says of itself is believed only from the load balancer.
func TestForgedHeaders(t *testing.T) {
	auth := newAuthService(t)
	forged := map[string]string{
		wire.HeaderRealIP: "203.0.113.9", wire.HeaderRequestID: "chosen-by-client",
		"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9",
	}
	t.Run("from a stranger they are replaced", func(t *testing.T) {
		got := newEdge(t, auth).get(t, "/v1/users/me", forged)
		header := got.seen(t).Header
		if header.Get(wire.HeaderRealIP) != "127.0.0.1" || len(header.Values(wire.HeaderRealIP)) != 1 {
			t.Errorf("the service believes the client is %q", header.Values(wire.HeaderRealIP))
		}
		if id := header.Get(wire.HeaderRequestID); id == "chosen-by-client" || id == "" || id != got.header.Get(wire.HeaderRequestID) {
			t.Errorf("request id %q, answered %q", id, got.header.Get(wire.HeaderRequestID))
		}
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
			if header.Get(name) != "" {
				t.Errorf("%s reached the service: %q", name, header.Get(name))
			}
		}
	})
	t.Run("from the load balancer they are kept", func(t *testing.T) {
		header := newEdge(t, auth, behindProxy).get(t, "/v1/users/me", forged).seen(t).Header
		if header.Get(wire.HeaderRealIP) != "203.0.113.9" || header.Get(wire.HeaderRequestID) != "chosen-by-client" {
			t.Errorf("the service saw %q, %q", header.Get(wire.HeaderRealIP), header.Get(wire.HeaderRequestID))
		}
		if header.Get("X-Forwarded-For") != "" {
			t.Errorf("X-Forwarded-For reached the service: %q", header.Get("X-Forwarded-For"))
		}
	})
	t.Run("an address that is none is not passed on", func(t *testing.T) {
		header := newEdge(t, auth, behindProxy).get(t, "/v1/users/me", map[string]string{wire.HeaderRealIP: "a, b"}).seen(t).Header
		if header.Get(wire.HeaderRealIP) != "127.0.0.1" {
			t.Errorf("the service believes the client is %q", header.Get(wire.HeaderRealIP))
		}
	})
}

// /internal is for services; no spelling of it may pass.
func TestInternalIsUnreachable(t *testing.T) {
	e := newEdge(t, newAuthService(t))
	for _, path := range []string{
		"/internal/jwks", "//internal/jwks", "/Internal/jwks", "/INTERNAL/jwks", "/./internal/jwks", "/%2finternal/jwks", "/%69nternal/jwks",
		"/internal;x/jwks", "/v1/../internal/jwks", "/v1/auth/../../internal/jwks", "/v1/auth/%2e%2e/%2e%2e/internal/jwks",
		"/v1/auth/..%2f..%2finternal/jwks", "/v1/auth/..%5c..%5cinternal%5cjwks", `/v1/auth/..\..\internal\jwks`, "/v1/auth/..;/..;/internal/jwks",
		"/v1/auth/%252e%252e/internal/jwks", "/v1/auth//internal/jwks", "/v1/auth/.%2e/.%2e/internal/jwks", "/v1/auth/%00/../internal/jwks",
		"/v1/auth/;/../../internal/jwks", "http://auth/internal/jwks", "http://auth:8081/internal/jwks", "/v1/auth/",
		"/internal/sessions/0192f0c0-0000-7000-8000-000000000000",
	} {
		t.Run(path, func(t *testing.T) {
			status := e.raw(t, "GET", path, "").StatusCode
			if status != http.StatusNotFound && status != http.StatusBadRequest {
				t.Errorf("answered %d", status)
			}
		})
	}
}

// raw sends a request line as it is: a client library would tidy the path up.
func (e *edge) raw(t *testing.T, method, target, head string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n%s\r\n", method, target, head); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

func TestOversizeBody(t *testing.T) {
	e := newEdge(t, newAuthService(t))
	large := strings.Repeat("x", bodyLimit+1)
	t.Run("announced, before any of it is sent", func(t *testing.T) {
		head := fmt.Sprintf("Content-Length: %d\r\n", bodyLimit+1)
		response := e.raw(t, "POST", "/v1/auth/login", head)
		if response.StatusCode != http.StatusRequestEntityTooLarge || response.Header.Get(wire.HeaderServedBy) != "app-09" {
			t.Errorf("answered %d %v", response.StatusCode, response.Header)
		}
	})
	t.Run("in chunks of no announced sum", func(t *testing.T) {
		reader, request := chunked(t, e, large)
		defer func() { _ = reader.Close() }()
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %d", response.StatusCode)
		}
	})
	t.Run("as large as allowed", func(t *testing.T) {
		if s := e.do(t, http.MethodPost, "/v1/auth/login", large[:bodyLimit], nil).seen(t); len(s.Body) != bodyLimit {
			t.Errorf("the service got %d bytes", len(s.Body))
		}
	})
}

func chunked(t *testing.T, e *edge, body string) (net.Conn, *http.Request) {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write([]byte(body))
		_ = far.Close()
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/v1/auth/login", near)
	if err != nil {
		t.Fatal(err)
	}
	return near, request
}

func TestUpgradeIsNotForwarded(t *testing.T) {
	header := newEdge(t, newAuthService(t)).get(t, "/v1/auth/login", map[string]string{"Connection": "Upgrade", "Upgrade": "h2c"}).seen(t).Header
	if header.Get("Upgrade") != "" || header.Get("Connection") != "" {
		t.Errorf("the service saw %q %q", header.Get("Connection"), header.Get("Upgrade"))
	}
}

func TestForeignSites(t *testing.T) {
	auth := newAuthService(t)
	for _, c := range []struct {
		edgeTLS, method, origin string
		want                    int
	}{
		{"internal_ca", "POST", "https://api." + domain, 200},
		{"internal_ca", "POST", "https://chat." + domain + ":8443", 200},
		{"internal_ca", "POST", "", 200},
		{"internal_ca", "GET", "https://evil.test", 200},
		{"internal_ca", "POST", "https://evil.test", 403},
		{"internal_ca", "DELETE", "https://evil.test", 403},
		{"internal_ca", "POST", "http://api." + domain, 403},
		{"internal_ca", "POST", "https://files." + domain, 403},
		{"internal_ca", "POST", "https://api." + domain + ".evil.test", 403},
		{"internal_ca", "POST", "null", 403},
		{"off", "POST", "http://api." + domain, 200},
		{"off", "POST", "http://evil.test", 403},
	} {
		t.Run(c.edgeTLS+" "+c.method+" from "+c.origin, func(t *testing.T) {
			e := newEdge(t, auth, func(config *Config) { config.EdgeTLS = c.edgeTLS })
			header := map[string]string{}
			if c.origin != "" {
				header["Origin"] = c.origin
			}
			if got := e.do(t, c.method, "/v1/users/me", "", header); got.status != c.want {
				t.Errorf("answered %d, want %d: %s", got.status, c.want, got.body)
			}
		})
	}
}

func TestReady(t *testing.T) {
	auth := newAuthService(t)
	t.Run("without Redis it is ready and says so", func(t *testing.T) {
		got := newEdge(t, auth).get(t, "/readyz", nil)
		if got.status != http.StatusOK || !strings.Contains(got.body, `"redis":"degraded"`) {
			t.Errorf("answered %d %s", got.status, got.body)
		}
	})
	t.Run("without auth it is not", func(t *testing.T) {
		broken := newAuthService(t)
		broken.breakDown(true)
		e := newEdge(t, broken, withRedis(t))
		if got := e.get(t, "/readyz", nil); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, `"redis":"ok"`) {
			t.Errorf("answered %d %s", got.status, got.body)
		}
		if got := e.get(t, "/healthz", nil); got.status != http.StatusOK {
			t.Errorf("healthz answered %d", got.status)
		}
	})
}
