package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// keyring checks tokens without asking anybody for keys.
type keyring struct{ *token.Verifier }

func (k keyring) Verify(_ context.Context, raw string, now time.Time) (wire.Session, error) {
	return k.Verifier.Verify(raw, now)
}

// door is chat's HTTP interface, and who may sign tokens for it.
type door struct {
	t      *testing.T
	server *httptest.Server
	signer *token.Signer
}

func newDoor(t *testing.T, s *Service) *door {
	t.Helper()
	signer, err := token.NewSigner(config.NewSecret(strings.Repeat("k", 40)))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier(signer.Keys())
	if err != nil {
		t.Fatal(err)
	}
	s.verifier = keyring{verifier}
	floor := web.NewServer(quiet, "chat", web.Config{BodyLimit: bodyLimit})
	Routes(floor.Echo, s)
	server := httptest.NewServer(floor.Echo)
	t.Cleanup(server.Close)
	return &door{t: t, server: server, signer: signer}
}

func (d *door) sign(as wire.Session, at time.Time) string {
	d.t.Helper()
	raw, _, err := d.signer.Sign(as, at)
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

// ask gives the status and the problem's code.
func (d *door) ask(method, path, authorization string, body any) (status int, code string) {
	d.t.Helper()
	content, isText := body.(string)
	if body != nil && !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		content = string(encoded)
	}
	request, err := http.NewRequestWithContext(d.t.Context(), method, d.server.URL+path, strings.NewReader(content))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := d.server.Client().Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var problem wire.Problem
	if response.StatusCode >= 400 {
		if err := json.Unmarshal(answer, &problem); err != nil {
			d.t.Fatalf("no problem document: %s", answer)
		}
	}
	return response.StatusCode, problem.Code
}

type route struct {
	method, path string
	body         any
}

// routes are all there are, each with a body that is otherwise good; {id} and {user} are filled in.
func routes() []route {
	return []route{
		{"POST", "/v1/conversations", wire.ConversationRequest{Kind: wire.KindGroup, Name: "x", ClientID: newClientID()}},
		{"GET", "/v1/conversations", nil},
		{"GET", "/v1/conversations/{id}", nil},
		{"PATCH", "/v1/conversations/{id}", map[string]any{"name": "Taken over", "message_life": 60}},
		{"GET", "/v1/conversations/{id}/members", nil},
		{"POST", "/v1/conversations/{id}/members", wire.MembersRequest{UserIDs: []wire.UserID{newUser().UserID}}},
		{"PATCH", "/v1/conversations/{id}/members/{user}", wire.RoleChange{Role: wire.RoleAdmin}},
		{"DELETE", "/v1/conversations/{id}/members/{user}", nil},
		{"GET", "/v1/conversations/{id}/messages", nil},
		{"POST", "/v1/conversations/{id}/messages", text("x")},
		{"PUT", "/v1/conversations/{id}/cursor", map[string]int{"read": 1}},
	}
}

func (r route) of(id wire.ConversationID, user wire.UserID) string {
	return strings.NewReplacer("{id}", string(id), "{user}", string(user)).Replace(r.path)
}

func TestEveryRouteHasItsAttack(t *testing.T) {
	e := echo.NewWithConfig(echo.Config{NoGroupAutoRegister404Routes: true})
	Routes(e, &Service{})
	for _, served := range e.Router().Routes() {
		if strings.HasPrefix(served.Path, "/internal/") {
			continue // for services; the gateway passes nothing there
		}
		name := served.Method + " " + strings.NewReplacer(":id", "{id}", ":user_id", "{user}").Replace(served.Path)
		if !slices.ContainsFunc(routes(), func(r route) bool { return r.method+" "+r.path == name }) {
			t.Errorf("%s is not among the attacked", name)
		}
	}
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	d := newDoor(t, s)
	ada, bob, removed, outsider := newUser(), newUser(), newUser(), newUser()
	id := w.group(s, ada, bob, removed)
	w.send(s, ada, id, "secret")
	if err := s.Remove(t.Context(), ada, id, removed.UserID); err != nil {
		t.Fatal(err)
	}
	before := w.readAll(s, ada, id)
	forger, err := token.NewSigner(config.NewSecret(strings.Repeat("z", 40)))
	if err != nil {
		t.Fatal(err)
	}
	forged, _, err := forger.Sign(ada, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes() {
		path := r.of(id, bob.UserID)
		for name, attack := range map[string]struct{ authorization, code string }{
			"no_token":  {"", "token_missing"},
			"forged":    {"Bearer " + forged, "token_invalid"},
			"expired":   {"Bearer " + d.sign(ada, time.Now().Add(-time.Hour)), "token_expired"},
			"not_token": {"Bearer x", "token_invalid"},
		} {
			if status, code := d.ask(r.method, path, attack.authorization, r.body); status != http.StatusUnauthorized || code != attack.code {
				t.Errorf("%s %s with %s: %d %s", r.method, path, name, status, code)
			}
		}
		if !strings.Contains(r.path, "{id}") {
			continue
		}
		for name, who := range map[string]wire.Session{"outsider": outsider, "removed": removed} {
			if name == "removed" && r.method == "GET" && strings.HasSuffix(r.path, "/messages") {
				continue // sees what was
			}
			status, code := d.ask(r.method, path, "Bearer "+d.sign(who, time.Now()), r.body)
			if status != http.StatusNotFound || code != "no_such_conversation" {
				t.Errorf("%s: %s %s: %d %s", name, r.method, path, status, code)
			}
		}
		for _, odd := range []wire.ConversationID{wire.ConversationID(uuid.NewString()), "x", "%2e%2e", wire.ConversationID(strings.ToUpper(string(id)))} {
			if status, code := d.ask(r.method, r.of(odd, bob.UserID), "Bearer "+d.sign(ada, time.Now()), r.body); status != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", r.method, r.of(odd, bob.UserID), status, code)
			}
		}
	}
	if after := w.readAll(s, ada, id); len(after) != len(before) {
		t.Errorf("an attack left a trace: %+v", after[len(before):])
	}
}

func TestAttacksOfMembers(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	d := newDoor(t, s)
	ada, bob := newUser(), newUser()
	id := w.group(s, ada, bob)
	messages := "/v1/conversations/" + string(id) + "/messages"
	as := func(who wire.Session) string { return "Bearer " + d.sign(who, time.Now()) }

	t.Run("sender_is_the_servers_word", func(t *testing.T) {
		status, code := d.ask("POST", messages, as(bob), map[string]any{"client_id": newClientID(), "body": "x", "sender": ada.UserID})
		if status != http.StatusBadRequest || code != "invalid_body" {
			t.Errorf("a forged sender: %d %s", status, code)
		}
	})
	t.Run("somebody_elses_client_id_is_another_message", func(t *testing.T) {
		request := text("of ada")
		first, err := s.Send(t.Context(), ada, id, request)
		if err != nil {
			t.Fatal(err)
		}
		request.Body = "of bob"
		second, err := s.Send(t.Context(), bob, id, request)
		if err != nil || second.Seq == first.Seq {
			t.Errorf("got %+v and %+v, %v", first, second, err)
		}
		w.wantBodies(w.readAll(s, ada, id), "of ada", "of bob")
	})
	t.Run("member_sees_nothing_from_before", func(t *testing.T) {
		late := newUser()
		if _, err := s.Add(t.Context(), ada, id, []wire.UserID{late.UserID}); err != nil {
			t.Fatal(err)
		}
		w.wantBodies(w.readAll(s, late, id))
		_, err := s.Send(t.Context(), late, id, wire.SendRequest{ClientID: newClientID(), Body: "x", Clears: 2})
		wantCode(t, err, "no_such_message")
	})
	t.Run("odd_ranges_are_refused", func(t *testing.T) {
		for _, query := range []string{"?after=-1", "?after=x", "?up_to=1.5", "?limit=-5", "?after=99999999999999999999"} {
			if status, code := d.ask("GET", messages+query, as(bob), nil); status != http.StatusBadRequest || code != "invalid_range" {
				t.Errorf("%s: %d %s", query, status, code)
			}
		}
		if status, _ := d.ask("GET", messages+"?after=9223372036854775807&limit=9223372036854775807", as(bob), nil); status != http.StatusOK {
			t.Errorf("beyond the end: %d", status)
		}
	})
	t.Run("giants_are_refused", func(t *testing.T) {
		if status, _ := d.ask("POST", messages, as(bob), text(strings.Repeat("x", bodyLimit))); status != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", status)
		}
		if status, _ := d.ask("POST", messages, as(bob), text(strings.Repeat(`"`, maxBody))); status != http.StatusOK {
			t.Errorf("the largest message, all of it escaped: %d", status)
		}
	})
	t.Run("names_are_plain_text", func(t *testing.T) {
		for _, name := range []string{"", " ", strings.Repeat("x", maxName+1), "a\nb", "a\u202eb"} {
			_, err := s.Change(t.Context(), ada, id, wire.ConversationChange{Name: &name})
			wantCode(t, err, "invalid_name")
		}
	})
}

// Whatever is sent is stored unchanged, or refused with a kind.
func FuzzSendBody(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"client_id":"0192f0c0-0000-7000-8000-000000000000","body":"x"}`, `{"client_id":"","body":"\u0000"}`,
		`{"client_id":"0192f0c0-0000-7000-8000-000000000000","body":"x","clears":-1}`, `{"body":"\ud800"}`, `[]`, `{"clears":1e99}`,
		`{"client_id":"0192F0C0-0000-7000-8000-000000000000","body":"x"}{}`,
	} {
		f.Add(seed)
	}
	made := time.UnixMilli(0x0192f0c00000)
	s := &Service{now: func() time.Time { return made }}
	f.Fuzz(func(t *testing.T, content string) {
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(content))
		request.Header.Set("Content-Type", "application/json")
		e := echo.New()
		body, err := web.Bind[wire.SendRequest](e.NewContext(request, httptest.NewRecorder()))
		if err == nil {
			err = s.checkRequest(body)
		}
		if err != nil {
			if kind := apperr.KindOf(err); kind != apperr.Invalid && kind != apperr.TooLarge && kind != apperr.NotFound {
				t.Fatalf("%q: %v", content, err)
			}
			return
		}
		if len(body.Body) == 0 || len(body.Body) > maxBody || body.Clears < 0 {
			t.Fatalf("accepted %q", content)
		}
		if id, _, err := wire.ParseClientID(string(body.ClientID)); err != nil || id != body.ClientID {
			t.Fatalf("accepted the id %q", body.ClientID)
		}
		if again := hashOf(body); !bytes.Equal(again, hashOf(wire.SendRequest{Body: body.Body, Clears: body.Clears})) {
			t.Fatal("a hash of something else")
		}
	})
}
