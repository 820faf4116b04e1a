package auth

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

const password = "correct horse battery"

var (
	tokenSecret = config.NewSecret(strings.Repeat("k", 40))
	// Tests of other things than hashing need not wait for it.
	cheap = cost{memory: 64, passes: 1, threads: 1}
)

// world is auth on real stores, spoken to over HTTP.
type world struct {
	*Service
	t      *testing.T
	clock  *testkit.Clock
	server *httptest.Server
	log    *syncBuffer
}

type option func(*Parts)

func withRedis(client *redis.Client) option { return func(p *Parts) { p.Redis = client } }
func withRegistration(mode string) option   { return func(p *Parts) { p.Registration = mode } }

func newWorld(t *testing.T, options ...option) *world {
	t.Helper()
	clock, log := testkit.NewClock(), &syncBuffer{}
	sql := testkit.Postgres(t)
	if _, err := sql.Migrate(t.Context(), slog.New(slog.DiscardHandler), Migrations()...); err != nil {
		t.Fatal(err)
	}
	parts := Parts{
		Log: slog.New(slog.NewJSONHandler(log, nil)), SQL: sql, TokenSecret: tokenSecret,
		Registration: RegistrationOpen, Now: clock.Now,
	}
	for _, apply := range options {
		apply(&parts)
	}
	service, err := New(parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	service.hasher.close()
	service.hasher = newHasher(cheap)

	floor := web.NewServer(parts.Log, "auth", web.Config{Proxies: config.From(nothing).Prefixes("", privateNetworks)})
	Routes(floor.Echo, service, true)
	server := httptest.NewServer(floor.Echo)
	t.Cleanup(server.Close)
	return &world{Service: service, t: t, clock: clock, server: server, log: log}
}

func nothing(string) (string, bool) { return "", false }

func (w *world) operator() Operator { return Operator{Service: w.Service, By: "test"} }

// add makes a user for good.
func (w *world) add(username string) wire.User {
	w.t.Helper()
	user, err := w.operator().Add(w.t.Context(), username, "", config.NewSecret(password), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return user
}

// answer is what came back, whatever it was.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	var problem wire.Problem
	if err := json.Unmarshal(a.body, &problem); err != nil {
		t.Fatalf("no problem document: %s", a.body)
	}
	return problem.Code
}

func into[T any](t *testing.T, a answer) (value T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &value); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return value
}

// call sends body as JSON; headers come in pairs.
func (w *world) call(method, path string, body any, headers ...string) answer {
	w.t.Helper()
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, content)
	if err != nil {
		w.t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := w.server.Client().Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: read}
}

func bearer(tokens wire.Tokens) []string {
	return []string{"Authorization", "Bearer " + tokens.AccessToken}
}

func (w *world) login(username string) wire.Tokens {
	w.t.Helper()
	a := w.call(http.MethodPost, "/v1/auth/login", wire.LoginRequest{Username: username, Password: password, DeviceName: "test"})
	if a.status != http.StatusOK {
		w.t.Fatalf("login: %d %s", a.status, a.body)
	}
	return into[wire.Tokens](w.t, a)
}

func (w *world) refresh(refresh string) answer {
	w.t.Helper()
	return w.call(http.MethodPost, "/v1/auth/refresh", wire.RefreshRequest{RefreshToken: refresh})
}

// lives tells whether the session's access token still opens its own door.
func (w *world) lives(tokens wire.Tokens) bool {
	w.t.Helper()
	return w.call(http.MethodGet, "/v1/users/me", nil, bearer(tokens)...).status == http.StatusOK
}

func (w *world) want(a answer, status int, code string) {
	w.t.Helper()
	if a.status != status {
		w.t.Errorf("got %d %s, want %d %s", a.status, a.body, status, code)
		return
	}
	if code != "" && a.code(w.t) != code {
		w.t.Errorf("got %s, want %s", a.code(w.t), code)
	}
}

// syncBuffer is a log that requests write at the same time.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buffer.Bytes(), []byte(text))
}
