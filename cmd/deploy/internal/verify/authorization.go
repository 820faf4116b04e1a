package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"gopkg.in/yaml.v3"

	"secureconnect/services/client"
)

// climbAuthorization asks for every route of the platform's own table as nobody, as somebody who has logged out, and as an outsider.
func climbAuthorization(ctx context.Context, s *site, p *proofs) {
	g := &guests{site: s}
	defer g.leave(ctx, p)
	a := &outsider{site: s}
	log := "docker compose logs gateway on " + s.first("app")
	if !p.prove(ctx, "routes", log, a.readTable) {
		return
	}
	if !p.prove(ctx, "people", "docker compose logs auth chat on "+s.first("app"), func(ctx context.Context) (string, error) { return a.meet(ctx, g) }) {
		return
	}
	p.together(ctx,
		step{"no token", log, a.nobody},
		step{"after logout", log, a.loggedOut},
	)
	p.prove(ctx, "another's things", "docker compose logs auth chat on "+s.first("app"), a.anothers)
	p.prove(ctx, "nothing was touched", "docker compose logs chat on "+s.first("app"), a.untouched)
}

// outsider tries what belongs to a victim.
type outsider struct {
	*site
	table        []operation
	self, victim *visitor
	ended        string // the access token of a session of self that was logged out
	group        client.Conversation
	call         client.Call // that goes on there
}

// operation is a route of the public interface.
type operation struct {
	method, path string
	private      bool // answers nobody but who is logged in
}

func (o operation) String() string { return o.method + " " + o.path }

// attack is what an outsider tries on a route with an id in it.
type attack struct {
	body any
	// own says that the route is about the caller's own things whoever's id is in it, so there is nothing to refuse.
	own bool
}

// attacks has each private route with an id in its path; one that is missing here is a failure, so that a new route gets its attack.
func (a *outsider) attacks() map[string]attack {
	name := "outsider"
	return map[string]attack{
		"DELETE /v1/auth/sessions/{id}":                   {},
		"GET /v1/users/{id}":                              {own: true}, // a name is shown to whoever knows the id
		"DELETE /v1/contacts/{user_id}":                   {},
		"POST /v1/contacts/{user_id}/accept":              {},
		"POST /v1/contacts/{user_id}/reject":              {},
		"PUT /v1/contacts/{user_id}/block":                {own: true},
		"DELETE /v1/contacts/{user_id}/block":             {own: true},
		"GET /v1/conversations/{id}":                      {},
		"PATCH /v1/conversations/{id}":                    {body: client.ConversationChange{Name: &name}},
		"GET /v1/conversations/{id}/members":              {},
		"POST /v1/conversations/{id}/members":             {body: map[string]any{"user_ids": []client.UserID{a.self.tokens.User.ID}}},
		"PATCH /v1/conversations/{id}/members/{user_id}":  {body: map[string]string{"role": "member"}},
		"DELETE /v1/conversations/{id}/members/{user_id}": {},
		"GET /v1/conversations/{id}/messages":             {},
		"POST /v1/conversations/{id}/messages":            {body: client.Message{ClientID: newMessageID(), Body: name}},
		"PUT /v1/conversations/{id}/cursor":               {body: map[string]int64{"read": 1}},
		"GET /v1/calls/{id}":                              {},
		"POST /v1/calls/{id}/decline":                     {},
		"POST /v1/calls/{id}/leave":                       {},
		"PUT /v1/keys/sendToDevice/{type}/{txn}":          {body: map[string]any{"messages": map[string]any{}}, own: true},
		"GET /v1/keys/backup/version/{version}":           {},
		"DELETE /v1/keys/backup/version/{version}":        {},
	}
}

func newMessageID() client.ClientID { return client.ClientID(uuid.Must(uuid.NewV7()).String()) }

// readTable reads the interface as the gateway documents it; a test of the services holds it against their routers.
func (a *outsider) readTable(ctx context.Context) (string, error) {
	browser := a.httpClient(a.first("lb"))
	defer browser.CloseIdleConnections()
	at := a.url(a.Names.API, "/v1/openapi.yaml")
	got, err := answer(ctx, browser, http.MethodGet, at, nil)
	if err != nil {
		return "", a.explainTLS(err, a.Names.API, a.Hosts[a.first("lb")].PublicAddress)
	}
	if got.status != http.StatusOK {
		return "", fail("docker compose logs gateway on "+listing(a.Groups["app"]), "GET %s answers %d", at, got.status)
	}
	if a.table, err = operations(got.body); err != nil {
		return "", err
	}
	private := 0
	for _, o := range a.table {
		if o.private {
			private++
		}
	}
	if private == 0 {
		return "", fail("services/gateway/openapi.yaml", "%s lists no route that wants a login", at)
	}
	return fmt.Sprintf("the platform lists %d routes, %d of them for who is logged in", len(a.table), private), nil
}

// operations are the routes of an OpenAPI document, in a stable order.
func operations(document []byte) ([]operation, error) {
	var read struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(document, &read); err != nil {
		return nil, fail("services/gateway/openapi.yaml", "read the list of routes: %v", err)
	}
	var table []operation
	for _, path := range slices.Sorted(maps.Keys(read.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(read.Paths[path])) {
			if strings.ToLower(method) != method || method == "parameters" {
				continue
			}
			var described struct {
				Security []map[string][]string `yaml:"security"`
			}
			node := read.Paths[path][method]
			if err := node.Decode(&described); err != nil {
				return nil, fail("services/gateway/openapi.yaml", "read %s %s: %v", method, path, err)
			}
			optional := slices.ContainsFunc(described.Security, func(way map[string][]string) bool { return len(way) == 0 })
			table = append(table, operation{strings.ToUpper(method), path, len(described.Security) > 0 && !optional})
		}
	}
	return table, nil
}

// meet makes an outsider, who has a session that has ended, and a victim, who has a conversation with a call.
func (a *outsider) meet(ctx context.Context, g *guests) (string, error) {
	people, err := g.welcome(ctx, a.Groups["app"][0], a.Groups["app"][0])
	if err != nil {
		return "", err
	}
	a.self, a.victim = people[0], people[1]
	ended, _, err := a.self.api.Login(ctx, a.self.credentials())
	if err != nil {
		return "", a.self.explain("login", err)
	}
	if _, err := a.self.api.Logout(ctx, ended.AccessToken); err != nil {
		return "", a.self.explain("logout", err)
	}
	a.ended = ended.AccessToken
	a.group, _, err = a.victim.api.CreateConversation(ctx, a.victim.tokens.AccessToken, client.ConversationRequest{
		Kind: "group", ClientID: newMessageID(), Name: accountShown,
	})
	if err != nil {
		return "", a.victim.explain("make a conversation", err)
	}
	a.call, _, err = a.victim.api.BeginCall(ctx, a.victim.tokens.AccessToken, client.CallRequest{
		ConversationID: a.group.ID, ClientID: newMessageID(), Media: "audio",
	})
	if err != nil {
		return "", a.victim.explain("begin a call", err)
	}
	return "a person has a conversation and a call, and an outsider knows all their ids", nil
}

// fill puts the victim's ids into a path.
func (a *outsider) fill(o operation) string {
	id := string(a.victim.tokens.User.ID)
	switch {
	case strings.HasPrefix(o.path, "/v1/conversations/"):
		id = string(a.group.ID)
	case strings.HasPrefix(o.path, "/v1/calls/"):
		id = string(a.call.ID)
	case strings.HasPrefix(o.path, "/v1/auth/sessions/"):
		id = string(a.victim.tokens.SessionID)
	}
	return strings.NewReplacer("{id}", id, "{user_id}", string(a.victim.tokens.User.ID), "{version}", "1", "{type}", "m.verify", "{txn}", random(8)).Replace(o.path)
}

func (a *outsider) nobody(ctx context.Context) (string, error) {
	tried, err := a.everywhere(ctx, "", "without a token")
	return fmt.Sprintf("all %d routes answer nobody with 401", tried), err
}

func (a *outsider) loggedOut(ctx context.Context) (string, error) {
	tried, err := a.everywhere(ctx, a.ended, "with the token of a session that was logged out")
	return fmt.Sprintf("all %d routes answer a session that was logged out with 401", tried), err
}

// everywhere wants every private route to refuse a token.
func (a *outsider) everywhere(ctx context.Context, token, how string) (int, error) {
	var wrong []error
	tried := 0
	for _, o := range a.table {
		if !o.private {
			continue
		}
		tried++
		_, err := a.self.api.Call(ctx, o.method, a.fill(o), token, nil, nil)
		if _, err := a.self.refused(err, o.String()+" "+how); err != nil {
			wrong = append(wrong, err)
		}
	}
	return tried, errors.Join(wrong...)
}

// anothers wants every route with an id in it to tell an outsider nothing, and to do nothing.
func (a *outsider) anothers(ctx context.Context) (string, error) {
	var wrong []error
	tried, attacks := 0, a.attacks()
	for _, o := range a.table {
		if !o.private || !strings.Contains(o.path, "{") {
			continue
		}
		known, prepared := attacks[o.String()]
		switch {
		case !prepared:
			wrong = append(wrong, fail("cmd/deploy/internal/verify/authorization.go", "%s has no attack prepared", o))
			continue
		case known.own:
			continue
		}
		tried++
		_, err := a.self.api.Call(ctx, o.method, a.fill(o), a.self.tokens.AccessToken, known.body, nil)
		problem := new(client.Problem)
		switch {
		case err == nil:
			wrong = append(wrong, fail("", "%s lets an outsider in", o))
		case !errors.As(err, &problem) || (problem.Status != http.StatusForbidden && problem.Status != http.StatusNotFound):
			wrong = append(wrong, a.self.explain(o.String()+" as an outsider", err))
		}
	}
	return fmt.Sprintf("%d routes to somebody else's things are closed to an outsider", tried), errors.Join(wrong...)
}

// untouched looks as the victim.
func (a *outsider) untouched(ctx context.Context) (string, error) {
	now, _, err := a.victim.api.Conversation(ctx, a.victim.tokens.AccessToken, a.group.ID)
	if err != nil {
		return "", a.victim.explain("read the conversation", err)
	}
	members, _, err := a.victim.api.Members(ctx, a.victim.tokens.AccessToken, a.group.ID)
	if err != nil {
		return "", a.victim.explain("read the members", err)
	}
	if now.Name != a.group.Name || now.Head != a.group.Head || len(members) != 1 {
		return "", fail("", "an outsider was refused and changed the conversation all the same: %q, %d numbers, %d members", now.Name, now.Head, len(members))
	}
	call, _, err := a.victim.api.FindCall(ctx, a.victim.tokens.AccessToken, a.call.ID)
	if err != nil {
		return "", a.victim.explain("find the call", err)
	}
	if call.EndedAt != nil || !slices.Equal(call.Members, a.call.Members) {
		return "", fail("docker compose logs video on "+a.first("app"), "an outsider was refused and changed the call all the same: %s, %v", call.State, call.Members)
	}
	return "the conversation, the call and the session they were after are as before", nil
}
