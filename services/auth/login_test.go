package auth

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func credentials(username, secret string) wire.LoginRequest {
	return wire.LoginRequest{Username: username, Password: secret}
}

// from says which address a request comes from, as the gateway would.
func from(address string) []string { return []string{wire.HeaderRealIP, address} }

func (w *world) try(username, secret, address string) answer {
	w.t.Helper()
	return w.call(http.MethodPost, "/v1/auth/login", credentials(username, secret), from(address)...)
}

func TestLogin(t *testing.T) {
	t.Run("gives_tokens_for_a_device", func(t *testing.T) {
		w := newWorld(t)
		user := w.add("ada")
		a := w.call(http.MethodPost, "/v1/auth/login", wire.LoginRequest{Username: " ADA ", Password: password, DeviceName: "phone", DeviceID: "PHONE"})
		got := into[wire.Tokens](t, a)
		if a.status != http.StatusOK || got.User.ID != user.ID || got.DeviceID != "PHONE" || got.TokenType != "Bearer" || got.ExpiresIn != 600 {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if a.header.Get("Cache-Control") != "no-store" {
			t.Error("tokens may be cached")
		}
	})

	t.Run("failures_look_the_same", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		w.add("disabled")
		if err := w.operator().Disable(t.Context(), "disabled"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.operator().Add(t.Context(), "expired", "", config.NewSecret(password), time.Minute); err != nil {
			t.Fatal(err)
		}
		w.clock.Add(2 * time.Minute)
		var first wire.Problem
		for i, c := range []wire.LoginRequest{
			credentials("ada", "wrong"), credentials("nobody", password), credentials("disabled", password),
			credentials("expired", password), credentials("", ""), credentials("ada'; --", "x"), credentials("a\x00b", "x"),
		} {
			a := w.call(http.MethodPost, "/v1/auth/login", c)
			got := into[wire.Problem](t, a)
			got.RequestID = ""
			if i == 0 {
				first = got
			}
			if a.status != http.StatusUnauthorized || got != first {
				t.Errorf("%s: got %d %s", c.Username, a.status, a.body)
			}
		}
	})

	t.Run("same_device_has_one_session", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		old := w.login("ada")
		a := w.call(http.MethodPost, "/v1/auth/login", wire.LoginRequest{Username: "ada", Password: password, DeviceID: string(old.DeviceID)})
		if fresh := into[wire.Tokens](t, a); !w.lives(fresh) || w.lives(old) {
			t.Error("want the new session live and the old one ended")
		}
	})

	t.Run("bad_device_is_refused", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		for _, bad := range []wire.LoginRequest{
			{Username: "ada", Password: password, DeviceID: "a b"},
			{Username: "ada", Password: password, DeviceName: "a\x00b"},
			{Username: "ada", Password: password, DeviceName: "a\u202eb"},
		} {
			w.want(w.call(http.MethodPost, "/v1/auth/login", bad), http.StatusBadRequest, "invalid_device")
		}
	})

	t.Run("old_hash_is_brought_to_today's_cost", func(t *testing.T) {
		w := newWorld(t)
		user := w.add("ada")
		w.hasher.close()
		w.hasher = newHasher(cost{memory: 128, passes: 1, threads: 1})
		w.login("ada")
		_, stored, err := w.store.userWithHash(t.Context(), user.ID)
		if err != nil || w.hasher.outdated(stored) {
			t.Errorf("still %s: %v", stored, err)
		}
		w.login("ada")
	})

	t.Run("password_changed_while_the_old_one_was_checked_wins", func(t *testing.T) {
		w := newWorld(t)
		user := w.add("ada")
		stale, err := w.store.accountForLogin(t.Context(), "ada", "unknown", w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.operator().ResetPassword(t.Context(), "ada", config.NewSecret("another password")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.openSession(t.Context(), stale, Credentials{Password: config.NewSecret(password)}, "D", ""); err == nil {
			t.Errorf("a session of %s was opened with the old password", user.Username)
		}
	})
}

func TestLoginThrottle(t *testing.T) {
	const home, cafe, attacker = "203.0.113.5", "203.0.113.77", "198.51.100.1"

	t.Run("guessing_from_one_address_is_stopped_and_told_when_to_return", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		for range rulePair.Burst {
			w.want(w.try("ada", "wrong", attacker), http.StatusUnauthorized, "wrong_credentials")
		}
		a := w.try("ada", password, attacker)
		w.want(a, http.StatusTooManyRequests, "too_many_attempts")
		if a.header.Get("Retry-After") == "" || a.header.Get("Retry-After") == "0" {
			t.Error("no time to return")
		}
		w.clock.Add(rulePair.Every)
		if a := w.try("ada", password, attacker); a.status != http.StatusOK {
			t.Errorf("after waiting: %d", a.status)
		}
	})

	t.Run("names_that_do_not_exist_are_throttled_alike", func(t *testing.T) {
		w := newWorld(t)
		for range rulePair.Burst {
			w.want(w.try("nobody", "wrong", attacker), http.StatusUnauthorized, "wrong_credentials")
		}
		w.want(w.try("nobody", "wrong", attacker), http.StatusTooManyRequests, "too_many_attempts")
	})

	t.Run("nobody_is_locked_out_by_others", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		if a := w.try("ada", password, home); a.status != http.StatusOK {
			t.Fatal(a.status)
		}
		// Many machines guess at ada's password, for as long as it takes to be refused.
		refused := 0
		for i := range 10 * ruleName.Burst {
			if w.try("ada", "wrong", "198.51.100."+string(rune('1'+i%9))+string(rune('0'+i/9%10))).status == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused == 0 {
			t.Error("guessing from many addresses is not slowed down")
		}
		w.want(w.try("ada", password, "192.0.2.200"), http.StatusTooManyRequests, "too_many_attempts") // a strange address waits
		if a := w.try("ada", password, home); a.status != http.StatusOK {
			t.Errorf("ada is locked out at home: %d %s", a.status, a.body)
		}
	})

	t.Run("one_address_cannot_try_many_names", func(t *testing.T) {
		w := newWorld(t)
		last := 0
		for i := range ruleAddress.Burst + 1 {
			last = w.try("user"+string(rune('a'+i%26))+string(rune('a'+i/26)), "wrong", attacker).status
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("got %d", last)
		}
	})

	t.Run("right_passwords_cost_nothing", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		for range 2*rulePair.Burst + ruleName.Burst {
			if a := w.try("ada", password, cafe); a.status != http.StatusOK {
				t.Fatalf("refused: %s", a.body)
			}
		}
	})

	t.Run("attempts_at_the_same_time_do_not_slip_past", func(t *testing.T) {
		w := newWorld(t, withRedis(testkit.Redis(t)))
		w.add("ada")
		var mu sync.Mutex
		tried := 0
		var all sync.WaitGroup
		for range 5 * rulePair.Burst {
			all.Go(func() {
				if w.try("ada", "wrong", attacker).status == http.StatusUnauthorized {
					mu.Lock()
					defer mu.Unlock()
					tried++
				}
			})
		}
		all.Wait()
		if tried > rulePair.Burst+1 { // one may have filled meanwhile
			t.Errorf("%d attempts were let through, want %d", tried, rulePair.Burst)
		}
	})
}

func TestAddressClass(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.5":          "203.0.113.5",
		"::ffff:203.0.113.5":   "203.0.113.5",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
		"nonsense":             "unknown",
		"":                     "unknown",
	} {
		if got := addressClass(address); got != want {
			t.Errorf("%s is of class %s, want %s", address, got, want)
		}
	}
}

func TestRedisOutage(t *testing.T) {
	settings := testkit.RedisConfig(t)
	line := testkit.NewLine(t, settings.Address)
	settings.Address = line.Address()
	client := redisstore.Open(settings)
	t.Cleanup(func() { _ = client.Close() })
	w := newWorld(t, withRedis(client))
	w.add("ada")
	kept, gone := w.login("ada"), w.login("ada")

	line.Cut()
	start := time.Now()
	a := w.call(http.MethodDelete, "/v1/auth/sessions/"+string(gone.SessionID), nil, bearer(kept)...)
	w.want(a, http.StatusNoContent, "")
	if w.lives(gone) {
		t.Error("a revoked session is let in while Redis is away")
	}
	w.want(w.refresh(gone.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	w.want(w.call(http.MethodGet, wire.PathSession+string(gone.SessionID), nil), http.StatusNotFound, "session_ended")
	fresh := w.login("ada")
	if !w.lives(fresh) || !w.lives(kept) {
		t.Error("a live session is refused while Redis is away")
	}
	if a := w.refresh(fresh.RefreshToken); a.status != http.StatusOK {
		t.Errorf("refresh while Redis is away: %s", a.body)
	}
	for range rulePair.Burst {
		w.try("ada", "wrong", "198.51.100.1")
	}
	w.want(w.try("ada", "wrong", "198.51.100.1"), http.StatusTooManyRequests, "too_many_attempts")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the outage slowed everything down: %s", took)
	}

	line.Mend()
	if w.lives(gone) {
		t.Error("a revoked session came back with Redis")
	}
}
