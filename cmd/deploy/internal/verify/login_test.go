package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/services/client"
)

// platform is an API that keeps every promise of sessions but the broken ones, and the shell beside it.
type platform struct {
	broken map[string]bool

	mu       sync.Mutex
	users    map[string]string // name → password
	born     map[string]time.Time
	codes    map[string]int
	sessions map[string]*family // by access and by refresh token
	serial   int
	removed  []string
}

// family is a session and its tokens.
type family struct {
	name    string
	ended   bool
	used    map[string]string // refresh token → successor
	current string
}

func newPlatform(broken ...string) *platform {
	p := &platform{
		broken: map[string]bool{}, users: map[string]string{}, born: map[string]time.Time{},
		codes: map[string]int{}, sessions: map[string]*family{},
	}
	for _, fault := range broken {
		p.broken[fault] = true
	}
	return p
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	host := "app-01"
	if cookie, err := r.Cookie("sc_app"); err == nil && !p.broken["a host is down"] {
		host = cookie.Value
	}
	w.Header().Set("X-Served-By", host)
	var body map[string]string
	_ = json.NewDecoder(r.Body).Decode(&body) // a request without a body has no fields
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/auth/login":
		p.form(w)
	case "POST /v1/auth/register":
		p.register(w, body)
	case "POST /v1/auth/login":
		p.login(w, body)
	case "POST /v1/auth/refresh":
		p.refresh(w, body["refresh_token"])
	case "GET /v1/users/me":
		p.me(w, bearer, host)
	case "POST /v1/auth/logout":
		if f := p.sessions[bearer]; f != nil {
			f.ended = !p.broken["logout does nothing"]
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		problem(w, http.StatusNotFound, "not_found")
	}
}

func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "status": status})
}

func (p *platform) form(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if !p.broken["no form"] {
		_, _ = fmt.Fprint(w, "<form method=post>")
	}
}

func (p *platform) register(w http.ResponseWriter, body map[string]string) {
	if p.codes[body["invite"]] < 1 && !p.broken["open"] {
		problem(w, http.StatusForbidden, "invite_required")
		return
	}
	p.codes[body["invite"]]--
	p.users[body["username"]] = body["password"]
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(client.User{Username: body["username"]})
}

func (p *platform) login(w http.ResponseWriter, body map[string]string) {
	password, known := p.users[body["username"]]
	switch {
	case p.broken["a store is away"]:
		problem(w, http.StatusServiceUnavailable, "unavailable")
	case !known && p.broken["unknown names are told"]:
		problem(w, http.StatusUnauthorized, "no_such_user")
	case !known || password != body["password"]:
		problem(w, http.StatusUnauthorized, "wrong_credentials")
	default:
		f := &family{name: body["username"], used: map[string]string{}}
		p.grant(w, f, p.token("refresh"))
	}
}

func (p *platform) token(kind string) string {
	p.serial++
	return kind + "-" + strconv.Itoa(p.serial)
}

func (p *platform) grant(w http.ResponseWriter, f *family, refresh string) {
	access := p.token("access")
	f.current = refresh
	p.sessions[access], p.sessions[refresh] = f, f
	_ = json.NewEncoder(w).Encode(client.Tokens{AccessToken: access, RefreshToken: refresh, TokenType: "Bearer", ExpiresIn: 600, User: client.User{Username: f.name}})
}

func (p *platform) refresh(w http.ResponseWriter, presented string) {
	f := p.sessions[presented]
	if f == nil || f.ended || strings.HasPrefix(presented, "access") && !p.broken["access tokens refresh"] {
		problem(w, http.StatusUnauthorized, "invalid_token")
		return
	}
	next, used := f.used[presented]
	switch {
	case used && f.used[next] != "" && !p.broken["reuse is borne with"]:
		f.ended = !p.broken["reuse ends nothing"]
		problem(w, http.StatusUnauthorized, "invalid_token")
		return
	case p.broken["tokens stay"]:
		next = presented
	case !used || p.broken["a repeat differs"]:
		next = p.token("refresh")
	}
	f.used[presented] = next
	p.grant(w, f, next)
}

func (p *platform) me(w http.ResponseWriter, bearer, host string) {
	f := p.sessions[bearer]
	dead := f == nil || f.ended && (!p.broken["app-02 misses revocations"] || host != "app-02")
	if dead || strings.HasPrefix(bearer, "refresh") && !p.broken["refresh tokens open"] {
		problem(w, http.StatusUnauthorized, "unauthenticated")
		return
	}
	_ = json.NewEncoder(w).Encode(client.User{Username: f.name})
}

// Run is `secureconnect user …` in the auth container of an app host.
func (p *platform) Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	at := slices.Index(argv, "deploy verify")
	if at < 0 || host == "app-01" && p.broken["app-01 has no containers"] {
		return nil, errors.New("no such container")
	}
	switch verb := argv[at+1]; verb {
	case "invite":
		uses, err := strconv.Atoi(argv[at+3])
		p.codes["code"] = uses
		return []byte("code\n"), err
	case "add":
		password, err := io.ReadAll(stdin)
		p.users[argv[at+2]] = strings.TrimSuffix(string(password), "\n")
		return nil, err
	case "list":
		var users []client.User
		for name, born := range p.born {
			users = append(users, client.User{Username: name, DisplayName: accountShown, CreatedAt: born})
		}
		return json.Marshal(users)
	case "remove":
		delete(p.users, argv[at+2])
		p.removed = append(p.removed, argv[at+2])
		return nil, nil
	}
	return nil, errors.New("no such command")
}

func (p *platform) site(t *testing.T) *site {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	desc := describedLoopback()
	desc.EdgeTLS = "off"
	desc.Ports = []inventory.Port{{Name: "http", Group: "lb", Proto: "tcp", Port: strconv.Itoa(portOf(t, server.Listener.Addr()))}}
	return surveyed(t, desc, p)
}

func TestLogin_by_every_mode_of_registration(t *testing.T) {
	for _, mode := range []string{"invite", "open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			p := newPlatform(mode)
			s := p.site(t)
			s.Registration = mode
			found := climbed(t, s, climbLogin)
			wantPassed(t, found)
			for _, check := range []string{"reuse on app-01", "reuse on app-02", "login through lb-01", "accounts removed"} {
				if found[check].Status != Passed {
					t.Errorf("%s was not proved", check)
				}
			}
			if len(p.users) != 0 || len(p.removed) != 2 {
				t.Errorf("%d accounts stay, %d were removed", len(p.users), len(p.removed))
			}
		})
	}
}

func TestLogin_broken_promises(t *testing.T) {
	for fault, check := range map[string]string{
		"no form":                   "form",
		"unknown names are told":    "wrong password on app-01",
		"refresh tokens open":       "token kinds on app-01",
		"access tokens refresh":     "token kinds on app-01",
		"tokens stay":               "rotation on app-01",
		"a repeat differs":          "rotation on app-01",
		"reuse is borne with":       "reuse on app-01",
		"reuse ends nothing":        "reuse on app-01",
		"app-02 misses revocations": "reuse on app-01",
		"logout does nothing":       "logout on app-01",
		"a store is away":           "login on app-01",
		"a host is down":            "register on app-02",
	} {
		t.Run(fault, func(t *testing.T) {
			p := newPlatform(fault)
			found := climbed(t, p.site(t), climbLogin)
			if c := found[check]; c.Status != Failed || c.Look == "" {
				t.Errorf("%s: got %+v", check, c)
			}
			if len(p.users) != 0 {
				t.Errorf("%d accounts stay", len(p.users))
			}
		})
	}
}

func TestLogin_another_host_answers(t *testing.T) {
	found := climbed(t, newPlatform("a host is down").site(t), climbLogin)
	c := found["register on app-02"]
	if c.Cause != "app-01 answered for app-02, which takes no traffic" || !strings.Contains(c.Look, "docker compose ps on app-02") {
		t.Errorf("got %+v", c)
	}
}

func TestLogin_commands_go_to_an_app_host_that_runs(t *testing.T) {
	p := newPlatform("app-01 has no containers")
	if found := climbed(t, p.site(t), climbLogin); found["accounts removed"].Status != Passed || found["invite"].Status != Passed {
		t.Errorf("got %+v", found)
	}
}

func TestLogin_cancelled_run_leaves_no_account(t *testing.T) {
	p := newPlatform()
	s := p.site(t)
	ctx, cancel := context.WithCancel(t.Context())
	made := make(chan Check, 256)
	rung := &proofs{rung: "login", made: made}
	g := &guests{site: s}
	if _, err := g.invite(ctx, 2); err != nil {
		t.Fatal(err)
	}
	v, err := g.visitor("lb-01", "app-01")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.arrive(ctx, v); err != nil {
		t.Fatal(err)
	}
	cancel()
	g.leave(ctx, rung)
	if c := <-made; c.Status != Passed || len(p.users) != 0 {
		t.Errorf("got %+v, %d accounts stay", c, len(p.users))
	}
}

func TestLogin_removes_what_a_dead_ladder_left_and_nobody_else(t *testing.T) {
	p := newPlatform()
	long, short := time.Now().Add(-2*time.Hour), time.Now()
	p.born = map[string]time.Time{"verify-0123456789ab": long, "verify-ba9876543210": short, "verify-me": long}
	climbed(t, p.site(t), climbLogin)
	if !slices.Contains(p.removed, "verify-0123456789ab") {
		t.Error("the old account stays")
	}
	if slices.Contains(p.removed, "verify-ba9876543210") || slices.Contains(p.removed, "verify-me") {
		t.Errorf("somebody else's account was removed: %v", p.removed)
	}
}
