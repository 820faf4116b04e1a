package auth

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

func (w *world) register(username, invite string) answer {
	w.t.Helper()
	return w.call(http.MethodPost, "/v1/auth/register", wire.RegisterRequest{Username: username, Password: password, DisplayName: "Ada L.", Invite: invite})
}

func (w *world) invite(uses int, lasts time.Duration) string {
	w.t.Helper()
	code, err := w.operator().Invite(w.t.Context(), uses, lasts)
	if err != nil {
		w.t.Fatal(err)
	}
	return code.Reveal()
}

func TestRegister(t *testing.T) {
	t.Run("open_to_everybody", func(t *testing.T) {
		w := newWorld(t)
		a := w.register("Ada", "")
		user := into[wire.User](t, a)
		if a.status != http.StatusCreated || user.Username != "ada" || user.DisplayName != "Ada L." {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if w.login("ada").User != user {
			t.Error("login shows another user")
		}
		w.want(w.register("ADA", ""), http.StatusConflict, "username_taken")
	})

	t.Run("closed_to_all", func(t *testing.T) {
		w := newWorld(t, withRegistration(RegistrationClosed))
		w.want(w.register("ada", w.invite(1, time.Hour)), http.StatusForbidden, "registration_closed")
	})

	t.Run("by_invite_only", func(t *testing.T) {
		w := newWorld(t, withRegistration(RegistrationInvite))
		w.add("taken")
		w.want(w.register("ada", ""), http.StatusForbidden, "invite_invalid")
		w.want(w.register("ada", "guess"), http.StatusForbidden, "invite_invalid")
		w.want(w.register("taken", "guess"), http.StatusForbidden, "invite_invalid") // names are not for strangers

		code := w.invite(1, time.Hour)
		w.want(w.register("taken", code), http.StatusConflict, "username_taken") // and does not use it up
		if a := w.register("ada", code); a.status != http.StatusCreated {
			t.Errorf("got %d %s", a.status, a.body)
		}
		w.want(w.register("eve", code), http.StatusForbidden, "invite_invalid")

		late := w.invite(1, time.Minute)
		w.clock.Add(2 * time.Minute)
		w.want(w.register("eve", late), http.StatusForbidden, "invite_invalid")
	})

	t.Run("invite_for_3_makes_3_accounts_however_many_try", func(t *testing.T) {
		w := newWorld(t, withRegistration(RegistrationInvite))
		code := w.invite(3, time.Hour)
		var made atomic.Int64
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				if w.register("user"+string(rune('a'+i)), code).status == http.StatusCreated {
					made.Add(1)
				}
			})
		}
		all.Wait()
		if made.Load() != 3 {
			t.Errorf("%d accounts were made", made.Load())
		}
	})

	t.Run("one_name_at_the_same_time_is_one_account", func(t *testing.T) {
		w := newWorld(t)
		var made atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if w.register("ada", "").status == http.StatusCreated {
					made.Add(1)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 {
			t.Errorf("%d accounts were made", made.Load())
		}
	})

	t.Run("refuses", func(t *testing.T) {
		w := newWorld(t)
		for name, c := range map[string]struct {
			body wire.RegisterRequest
			code string
		}{
			"no_name":             {wire.RegisterRequest{Password: password}, "invalid_username"},
			"name_with_spaces":    {wire.RegisterRequest{Username: "a b", Password: password}, "invalid_username"},
			"name_that_looks_odd": {wire.RegisterRequest{Username: "аda", Password: password}, "invalid_username"}, // a Cyrillic а
			"long_name":           {wire.RegisterRequest{Username: strings.Repeat("a", 33), Password: password}, "invalid_username"},
			"short_password":      {wire.RegisterRequest{Username: "ada", Password: "short"}, "weak_password"},
			"no_password":         {wire.RegisterRequest{Username: "ada"}, "weak_password"},
			"long_password":       {wire.RegisterRequest{Username: "ada", Password: strings.Repeat("ab", 600)}, "weak_password"},
			"name_as_password":    {wire.RegisterRequest{Username: "adalovelace", Password: "AdaLovelace"}, "weak_password"},
			"one_letter_password": {wire.RegisterRequest{Username: "ada", Password: "aaaaaaaaaaaa"}, "weak_password"},
			"nul_in_display_name": {wire.RegisterRequest{Username: "ada", Password: password, DisplayName: "a\x00b"}, "invalid_display_name"},
			"long_display_name":   {wire.RegisterRequest{Username: "ada", Password: password, DisplayName: strings.Repeat("a", 65)}, "invalid_display_name"},
		} {
			t.Run(name, func(t *testing.T) {
				a := w.call(http.MethodPost, "/v1/auth/register", c.body)
				if a.status != http.StatusBadRequest || a.code(t) != c.code {
					t.Errorf("got %d %s", a.status, a.body)
				}
			})
		}
	})
}

func TestMe(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	tokens := w.login("ada")
	name := "  Ada Lovelace "
	a := w.call(http.MethodPatch, "/v1/users/me", wire.UserChange{DisplayName: &name}, bearer(tokens)...)
	if got := into[wire.User](t, a); a.status != http.StatusOK || got.DisplayName != "Ada Lovelace" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	a = w.call(http.MethodGet, "/v1/users/me", nil, bearer(tokens)...)
	if got := into[wire.User](t, a); got.DisplayName != "Ada Lovelace" || got.Username != "ada" {
		t.Errorf("got %s", a.body)
	}
	w.want(w.call(http.MethodPatch, "/v1/users/me", map[string]string{"username": "root"}, bearer(tokens)...), http.StatusBadRequest, "invalid_body")
	empty := " "
	w.want(w.call(http.MethodPatch, "/v1/users/me", wire.UserChange{DisplayName: &empty}, bearer(tokens)...), http.StatusBadRequest, "invalid_display_name")
}

func TestChangePassword(t *testing.T) {
	const next = "a whole new password"
	w := newWorld(t)
	w.add("ada")
	here, elsewhere := w.login("ada"), w.login("ada")
	change := func(current, next string) answer {
		return w.call(http.MethodPost, "/v1/users/me/password", wire.PasswordChange{CurrentPassword: current, NewPassword: next}, bearer(here)...)
	}
	w.want(change("wrong", next), http.StatusForbidden, "wrong_password")
	w.want(change(password, "short"), http.StatusBadRequest, "weak_password")
	if !w.lives(elsewhere) {
		t.Fatal("a refused change ended a session")
	}
	w.want(change(password, next), http.StatusNoContent, "")
	if !w.lives(here) || w.lives(elsewhere) {
		t.Error("want this session live and all others ended")
	}
	w.want(w.refresh(elsewhere.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	w.want(w.call(http.MethodPost, "/v1/auth/login", credentials("ada", password)), http.StatusUnauthorized, "wrong_credentials")
	if a := w.call(http.MethodPost, "/v1/auth/login", credentials("ada", next)); a.status != http.StatusOK {
		t.Errorf("the new password is refused: %s", a.body)
	}
	for range ruleConfirm.Burst {
		change("wrong", next)
	}
	w.want(change("wrong", next), http.StatusTooManyRequests, "too_many_attempts")
}

func TestRemoveMe(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	here, elsewhere := w.login("ada"), w.login("ada")
	remove := func(secret string) answer {
		return w.call(http.MethodDelete, "/v1/users/me", wire.AccountRemoval{Password: secret}, bearer(here)...)
	}
	w.want(remove("wrong"), http.StatusForbidden, "wrong_password")
	w.want(remove(password), http.StatusNoContent, "")
	if w.lives(here) || w.lives(elsewhere) {
		t.Error("a session outlived its account")
	}
	w.want(w.refresh(elsewhere.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	w.add("ada") // the name is free again
	if w.lives(here) {
		t.Error("an old session is good for the new account of that name")
	}
}

func TestOperator(t *testing.T) {
	t.Run("account_ends_by_itself", func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.operator().Add(t.Context(), "ada", "", config.NewSecret(password), time.Hour); err != nil {
			t.Fatal(err)
		}
		tokens := w.login("ada")
		w.clock.Add(59 * time.Minute)
		tokens = into[wire.Tokens](t, w.refresh(tokens.RefreshToken))
		if !w.lives(tokens) {
			t.Fatal("ended early")
		}
		w.clock.Add(2 * time.Minute)
		if w.lives(tokens) {
			t.Error("a session outlived its account's time")
		}
		w.want(w.refresh(tokens.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
		if err := w.sweepOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		users, err := w.operator().List(t.Context())
		if err != nil || len(users) != 0 {
			t.Errorf("still there: %v, %v", users, err)
		}
	})

	t.Run("disable_and_enable", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		tokens := w.login("ada")
		if err := w.operator().Disable(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		if w.lives(tokens) {
			t.Error("a session outlived the account's disabling")
		}
		w.want(w.call(http.MethodPost, "/v1/auth/login", credentials("ada", password)), http.StatusUnauthorized, "wrong_credentials")
		if err := w.operator().Enable(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		if w.lives(tokens) {
			t.Error("an ended session came back")
		}
		w.login("ada")
	})

	t.Run("reset_password_ends_all_sessions", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		tokens := w.login("ada")
		if err := w.operator().ResetPassword(t.Context(), "Ada", config.NewSecret("another password")); err != nil {
			t.Fatal(err)
		}
		if w.lives(tokens) {
			t.Error("a session outlived the reset")
		}
	})

	t.Run("everything_is_audited_and_nothing_secret_is", func(t *testing.T) {
		w := newWorld(t)
		o := w.operator()
		w.add("ada")
		code := w.invite(2, time.Hour)
		for _, err := range []error{
			o.Disable(t.Context(), "ada"), o.Enable(t.Context(), "ada"),
			o.ResetPassword(t.Context(), "ada", config.NewSecret("another password")), o.Remove(t.Context(), "ada"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		const sqlAudit = `SELECT string_agg(action, ' ' ORDER BY done_at, action), count(*) FILTER (WHERE done_by = 'test') FROM user_audit`
		var actions string
		var byTest int
		if err := w.store.db.QueryRow(t.Context(), sqlAudit).Scan(&actions, &byTest); err != nil {
			t.Fatal(err)
		}
		for _, action := range []string{"add", "invite", "disable", "enable", "reset-password", "remove"} {
			if !strings.Contains(actions, action) || !w.log.has(`"action":"`+action+`"`) {
				t.Errorf("%s is not in the audit (%s) or the log", action, actions)
			}
		}
		if byTest != 6 || w.log.has(code) || w.log.has(password) {
			t.Errorf("%d of 6 notes name who did it; or a secret is in the log", byTest)
		}
	})

	t.Run("unknown_user_is_not_found_and_not_audited", func(t *testing.T) {
		w := newWorld(t)
		o := w.operator()
		for _, err := range []error{
			o.Disable(t.Context(), "nobody"), o.Enable(t.Context(), "nobody"), o.Remove(t.Context(), "nobody"),
			o.ResetPassword(t.Context(), "nobody", config.NewSecret(password)),
		} {
			if !apperr.Is(err, apperr.NotFound) {
				t.Errorf("got %v", err)
			}
		}
		var n int
		if err := w.store.db.QueryRow(t.Context(), `SELECT count(*) FROM user_audit`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d notes: %v", n, err)
		}
	})
}

func TestSweepKeepsWhatIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	first := w.login("ada")
	second := into[wire.Tokens](t, w.refresh(first.RefreshToken))
	w.clock.Add(time.Hour)
	if err := w.sweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.want(w.refresh(first.RefreshToken), http.StatusUnauthorized, "refresh_reused") // it still knows the used one
	w.want(w.refresh(second.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
}
