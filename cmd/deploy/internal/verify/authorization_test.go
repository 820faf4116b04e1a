package verify

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/services/client"
)

const fourRoutes = `
paths:
  /v1/auth/login: {post: {}}
  /v1/auth/sessions/{id}: {delete: {security: [{accessToken: []}]}}
  /v1/conversations: {get: {security: [{accessToken: []}]}}
  /v1/conversations/{id}/members:
    parameters: [{name: id, in: path}]
    get: {security: [{accessToken: []}]}
  /v1/calls/{id}/leave: {post: {security: [{accessToken: []}]}}
`

// guarded is a platform with a conversation that is its maker's alone, but for what is broken.
type guarded struct {
	*platform
	owner   string // the access token of who made the conversation
	members int
	left    bool // the call was left
}

func (p *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	path := r.Method + " " + r.URL.Path
	switch {
	case path == "GET /v1/openapi.yaml":
		_, _ = w.Write([]byte(fourRoutes + p.more()))
		return
	case !strings.HasPrefix(r.URL.Path, "/v1/conversations") && !strings.HasPrefix(r.URL.Path, "/v1/calls") && !strings.HasPrefix(r.URL.Path, "/v1/auth/sessions/"):
		p.platform.ServeHTTP(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("X-Served-By", "app-01")
	f, list := p.sessions[bearer], path == "GET /v1/conversations"
	switch {
	case f == nil && (!list || !p.broken["nobody is let in"]), f != nil && f.ended && (!list || !p.broken["logout is not known here"]):
		problem(w, http.StatusUnauthorized, "unauthenticated")
	case path == "POST /v1/conversations":
		p.owner, p.members = bearer, 1
		_ = json.NewEncoder(w).Encode(client.Conversation{ID: "c", Name: accountShown})
	case path == "GET /v1/conversations/c" && bearer == p.owner:
		_ = json.NewEncoder(w).Encode(client.Conversation{ID: "c", Name: accountShown})
	case path == "GET /v1/conversations/c/members" && (bearer == p.owner || p.broken["members are shown to all"]):
		_ = json.NewEncoder(w).Encode(map[string]any{"members": make([]client.Member, p.members)})
	case path == "POST /v1/calls", path == "GET /v1/calls/k" && bearer == p.owner:
		_ = json.NewEncoder(w).Encode(client.Call{ID: "k", Members: []client.CallMember{{State: map[bool]string{false: "joined", true: "left"}[p.left]}}})
	case list:
		_, _ = w.Write([]byte("{}"))
	default:
		p.members += map[bool]int{true: 1}[p.broken["refusals act"]]
		p.left = p.left || path == "POST /v1/calls/k/leave" && p.broken["refusals hang up"]
		problem(w, http.StatusNotFound, "no_such_conversation")
	}
}

func (p *guarded) more() string {
	if p.broken["a route is new"] {
		return "  /v1/drive/{id}: {get: {security: [{accessToken: []}]}}\n"
	}
	return ""
}

func (p *guarded) site(t *testing.T) *site {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	desc := describedLoopback()
	desc.EdgeTLS = "off"
	desc.Ports = []inventory.Port{{Name: "http", Group: "lb", Proto: "tcp", Port: strconv.Itoa(portOf(t, server.Listener.Addr()))}}
	return surveyed(t, desc, p)
}

func TestAuthorization(t *testing.T) {
	p := &guarded{platform: newPlatform()}
	found := climbed(t, p.site(t), climbAuthorization)
	wantPassed(t, found)
	if c := found["routes"]; c.Proved != "the platform lists 5 routes, 4 of them for who is logged in" {
		t.Errorf("got %+v", c)
	}
	if len(p.users) != 0 {
		t.Errorf("%d accounts stay", len(p.users))
	}
}

func TestAuthorization_broken_promises(t *testing.T) {
	for fault, want := range map[string]struct{ check, cause string }{
		"nobody is let in":         {"no token", "GET /v1/conversations without a token is accepted"},
		"logout is not known here": {"after logout", "GET /v1/conversations with the token of a session that was logged out is accepted"},
		"members are shown to all": {"another's things", "GET /v1/conversations/{id}/members lets an outsider in"},
		"a route is new":           {"another's things", "GET /v1/drive/{id} has no attack prepared"},
		"refusals act":             {"nothing was touched", "changed the conversation all the same"},
		"refusals hang up":         {"nothing was touched", "changed the call all the same"},
	} {
		t.Run(fault, func(t *testing.T) {
			p := &guarded{platform: newPlatform(fault)}
			found := climbed(t, p.site(t), climbAuthorization)
			if c := found[want.check]; c.Status != Failed || !strings.Contains(c.Cause, want.cause) {
				t.Errorf("%s: got %+v", want.check, c)
			}
			if len(p.users) != 0 {
				t.Errorf("%d accounts stay", len(p.users))
			}
		})
	}
}
