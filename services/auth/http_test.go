package auth

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
)

// authenticated are the routes that want an access token, each with a body that is otherwise good.
var authenticated = []struct {
	method, path string
	body         any
}{
	{http.MethodGet, "/v1/auth/sessions", nil},
	{http.MethodDelete, "/v1/auth/sessions/:id", nil},
	{http.MethodGet, "/v1/users/me", nil},
	{http.MethodPatch, "/v1/users/me", map[string]string{"display_name": "Eve"}},
	{http.MethodDelete, "/v1/users/me", wire.AccountRemoval{Password: password}},
	{http.MethodPost, "/v1/users/me/password", wire.PasswordChange{CurrentPassword: password, NewPassword: "eve's own password"}},
	{http.MethodPost, "/v1/auth/logout", nil},
}

// Routes that ask for no access token, and why that is right.
var unauthenticated = []string{
	"POST /v1/auth/register", "POST /v1/auth/login", // there is no session yet
	"POST /v1/auth/refresh",                                   // the refresh token is the proof
	"GET " + wire.PathJWKS, "GET " + wire.PathSession + ":id", // for services only; no proxy leads there
}

func TestEveryRouteHasItsAttack(t *testing.T) {
	e := echo.NewWithConfig(echo.Config{NoGroupAutoRegister404Routes: true})
	Routes(e, &Service{}, true)
	for _, route := range e.Router().Routes() {
		name := route.Method + " " + route.Path
		known := slices.Contains(unauthenticated, name) || slices.ContainsFunc(authenticated, func(a struct {
			method, path string
			body         any
		}) bool {
			return a.method+" "+a.path == name
		})
		if !known {
			t.Errorf("%s is in neither table: who may call it?", name)
		}
	}
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	victim := w.login("ada")
	w.add("eve")

	revoked := w.login("eve")
	w.want(w.call(http.MethodPost, "/v1/auth/logout", nil, bearer(revoked)...), http.StatusNoContent, "")
	w.add("mallory")
	disabled := w.login("mallory")
	if err := w.operator().Disable(t.Context(), "mallory"); err != nil {
		t.Fatal(err)
	}
	w.add("trent")
	removed := w.login("trent")
	if err := w.operator().Remove(t.Context(), "trent"); err != nil {
		t.Fatal(err)
	}
	forger, err := token.NewSigner(config.NewSecret(strings.Repeat("z", 40)))
	if err != nil {
		t.Fatal(err)
	}
	session := wire.Session{UserID: victim.User.ID, SessionID: victim.SessionID, DeviceID: victim.DeviceID}
	forged, _, err := forger.Sign(session, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	expired, _, err := w.signer.Sign(session, w.clock.Now().Add(-2*token.Lifetime))
	if err != nil {
		t.Fatal(err)
	}

	attacks := map[string]struct{ authorization, code string }{
		"no_token":           {"", "token_missing"},
		"not_a_token":        {"Bearer x", "token_invalid"},
		"forged":             {"Bearer " + forged, "token_invalid"},
		"expired":            {"Bearer " + expired, "token_expired"},
		"refresh_token":      {"Bearer " + victim.RefreshToken, "token_invalid"},
		"of_a_revoked":       {"Bearer " + revoked.AccessToken, "session_ended"},
		"of_a_disabled_user": {"Bearer " + disabled.AccessToken, "session_ended"},
		"of_a_removed_user":  {"Bearer " + removed.AccessToken, "session_ended"},
		"basic_password":     {"Basic YWRhOmNvcnJlY3Q=", "token_missing"},
	}
	for _, route := range authenticated {
		path := strings.Replace(route.path, ":id", string(victim.SessionID), 1)
		for name, attack := range attacks {
			t.Run(route.method+route.path+"/"+name, func(t *testing.T) {
				headers := []string{}
				if attack.authorization != "" {
					headers = []string{"Authorization", attack.authorization}
				}
				a := w.call(route.method, path, route.body, headers...)
				if a.status != http.StatusUnauthorized || a.code(t) != attack.code {
					t.Errorf("got %d %s", a.status, a.body)
				}
			})
		}
		t.Run(route.method+route.path+"/token_in_the_url", func(t *testing.T) {
			a := w.call(route.method, path+"?access_token="+victim.AccessToken, route.body)
			if a.status != http.StatusUnauthorized || a.code(t) != "token_missing" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	a := w.call(http.MethodGet, "/v1/users/me", nil, bearer(victim)...)
	if got := into[wire.User](t, a); a.status != http.StatusOK || got.DisplayName != "ada" {
		t.Errorf("an attack left a trace: %d %s", a.status, a.body)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	w.add("eve")
	phone, laptop, stranger := w.login("ada"), w.login("ada"), w.login("eve")

	list := func(tokens wire.Tokens) []wire.SessionView {
		return into[wire.Sessions](t, w.call(http.MethodGet, "/v1/auth/sessions", nil, bearer(tokens)...)).Sessions
	}
	views := list(phone)
	if len(views) != 2 {
		t.Fatalf("ada sees %d sessions", len(views))
	}
	for _, view := range views {
		if view.Current != (view.ID == phone.SessionID) || view.DeviceName != "test" || view.Address != "127.0.0.1" {
			t.Errorf("got %+v", view)
		}
	}
	revoke := func(as wire.Tokens, id string) answer {
		return w.call(http.MethodDelete, "/v1/auth/sessions/"+id, nil, bearer(as)...)
	}
	w.want(revoke(stranger, string(laptop.SessionID)), http.StatusNotFound, "no_such_session")
	w.want(revoke(phone, "not-an-id"), http.StatusNotFound, "no_such_session")
	w.want(revoke(phone, "00000000-0000-0000-0000-000000000001"), http.StatusNotFound, "no_such_session")
	if !w.lives(laptop) {
		t.Fatal("a stranger ended ada's session")
	}
	w.want(revoke(phone, string(laptop.SessionID)), http.StatusNoContent, "")
	w.want(revoke(phone, string(laptop.SessionID)), http.StatusNotFound, "no_such_session")
	if w.lives(laptop) || !w.lives(phone) || len(list(phone)) != 1 {
		t.Error("want the laptop's session ended and the phone's live")
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	t.Run("by_access_token", func(t *testing.T) {
		tokens := w.login("ada")
		w.want(w.call(http.MethodPost, "/v1/auth/logout", nil, bearer(tokens)...), http.StatusNoContent, "")
		if w.lives(tokens) {
			t.Error("still in")
		}
		w.want(w.refresh(tokens.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	})
	t.Run("by_refresh_token_when_the_other_has_expired", func(t *testing.T) {
		tokens := w.login("ada")
		w.clock.Add(time.Hour)
		w.want(w.call(http.MethodPost, "/v1/auth/logout", wire.RefreshRequest{RefreshToken: tokens.RefreshToken}, bearer(tokens)...), http.StatusNoContent, "")
		w.want(w.refresh(tokens.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	})
	t.Run("by_nothing_is_refused", func(t *testing.T) {
		w.want(w.call(http.MethodPost, "/v1/auth/logout", nil), http.StatusUnauthorized, "token_missing")
		w.want(w.call(http.MethodPost, "/v1/auth/logout", wire.RefreshRequest{RefreshToken: newRefreshToken().Reveal()}), http.StatusUnauthorized, "refresh_invalid")
	})
}

func TestCookie(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	asWeb := []string{wire.HeaderClient, wire.ClientWeb}
	cookieOf := func(a answer) *http.Cookie {
		t.Helper()
		cookies := (&http.Response{Header: a.header}).Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%d cookies", len(cookies))
		}
		return cookies[0]
	}
	a := w.call(http.MethodPost, "/v1/auth/login", credentials("ada", password), asWeb...)
	cookie := cookieOf(a)
	if cookie.Name != "__Host-refresh" || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("got %v", cookie)
	}
	if got := into[wire.Tokens](t, a); got.RefreshToken != "" || got.AccessToken == "" {
		t.Error("scripts can read the refresh token")
	}
	sent := "__Host-refresh=" + cookie.Value

	t.Run("is_not_looked_at_without_the_header", func(t *testing.T) {
		w.want(w.call(http.MethodPost, "/v1/auth/refresh", nil, "Cookie", sent), http.StatusUnauthorized, "refresh_invalid")
	})
	t.Run("refreshes", func(t *testing.T) {
		a := w.call(http.MethodPost, "/v1/auth/refresh", nil, append(asWeb, "Cookie", sent)...)
		if a.status != http.StatusOK || cookieOf(a).Value == cookie.Value {
			t.Errorf("got %d %s", a.status, a.body)
		}
		sent = "__Host-refresh=" + cookieOf(a).Value
	})
	t.Run("logs_out_and_goes", func(t *testing.T) {
		a := w.call(http.MethodPost, "/v1/auth/logout", nil, append(asWeb, "Cookie", sent)...)
		if a.status != http.StatusNoContent || cookieOf(a).MaxAge != -1 {
			t.Errorf("got %d %v", a.status, cookieOf(a))
		}
		a = w.call(http.MethodPost, "/v1/auth/refresh", nil, append(asWeb, "Cookie", sent)...)
		w.want(a, http.StatusUnauthorized, "refresh_invalid")
		if cookieOf(a).MaxAge != -1 {
			t.Error("a dead cookie stays")
		}
	})
	t.Run("without_tls_it_is_another_one", func(t *testing.T) {
		if plain := newRefreshCookie(false); plain.name != "refresh" || plain.secure {
			t.Errorf("got %+v", plain)
		}
	})
}

func TestInternal(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	tokens := w.login("ada")
	verifier, err := token.NewVerifier(into[token.KeySet](t, w.call(http.MethodGet, wire.PathJWKS, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verifier.Verify(tokens.AccessToken, w.clock.Now()); err != nil || got.SessionID != tokens.SessionID {
		t.Errorf("got %v, %v", got, err)
	}
	ask := func(id string) int { return w.call(http.MethodGet, wire.PathSession+id, nil).status }
	if got := ask(string(tokens.SessionID)); got != http.StatusNoContent {
		t.Errorf("a live session is %d", got)
	}
	w.call(http.MethodPost, "/v1/auth/logout", nil, bearer(tokens)...)
	for _, id := range []string{string(tokens.SessionID), "nonsense", "00000000-0000-0000-0000-000000000001"} {
		if got := ask(id); got != http.StatusNotFound {
			t.Errorf("%s is %d", id, got)
		}
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	tokens := w.login("ada")
	w.refresh(tokens.RefreshToken)
	w.lives(tokens)
	w.call(http.MethodPost, "/v1/auth/login", credentials("ada", "wrong-"+password))
	for _, secret := range []string{password, tokens.AccessToken, tokens.RefreshToken, tokenSecret.Reveal()} {
		if w.log.has(secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}
