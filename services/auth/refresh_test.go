package auth

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	for name, c := range map[string]struct {
		state tokenState
		want  verdict
	}{
		"unknown":                              {tokenState{}, refuse},
		"unused":                               {tokenState{known: true, live: true}, rotate},
		"unused_of_an_ended_session":           {tokenState{known: true}, refuse},
		"used_just_now":                        {tokenState{known: true, live: true, usedAt: ago(0)}, repeat},
		"used_30_s_ago":                        {tokenState{known: true, live: true, usedAt: ago(repeatWindow)}, repeat},
		"used_longer_ago":                      {tokenState{known: true, live: true, usedAt: ago(repeatWindow + 1)}, reuse},
		"used_just_now_and_its_successor_too":  {tokenState{known: true, live: true, usedAt: ago(0), successorUsed: true}, reuse},
		"used_longer_ago_of_an_ended_session":  {tokenState{known: true, usedAt: ago(time.Hour)}, refuse},
		"successor_used_of_an_ended_session":   {tokenState{known: true, usedAt: ago(0), successorUsed: true}, refuse},
		"another_host's_clock_is_a_bit_behind": {tokenState{known: true, live: true, usedAt: ago(-time.Second)}, repeat},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judge(c.state, now); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestRefresh(t *testing.T) {
	t.Run("rotates", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		first := w.login("ada")
		second := into[wire.Tokens](t, w.refresh(first.RefreshToken))
		if second.RefreshToken == first.RefreshToken || second.SessionID != first.SessionID || second.DeviceID != first.DeviceID {
			t.Errorf("got %+v after %+v", second, first)
		}
		if third := w.refresh(second.RefreshToken); third.status != http.StatusOK {
			t.Errorf("the successor is refused: %s", third.body)
		}
	})

	t.Run("lost_answer_is_given_again_within_30_s", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		first := w.login("ada")
		once := into[wire.Tokens](t, w.refresh(first.RefreshToken))
		w.clock.Add(29 * time.Second)
		again := into[wire.Tokens](t, w.refresh(first.RefreshToken))
		if once.RefreshToken != again.RefreshToken {
			t.Error("a repeat got another successor")
		}
	})

	t.Run("reuse_after_30_s_ends_the_family", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		first := w.login("ada")
		second := into[wire.Tokens](t, w.refresh(first.RefreshToken))
		w.clock.Add(31 * time.Second)
		w.want(w.refresh(first.RefreshToken), http.StatusUnauthorized, "refresh_reused")
		w.want(w.refresh(second.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
		if w.lives(second) {
			t.Error("an access token of the family is still good")
		}
	})

	t.Run("reuse_after_the_successor_was_used_ends_the_family_at_once", func(t *testing.T) {
		client := testkit.Redis(t)
		w := newWorld(t, withRedis(client))
		heard := client.Subscribe(t.Context(), wire.RevokedChannel)
		t.Cleanup(func() { _ = heard.Close() })
		if _, err := heard.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.add("ada")
		first, bystander := w.login("ada"), w.login("ada")
		second := into[wire.Tokens](t, w.refresh(first.RefreshToken))
		third := into[wire.Tokens](t, w.refresh(second.RefreshToken))
		w.want(w.refresh(first.RefreshToken), http.StatusUnauthorized, "refresh_reused")
		w.want(w.refresh(third.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
		if w.lives(first) || w.lives(third) {
			t.Error("an access token of the family is still good")
		}
		if !w.lives(bystander) {
			t.Error("another session of the user was ended too")
		}
		if message, err := heard.ReceiveMessage(t.Context()); err != nil || message.Payload != string(first.SessionID) {
			t.Errorf("announced %v, %v", message, err)
		}
		if n := client.Exists(t.Context(), wire.RevokedPrefix+string(first.SessionID)).Val(); n != 1 {
			t.Error("no tombstone")
		}
	})

	t.Run("100_at_once_get_the_same_successor_and_the_family_lives", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		first := w.login("ada")
		successors := make([]string, 100)
		var all sync.WaitGroup
		for i := range successors {
			all.Go(func() {
				grant, err := w.Refresh(t.Context(), config.NewSecret(first.RefreshToken))
				if err != nil {
					t.Errorf("refresh: %v", err)
					return
				}
				successors[i] = grant.RefreshToken.Reveal()
			})
		}
		all.Wait()
		for _, successor := range successors {
			if successor != successors[0] {
				t.Fatal("two successors of one token")
			}
		}
		if a := w.refresh(successors[0]); a.status != http.StatusOK {
			t.Errorf("the family is dead: %s", a.body)
		}
	})

	t.Run("idle_session_ends", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		first := w.login("ada")
		w.clock.Add(sessionLifetime + time.Second)
		w.want(w.refresh(first.RefreshToken), http.StatusUnauthorized, "refresh_invalid")
	})

	t.Run("what_is_no_token_is_refused", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		tokens := w.login("ada")
		for _, bad := range []string{"", "x", tokens.AccessToken, tokens.RefreshToken + "A", tokens.RefreshToken[1:], newRefreshToken().Reveal(), "\x00"} {
			w.want(w.refresh(bad), http.StatusUnauthorized, "refresh_invalid")
		}
	})

	t.Run("it_is_no_access_token", func(t *testing.T) {
		w := newWorld(t)
		w.add("ada")
		tokens := w.login("ada")
		w.want(w.call(http.MethodGet, "/v1/users/me", nil, "Authorization", "Bearer "+tokens.RefreshToken), http.StatusUnauthorized, "token_invalid")
	})
}

func TestRefreshTokensAreStoredHashed(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	tokens := w.login("ada")
	var n int
	const sqlFind = `SELECT count(*) FROM refresh_tokens WHERE hash = $1`
	for _, c := range []struct {
		stored []byte
		want   int
	}{{[]byte(tokens.RefreshToken), 0}, {hashOf(config.NewSecret(tokens.RefreshToken)), 1}} {
		if err := w.store.db.QueryRow(t.Context(), sqlFind, c.stored).Scan(&n); err != nil || n != c.want {
			t.Errorf("found %d, want %d: %v", n, c.want, err)
		}
	}
}

func FuzzRefreshToken(f *testing.F) {
	good := newRefreshToken()
	for _, seed := range []string{"", "=", good.Reveal(), good.Reveal() + "=", good.Reveal()[:42] + "_", "\x00", "é"} {
		f.Add(seed)
	}
	key, err := newRefreshKey(tokenSecret)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		refresh := config.NewSecret(raw)
		if !wellFormed(refresh) {
			return
		}
		successor := key.successor(refresh)
		if !wellFormed(successor) || successor.Equal(refresh) || !successor.Equal(key.successor(refresh)) {
			t.Fatalf("%q has the successor %q", raw, successor.Reveal())
		}
	})
}
