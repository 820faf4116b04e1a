package video

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
)

type route struct {
	method, path string
	body         any
}

// routes are all there are, each with a body that is otherwise good; {id} is filled in.
func routes() []route {
	return []route{
		{"POST", "/v1/calls", wire.CallRequest{ConversationID: wire.ConversationID(uuid.NewString()), ClientID: newClientID(), Media: wire.MediaAudio}},
		{"GET", "/v1/calls", nil},
		{"POST", "/v1/calls/test", nil},
		{"GET", "/v1/calls/history", nil},
		{"PUT", "/v1/calls/history/seen", wire.CallsSeen{At: noon}},
		{"GET", "/v1/calls/{id}", nil},
		{"POST", "/v1/calls/{id}/decline", nil},
		{"POST", "/v1/calls/{id}/leave", nil},
	}
}

func TestEveryRouteHasItsAttack(t *testing.T) {
	e := echo.NewWithConfig(echo.Config{NoGroupAutoRegister404Routes: true})
	Routes(e, &Service{})
	for _, served := range e.Router().Routes() {
		name := served.Method + " " + strings.ReplaceAll(served.Path, ":id", "{id}")
		if !slices.ContainsFunc(routes(), func(r route) bool { return r.method+" "+r.path == name }) {
			t.Errorf("%s is not among the attacked", name)
		}
	}
}

// ask gives the status, the problem's code and the answer.
func (h *host) ask(method, path, authorization string, body any) (status int, code string, answer []byte) {
	t := h.world.t
	t.Helper()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = strings.NewReader(string(encoded))
	}
	request, err := http.NewRequestWithContext(t.Context(), method, h.url+path, content)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if answer, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	var problem wire.Problem
	if response.StatusCode >= 400 {
		if err := json.Unmarshal(answer, &problem); err != nil {
			t.Fatalf("no problem document: %s", answer)
		}
	}
	return response.StatusCode, problem.Code, answer
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada, bob, outsider := newUser(), newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob))
	forger, err := token.NewSigner(config.NewSecret(strings.Repeat("z", 40)))
	if err != nil {
		t.Fatal(err)
	}
	forged, _, err := forger.Sign(ada, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes() {
		path := strings.ReplaceAll(r.path, "{id}", string(call.ID))
		for name, attack := range map[string]struct{ authorization, code string }{
			"no_token":  {"", "token_missing"},
			"forged":    {"Bearer " + forged, "token_invalid"},
			"expired":   {"Bearer " + w.token(ada, time.Now().Add(-time.Hour)), "token_expired"},
			"not_token": {"Bearer x", "token_invalid"},
		} {
			if status, code, _ := h.ask(r.method, path, attack.authorization, r.body); status != http.StatusUnauthorized || code != attack.code {
				t.Errorf("%s %s with %s: %d %s", r.method, path, name, status, code)
			}
		}
		if !strings.Contains(r.path, "{id}") {
			continue
		}
		for _, odd := range []string{string(call.ID), uuid.NewString(), "x", "%2e%2e", strings.ToUpper(string(call.ID))} {
			who := ada
			if odd == string(call.ID) {
				who = outsider
			}
			path := strings.ReplaceAll(r.path, "{id}", odd)
			if status, _, _ := h.ask(r.method, path, "Bearer "+w.token(who, time.Now()), r.body); status != http.StatusNotFound {
				t.Errorf("%s %s: %d", r.method, path, status)
			}
		}
	}
	if found, err := h.Call(t.Context(), bob, call.ID); err != nil || found.State != wire.CallRinging {
		t.Errorf("an attack left a trace: %+v, %v", found, err)
	}
}

func TestOverHTTP(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada, bob := newUser(), newUser()
	as := func(who wire.Session) string { return "Bearer " + w.token(who, time.Now()) }
	request := wire.CallRequest{ConversationID: w.conversation(ada, bob), ClientID: newClientID(), Media: wire.MediaVideo}
	var call wire.Call
	for _, want := range []int{http.StatusCreated, http.StatusOK} {
		status, _, answer := h.ask("POST", "/v1/calls", as(ada), request)
		if status != want || json.Unmarshal(answer, &call) != nil {
			t.Fatalf("%d %s", status, answer)
		}
	}
	if status, _, _ := h.ask("POST", "/v1/calls/"+string(call.ID)+"/decline", as(bob), nil); status != http.StatusNoContent {
		t.Errorf("decline: %d", status)
	}
	if status, _, answer := h.ask("GET", "/v1/calls/"+string(call.ID), as(bob), nil); status != http.StatusOK || !strings.Contains(string(answer), `"reason":"declined"`) {
		t.Errorf("%d %s", status, answer)
	}
	for query, want := range map[string]int{"": http.StatusOK, "?limit=2": http.StatusOK, "?limit=0": http.StatusBadRequest, "?limit=x": http.StatusBadRequest, "?before=x": http.StatusBadRequest} {
		if status, _, answer := h.ask("GET", "/v1/calls/history"+query, as(bob), nil); status != want {
			t.Errorf("history%s: %d %s", query, status, answer)
		}
	}
	if status, _, _ := h.ask("PUT", "/v1/calls/history/seen", as(bob), wire.CallsSeen{At: time.Now()}); status != http.StatusNoContent {
		t.Errorf("seen: %d", status)
	}
	if status, code, _ := h.ask("GET", "/v1/calls/"+string(call.ID)+"/ws", as(bob), nil); status != http.StatusBadRequest || code != "upgrade_required" {
		t.Errorf("no socket: %d %s", status, code)
	}
}
