package gateway

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"secureconnect/services/client"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

func TestMain(m *testing.M) {
	// The Redis client looks once a second whether a dead Redis came back, and sees only then that it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const domain = "example.test"

// authService stands where auth would: it publishes keys, knows which sessions live and answers with what it was sent.
type authService struct {
	*httptest.Server
	signer *token.Signer

	mu     sync.Mutex
	broken bool
	handle http.HandlerFunc // for /v1, when it is set
}

// seen is what the service was sent.
type seen struct {
	Method string      `json:"method"`
	URI    string      `json:"uri"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

func newAuthService(t *testing.T) *authService {
	t.Helper()
	signer, err := token.NewSigner(config.NewSecret(strings.Repeat("s", 40)))
	if err != nil {
		t.Fatal(err)
	}
	a := &authService{signer: signer}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(a.unless(http.StatusOK)) })
	mux.HandleFunc("GET "+wire.PathJWKS, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a.signer.Keys()) })
	mux.HandleFunc("/", a.answerSeen)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *authService) unless(status int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken {
		return http.StatusServiceUnavailable
	}
	return status
}

func (a *authService) breakDown(broken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = broken
}

func (a *authService) answerSeen(w http.ResponseWriter, r *http.Request) {
	if a.handle != nil {
		a.handle(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Header, string(body)})
}

// session makes a live session and an access token for it, signed at.
func (a *authService) session(t *testing.T, at time.Time) (wire.Session, string) {
	t.Helper()
	session := wire.Session{
		UserID:    wire.UserID(uuid.NewString()),
		SessionID: wire.SessionID(uuid.NewString()),
		DeviceID:  "device",
	}
	return session, a.token(t, session, at)
}

func (a *authService) token(t *testing.T, session wire.Session, at time.Time) string {
	t.Helper()
	signed, _, err := a.signer.Sign(session, at)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// edge is a gateway under test, listening on a port of its own.
type edge struct {
	url     string
	auth    *authService
	stop    func()
	gateway *Gateway
}

func (e *edge) openTunnels() int {
	return e.gateway.tunnels.Count()
}

// newEdge starts a gateway before auth. Its peers are not trusted, as those of a gateway somebody reached directly.
func newEdge(t *testing.T, auth *authService, change ...func(*Config)) *edge {
	t.Helper()
	c := Config{
		Web:          web.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", BodyLimit: bodyLimit, StopGrace: 5 * time.Second},
		Redis:        redisstore.Config{Address: "127.0.0.1:1", PoolSize: 4}, // nobody is there
		Auth:         mustURL(t, auth.URL),
		Chat:         mustURL(t, auth.URL),
		Video:        mustURL(t, auth.URL),
		Host:         "app-09",
		PublicDomain: domain,
		EdgeTLS:      "internal_ca",
		Client:       "testdata/web",
		Limits:       defaultLimits(),
	}
	for _, apply := range change {
		apply(&c)
	}
	g, err := New(slog.New(slog.DiscardHandler), c)
	if err != nil {
		t.Fatal(err)
	}
	address, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway did not stop cleanly: %v", err)
		}
	})
	t.Cleanup(stop)
	return &edge{"http://" + address.String(), auth, stop, g}
}

func withRedis(t *testing.T) func(*Config) {
	t.Helper()
	store := testkit.RedisConfig(t)
	return func(c *Config) { c.Redis = store }
}

func behindProxy(c *Config) { c.Web.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

func mustURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// answer is a whole response.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem wire.Problem
}

func (e *edge) do(t *testing.T, method, path, body string, header map[string]string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{status: response.StatusCode, header: response.Header, body: string(content)}
	if response.Header.Get("Content-Type") == wire.ProblemMediaType {
		if err := json.Unmarshal(content, &got.problem); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func (e *edge) get(t *testing.T, path string, header map[string]string) answer {
	t.Helper()
	return e.do(t, http.MethodGet, path, "", header)
}

// seen is what the service behind the gateway was sent.
func (a answer) seen(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || a.status != http.StatusOK {
		t.Fatalf("the service was not reached: %d %s", a.status, a.body)
	}
	return s
}

func (a answer) wantProblem(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.problem.Code != code || a.problem.Status != status {
		t.Errorf("got %d %q, want %d %q: %s", a.status, a.problem.Code, status, code, a.body)
	}
}

func bearer(accessToken string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + accessToken}
}

// dial opens the socket, not signed in.
func (e *edge) dial(t *testing.T, header http.Header) *client.Socket {
	t.Helper()
	socket, err := e.tryDial(t, header)
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

func (e *edge) tryDial(t *testing.T, header http.Header) (*client.Socket, error) {
	t.Helper()
	c, err := client.New(client.Options{BaseURL: e.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	socket, err := c.DialSocket(t.Context(), client.PathSocket, header)
	if err == nil {
		t.Cleanup(func() { _ = socket.Close() })
	}
	return socket, err
}

// openRedis is another service's connection to the database of the gateway under test.
func openRedis(t *testing.T, store redisstore.Config) *redis.Client {
	t.Helper()
	opened := redisstore.Open(store)
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}
