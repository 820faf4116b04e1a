package contacts_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v5"

	"secureconnect/services/auth/contacts"
	"secureconnect/services/internal/wire"
)

// route is one that wants an access token; :user is where another person's id goes.
type route struct{ method, path, body string }

var authenticated = []route{
	{http.MethodGet, "/v1/users?search=ad", ""},
	{http.MethodGet, "/v1/users/:user", ""},
	{http.MethodGet, "/v1/contacts", ""},
	{http.MethodPost, "/v1/contacts", `{"user_id":":user"}`},
	{http.MethodPost, "/v1/contacts/:user/accept", ""},
	{http.MethodPost, "/v1/contacts/:user/reject", ""},
	{http.MethodDelete, "/v1/contacts/:user", ""},
	{http.MethodPut, "/v1/contacts/:user/block", ""},
	{http.MethodDelete, "/v1/contacts/:user/block", ""},
}

// Routes that ask for no access token, and why that is right.
var unauthenticated = []string{
	"GET " + wire.PathRelations + ":user/:user", // for services only; no proxy leads there
}

func (r route) pattern() string {
	path, _, _ := strings.Cut(r.path, "?")
	return r.method + " " + path
}

func (w *world) do(accessToken string, r route, other wire.UserID) answer {
	w.t.Helper()
	return w.call(accessToken, r.method, strings.ReplaceAll(r.path, ":user", string(other)), strings.ReplaceAll(r.body, ":user", string(other)))
}

var parameter = regexp.MustCompile(`:\w+`)

func TestEveryRouteHasItsAttack(t *testing.T) {
	e := echo.NewWithConfig(echo.Config{NoGroupAutoRegister404Routes: true})
	contacts.Routes(e, &contacts.Service{}, nil)
	for _, served := range e.Router().Routes() {
		name := served.Method + " " + parameter.ReplaceAllString(served.Path, ":user")
		known := slices.Contains(unauthenticated, name) ||
			slices.ContainsFunc(authenticated, func(r route) bool { return r.pattern() == name })
		if !known {
			t.Errorf("%s is in neither table: who may call it?", name)
		}
	}
}

func TestAttacksWithoutASession(t *testing.T) {
	w := newWorld(t)
	ada := w.person("ada")
	_, gone := w.login("mallory")
	if err := w.operator().Disable(t.Context(), "mallory"); err != nil {
		t.Fatal(err)
	}
	for _, r := range authenticated {
		for name, c := range map[string]struct{ token, code string }{
			"no_token":           {"", "token_missing"},
			"not_a_token":        {"x", "token_invalid"},
			"of_a_disabled_user": {gone, "session_ended"},
		} {
			t.Run(r.pattern()+"/"+name, func(t *testing.T) {
				a := w.do(c.token, r, ada.UserID)
				if a.status != http.StatusUnauthorized || a.code(t) != c.code {
					t.Errorf("got %d %s", a.status, a.body)
				}
			})
		}
	}
	if page, err := w.List(t.Context(), ada, noUser); err != nil || len(page.Contacts) != 0 {
		t.Errorf("an attack left a trace: %+v, %v", page, err)
	}
}

func TestAttacksWithAnothersIDs(t *testing.T) {
	w := newWorld(t)
	eve, token := w.login("eve")
	ada, bob := w.person("ada"), w.person("bob")
	w.must(w.ask, ada, bob) // none of eve's business
	const post, put, remove, get = http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodGet
	const nobody = string(noUser)
	a, b, self := string(ada.UserID), string(bob.UserID), string(eve.UserID)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"accept_a_request_to_another":        {post, "/v1/contacts/" + a + "/accept", "", 404, "no_such_request"},
		"accept_for_who_was_asked":           {post, "/v1/contacts/" + b + "/accept", "", 404, "no_such_request"},
		"reject_a_request_to_another":        {post, "/v1/contacts/" + a + "/reject", "", 404, "no_such_request"},
		"cancel_anothers_request":            {remove, "/v1/contacts/" + b, "", 404, "no_such_contact"},
		"unblock_whom_one_has_not_blocked":   {remove, "/v1/contacts/" + a + "/block", "", 404, "no_such_block"},
		"ask_oneself":                        {post, "/v1/contacts", `{"user_id":"` + self + `"}`, 400, "yourself"},
		"block_oneself":                      {put, "/v1/contacts/" + self + "/block", "", 400, "yourself"},
		"ask_nobody":                         {post, "/v1/contacts", `{"user_id":"` + nobody + `"}`, 404, "no_such_user"},
		"block_nobody":                       {put, "/v1/contacts/" + nobody + "/block", "", 404, "no_such_user"},
		"accept_nobody":                      {post, "/v1/contacts/" + nobody + "/accept", "", 404, "no_such_user"},
		"look_at_nobody":                     {get, "/v1/users/" + nobody, "", 404, "no_such_user"},
		"no_id":                              {get, "/v1/users/%27%20OR%201=1", "", 404, "no_such_user"},
		"no_id_in_the_body":                  {post, "/v1/contacts", `{"user_id":"x"}`, 404, "no_such_user"},
		"upper_case_id":                      {get, "/v1/users/" + strings.ToUpper("abcdef00-0000-4000-8000-00000000000a"), "", 404, "no_such_user"},
		"ask_in_anothers_name":               {post, "/v1/contacts", `{"user_id":"` + a + `","from":"` + b + `"}`, 400, "invalid_body"},
		"no_body":                            {post, "/v1/contacts", "", 400, "invalid_body"},
		"a_place_that_is_none":               {get, "/v1/contacts?after=x%27", "", 400, "invalid_cursor"},
		"search_too_short":                   {get, "/v1/users?search=a", "", 400, "invalid_search"},
		"no_search":                          {get, "/v1/users", "", 400, "invalid_search"},
		"list_of_another":                    {get, "/v1/contacts/" + a, "", 405, "method_not_allowed"},
		"internal_with_nonsense":             {get, wire.PathRelations + "x/y", "", 404, "no_such_user"},
		"accept_ones_own_request_to_nobody":  {post, "/v1/contacts/" + nobody + "/reject", "", 404, "no_such_user"},
		"search_with_ten_thousand_letters":   {get, "/v1/users?search=" + strings.Repeat("a", 10_000), "", 200, ""},
		"search_with_wildcards_and_controls": {get, "/v1/users?search=%25%5F%5C%00%1B", "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.call(token, c.method, c.path, c.body)
			if got.status != c.status || c.code != "" && got.code(t) != c.code {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, c.status, c.code)
			}
			if c.status == http.StatusOK && got.body != `{"users":[]}` {
				t.Errorf("got %s", got.body)
			}
		})
	}
	w.wantSeen(ada, bob, outgoing, incoming)
	t.Run("accept_ones_own_request", func(t *testing.T) {
		w.must(w.ask, eve, bob)
		got := w.call(token, post, "/v1/contacts/"+b+"/accept", "")
		if got.status != http.StatusNotFound || got.code(t) != "no_such_request" {
			t.Errorf("got %d %s", got.status, got.body)
		}
		w.wantSeen(eve, bob, outgoing, incoming)
	})
	if a := w.call(token, get, "/v1/contacts", ""); a.header.Get("Cache-Control") != "no-store" {
		t.Error("contacts may be cached")
	}
}

// Eve walks through every route toward people who all look alike to her from outside. What she gets is the same to the
// byte whether they have blocked her or not, but for search and profile: there who blocks looks like who is disabled.
func TestBlockIsNotTold(t *testing.T) {
	w := newWorld(t)
	eve, token := w.login("eve")
	people := map[string]wire.Session{}
	for name, prepare := range map[string]func(p wire.Session){
		"silent":   func(wire.Session) {},
		"blocker":  func(p wire.Session) { w.must(w.Block, p, eve) },
		"rejecter": func(p wire.Session) { w.hold(p, eve, "rejected") },
		"disabled": func(p wire.Session) {
			w.execute(`UPDATE users SET disabled_at = $2 WHERE id = $1`, p.UserID, w.clock.Now())
		},
		"disabled_blocker": func(p wire.Session) {
			w.must(w.Block, p, eve)
			w.execute(`UPDATE users SET disabled_at = $2 WHERE id = $1`, p.UserID, w.clock.Now())
		},
	} {
		people[name] = w.person(name)
		prepare(people[name])
	}
	// What tells the people apart in an answer anyway.
	same := func(name, body string, p wire.Session) string {
		return volatile.ReplaceAllString(strings.NewReplacer(string(p.UserID), "ID", name, "NAME", strings.ToUpper(name), "NAME").Replace(body), `"-"`)
	}
	ask := route{http.MethodPost, "/v1/contacts", `{"user_id":":user"}`}
	list := route{http.MethodGet, "/v1/contacts", ""}
	look := route{http.MethodGet, "/v1/users/:user", ""}
	for i, step := range []route{
		{http.MethodPost, "/v1/contacts/:user/accept", ""},
		{http.MethodPost, "/v1/contacts/:user/reject", ""},
		{http.MethodDelete, "/v1/contacts/:user", ""},
		{http.MethodDelete, "/v1/contacts/:user/block", ""},
		ask, list, look,
		{http.MethodPost, "/v1/contacts/:user/accept", ""},
		{http.MethodDelete, "/v1/contacts/:user", ""},
		list, ask, ask,
		{http.MethodPut, "/v1/contacts/:user/block", ""},
		ask, list, look,
		{http.MethodDelete, "/v1/contacts/:user/block", ""},
		list, ask, list,
	} {
		answers := map[string]string{}
		for name, p := range people {
			a := w.do(token, step, p.UserID)
			body := a.body
			if step == list {
				body = entryOf(a.body, p.UserID)
			}
			answers[name] = http.StatusText(a.status) + " " + a.header.Get("Content-Type") + " " + a.header.Get("Cache-Control") + " " + same(name, body, p)
		}
		for name, got := range answers {
			want := answers["silent"]
			if step == look && name != "silent" && name != "rejecter" {
				want = answers["disabled"]
			}
			if got != want {
				t.Errorf("step %d, %s: %s answers\n%s\nnot\n%s", i, step.pattern(), name, got, want)
			}
		}
	}
	t.Run("search_finds_neither_who_blocks_nor_who_is_disabled", func(t *testing.T) {
		for _, name := range []string{"blocker", "disabled", "disabled_blocker"} {
			if a := w.call(token, http.MethodGet, "/v1/users?search="+name, ""); a.body != `{"users":[]}` {
				t.Errorf("got %d %s", a.status, a.body)
			}
		}
	})
	t.Run("profile_is_that_of_nobody", func(t *testing.T) {
		nobody := wire.Session{UserID: noUser}
		want := w.do(token, look, nobody.UserID)
		got := w.do(token, look, people["blocker"].UserID)
		if want.status != got.status || same("nobody", want.body, nobody) != same("blocker", got.body, people["blocker"]) {
			t.Errorf("got %d %s, want %d %s", got.status, got.body, want.status, want.body)
		}
	})
	for name, p := range people {
		if got := w.sees(p, eve); strings.HasSuffix(name, "blocker") && got != blocked || name == "rejecter" && got != none {
			t.Errorf("%s was shown %s", name, got)
		}
	}
}

// volatile are times and the ids of requests.
var volatile = regexp.MustCompile(`"[0-9]{4}-[0-9-]+T[0-9:.]+Z"|"[A-Z0-9]{26}"`)

// entryOf is what a list says of one person.
func entryOf(list string, id wire.UserID) string {
	for _, entry := range strings.Split(list, "},{") {
		if strings.Contains(entry, string(id)) {
			return strings.Trim(strings.TrimPrefix(entry, `{"contacts":`), "[]{}")
		}
	}
	return "no entry"
}

func TestInternalRelations(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	w.must(w.Block, bob, ada)
	a := w.call("", http.MethodGet, wire.PathRelations+string(ada.UserID)+"/"+string(bob.UserID), "")
	if a.status != http.StatusOK || a.body != `{"contact":false,"blocked":true,"blocking":false,"active":true}` {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
