package contacts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/auth"
	"secureconnect/services/auth/contacts"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// noUser is nobody's id, and before all others.
const noUser = wire.UserID("00000000-0000-0000-0000-000000000000")

const password = "correct horse battery"

// world is contacts beside auth, on real stores.
type world struct {
	*contacts.Service
	t       *testing.T
	clock   *testkit.Clock
	address config.Secret
	sql     *sqlstore.Store
	auth    *auth.Service
	server  *httptest.Server
}

func newWorld(t *testing.T) *world { return newWorldWith(t, nil) }

func newWorldWith(t *testing.T, hints *redis.Client) *world {
	t.Helper()
	clock, log := testkit.NewClock(), slog.New(slog.DiscardHandler)
	address := testkit.PostgresURL(t)
	sql := testkit.OpenPostgres(t, address)
	if _, err := sql.Migrate(t.Context(), log, auth.Migrations()...); err != nil {
		t.Fatal(err)
	}
	service, err := auth.New(auth.Parts{
		Log: log, SQL: sql, TokenSecret: config.NewSecret(strings.Repeat("k", 40)), Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	people := contacts.New(contacts.Parts{Log: log, SQL: sql, Redis: hints, Now: clock.Now})
	floor := web.NewServer(log, "auth", web.Config{})
	contacts.Routes(floor.Echo, people, service.Authenticate)
	server := httptest.NewServer(floor.Echo)
	t.Cleanup(server.Close)
	return &world{Service: people, t: t, clock: clock, address: address, sql: sql, auth: service, server: server}
}

const sqlInsertPerson = `INSERT INTO users (id, username, display_name, password_hash, created_at, updated_at)
VALUES ($1, $2, $3, '', $4, $4)`

// person makes an account that nobody logs in to: the rules are asked directly.
func (w *world) person(username string) wire.Session {
	w.t.Helper()
	id := wire.UserID(uuid.NewString())
	w.execute(sqlInsertPerson, id, username, strings.ToUpper(username), w.clock.Now())
	return wire.Session{UserID: id}
}

// login makes an account and gives its access token.
func (w *world) login(username string) (wire.Session, string) {
	w.t.Helper()
	if _, err := w.operator().Add(w.t.Context(), username, "", config.NewSecret(password), 0); err != nil {
		w.t.Fatal(err)
	}
	grant, err := w.auth.Login(w.t.Context(), auth.Credentials{Username: username, Password: config.NewSecret(password), Address: "192.0.2.1"})
	if err != nil {
		w.t.Fatal(err)
	}
	return grant.Session, grant.AccessToken
}

func (w *world) operator() auth.Operator { return auth.Operator{Service: w.auth, By: "test"} }

func (w *world) execute(statement string, arguments ...any) {
	w.t.Helper()
	err := w.sql.Single(w.t.Context(), func(q sqlstore.Querier) error {
		_, err := q.Exec(w.t.Context(), statement, arguments...)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// entry is what viewer's list says of other.
func (w *world) entry(viewer, other wire.Session) wire.Contact {
	w.t.Helper()
	page, err := w.List(w.t.Context(), viewer, noUser)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range page.Contacts {
		if c.ID == other.UserID {
			return c
		}
	}
	return wire.Contact{State: wire.RelationNone}
}

func (w *world) sees(viewer, other wire.Session) wire.Relation {
	w.t.Helper()
	return w.entry(viewer, other).State
}

func (w *world) wantSeen(a, b wire.Session, ofB, ofA wire.Relation) {
	w.t.Helper()
	if got := w.sees(a, b); got != ofB {
		w.t.Errorf("the first sees %s, want %s", got, ofB)
	}
	if got := w.sees(b, a); got != ofA {
		w.t.Errorf("the second sees %s, want %s", got, ofA)
	}
}

type deed func(ctx context.Context, caller wire.Session, other wire.UserID) error

func (w *world) ask(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := w.Ask(ctx, caller, other)
	return err
}

func (w *world) accept(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := w.Accept(ctx, caller, other)
	return err
}

// must does what has to succeed.
func (w *world) must(do deed, caller, other wire.Session) {
	w.t.Helper()
	if err := do(w.t.Context(), caller, other.UserID); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantCode(err error, code string) {
	w.t.Helper()
	if err == nil || apperr.CodeOf(err) != code {
		w.t.Errorf("got %v, want %s", err, code)
	}
}

// answer is what came back, whatever it was.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) call(accessToken, method, path, body string) answer {
	w.t.Helper()
	var content io.Reader = http.NoBody
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, content)
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if accessToken != "" {
		request.Header.Set("Authorization", "Bearer "+accessToken)
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
	return answer{status: response.StatusCode, header: response.Header, body: string(bytes.TrimSpace(read))}
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	var problem wire.Problem
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil {
		t.Fatalf("no problem document: %s", a.body)
	}
	return problem.Code
}
