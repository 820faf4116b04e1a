package contacts_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"secureconnect/services/auth/contacts"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

const (
	none     = wire.RelationNone
	contact  = wire.RelationContact
	incoming = wire.RelationIncoming
	outgoing = wire.RelationOutgoing
	blocked  = wire.RelationBlocked
)

func TestRequest(t *testing.T) {
	t.Run("asked_and_accepted_is_a_contact_for_both", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		asked, err := w.Ask(t.Context(), ada, bob.UserID)
		if err != nil || asked.State != outgoing || asked.Username != "bob" || asked.DisplayName != "BOB" || asked.ID != bob.UserID {
			t.Fatalf("got %+v, %v", asked, err)
		}
		w.wantSeen(ada, bob, outgoing, incoming)
		w.clock.Add(time.Minute)
		accepted, err := w.Accept(t.Context(), bob, ada.UserID)
		if err != nil || accepted.State != contact || !accepted.Since.After(asked.Since) {
			t.Fatalf("got %+v, %v", accepted, err)
		}
		w.wantSeen(ada, bob, contact, contact)
		if again, err := w.Accept(t.Context(), bob, ada.UserID); err != nil || again != accepted {
			t.Errorf("accepted again: %+v, %v", again, err)
		}
		if again, err := w.Ask(t.Context(), ada, bob.UserID); err != nil || again.State != contact || !again.Since.Equal(accepted.Since) {
			t.Errorf("asked again: %+v, %v", again, err)
		}
	})

	t.Run("asked_again_stays_as_it_is", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		asked, err := w.Ask(t.Context(), ada, bob.UserID)
		if err != nil {
			t.Fatal(err)
		}
		w.clock.Add(time.Hour)
		if again, err := w.Ask(t.Context(), ada, bob.UserID); err != nil || again != asked {
			t.Errorf("got %+v, %v, want %+v", again, err, asked)
		}
		w.wantSeen(ada, bob, outgoing, incoming)
	})

	t.Run("who_asks_back_agrees", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.ask, ada, bob)
		if back, err := w.Ask(t.Context(), bob, ada.UserID); err != nil || back.State != contact {
			t.Errorf("got %+v, %v", back, err)
		}
		w.wantSeen(ada, bob, contact, contact)
	})

	t.Run("cancelled_is_gone_for_both", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.ask, ada, bob)
		w.must(w.Remove, ada, bob)
		w.wantSeen(ada, bob, none, none)
		w.wantCode(w.Remove(t.Context(), ada, bob.UserID), "no_such_contact")
		w.wantCode(w.accept(t.Context(), bob, ada.UserID), "no_such_request")
	})

	t.Run("rejected_is_told_to_nobody_and_not_repeated_for_a_month", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.ask, ada, bob)
		w.must(w.Reject, bob, ada)
		w.wantSeen(ada, bob, outgoing, none)
		w.wantCode(w.Reject(t.Context(), bob, ada.UserID), "no_such_request")
		w.must(w.Remove, ada, bob)
		w.must(w.ask, ada, bob)
		w.wantSeen(ada, bob, outgoing, none)
		w.clock.Add(30 * 24 * time.Hour)
		w.must(w.ask, ada, bob)
		w.wantSeen(ada, bob, outgoing, incoming)
	})

	t.Run("asking_and_cancelling_in_turn_is_slowed_down", func(t *testing.T) {
		w := newWorld(t)
		ada, bob, eve := w.person("ada"), w.person("bob"), w.person("eve")
		for range 5 {
			w.must(w.ask, ada, bob)
			w.must(w.Remove, ada, bob)
		}
		_, err := w.Ask(t.Context(), ada, bob.UserID)
		if !apperr.Is(err, apperr.TooMany) || apperr.RetryAfterOf(err) <= 0 {
			t.Errorf("got %v", err)
		}
		w.must(w.ask, ada, eve)
		w.clock.Add(10 * time.Minute)
		w.must(w.ask, ada, bob)
	})

	t.Run("requests_to_many_are_slowed_down", func(t *testing.T) {
		w := newWorld(t)
		ada := w.person("ada")
		var err error
		for i := range 51 {
			_, err = w.Ask(t.Context(), ada, w.person(fmt.Sprintf("user%02d", i)).UserID)
		}
		if !apperr.Is(err, apperr.TooMany) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	w.must(w.ask, ada, bob)
	w.wantCode(w.Remove(t.Context(), bob, ada.UserID), "no_such_contact") // a request is rejected, not removed
	w.must(w.accept, bob, ada)
	w.must(w.Remove, bob, ada)
	w.wantSeen(ada, bob, none, none)
	w.must(w.ask, ada, bob)
	w.wantSeen(ada, bob, outgoing, incoming)
}

func TestBlock(t *testing.T) {
	t.Run("ends_the_contact_both_ways_and_restores_nothing", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.ask, ada, bob)
		w.must(w.accept, bob, ada)
		w.must(w.Block, bob, ada)
		since := w.entry(bob, ada).Since
		w.clock.Add(time.Minute)
		w.must(w.Block, bob, ada)
		if again := w.entry(bob, ada).Since; !again.Equal(since) {
			t.Errorf("blocked again, the block began %s and not %s", again, since)
		}
		w.wantSeen(ada, bob, none, blocked)
		w.must(w.Unblock, bob, ada)
		w.wantSeen(ada, bob, none, none)
		w.wantCode(w.Unblock(t.Context(), bob, ada.UserID), "no_such_block")
	})
	t.Run("of_a_stranger_holds_before_anything_was", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.Block, bob, ada)
		w.must(w.ask, ada, bob)
		w.wantSeen(ada, bob, outgoing, blocked)
		w.must(w.Unblock, bob, ada)
		w.wantSeen(ada, bob, outgoing, none) // what was asked meanwhile is not shown either
		w.must(w.ask, ada, bob)
		w.wantSeen(ada, bob, outgoing, incoming)
	})
	t.Run("withdraws_what_the_blocker_asked", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.ask, ada, bob)
		w.must(w.Block, ada, bob)
		w.wantSeen(ada, bob, blocked, none)
		w.wantCode(w.accept(t.Context(), bob, ada.UserID), "no_such_request")
		_, err := w.Ask(t.Context(), ada, bob.UserID)
		w.wantCode(err, "blocked_by_you")
	})
	t.Run("holds_both_ways_at_once", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.person("ada"), w.person("bob")
		w.must(w.Block, ada, bob)
		w.must(w.Block, bob, ada)
		w.wantSeen(ada, bob, blocked, blocked)
		w.must(w.Unblock, ada, bob)
		w.wantSeen(ada, bob, none, blocked)
	})
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	me := w.person("abigail")
	for _, name := range []string{"abel", "ab_x", "abcx", "abba", "zoe", "ab.y"} {
		w.person(name)
	}
	gone, hater, friend := w.person("abgone"), w.person("abhater"), w.person("abfriend")
	w.execute(`UPDATE users SET disabled_at = $2 WHERE id = $1`, gone.UserID, w.clock.Now())
	late := w.person("ablate")
	w.execute(`UPDATE users SET expires_at = $2 WHERE id = $1`, late.UserID, w.clock.Now())
	w.must(w.Block, hater, me)
	w.must(w.ask, friend, me)
	w.must(w.accept, me, friend)
	w.must(w.Block, me, w.person("abpest"))
	w.hold(me, w.person("abrejected"), "rejected")

	everybody := []string{"ab.y", "ab_x", "abba", "abcx", "abel", "abfriend", "abpest", "abrejected"}
	for name, c := range map[string]struct {
		start string
		want  []string
	}{
		"start_in_order":         {"ab", everybody},
		"upper_case_and_blanks":  {"  AB ", everybody},
		"whole_name":             {"abba", []string{"abba"}},
		"underscore_is_a_letter": {"ab_", []string{"ab_x"}},
		"dot_is_a_letter":        {"ab.", []string{"ab.y"}},
		"percent_is_nobody":      {"a%", nil},
		"only_percent":           {"%%", nil},
		"only_underscores":       {"__", nil},
		"backslash":              {`ab\`, nil},
		"backslash_underscore":   {`ab\_`, nil},
		"nul":                    {"ab\x00", nil},
		"control_character":      {"ab\x1b[2J", nil},
		"quote":                  {"ab' OR '1'='1", nil},
		"not_utf8":               {"ab\xff", nil},
		"cyrillic":               {"аб", nil},
		"ten_thousand_letters":   {strings.Repeat("a", 10_000), nil},
		"not_the_middle":         {"bba", nil},
		"not_the_display_name":   {"zoé", nil},
		"not_who_asks":           {"abigail", nil},
		"not_who_is_disabled":    {"abgone", nil},
		"not_who_has_expired":    {"ablate", nil},
		"not_who_blocks_me":      {"abhater", nil},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := w.Search(t.Context(), me, c.start)
			if err != nil || found == nil {
				t.Fatalf("got %v, %v", found, err)
			}
			var names []string
			for _, p := range found {
				names = append(names, p.Username)
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("got %q, want %q", names, c.want)
			}
		})
	}
	for name, start := range map[string]string{"empty": "", "one_letter": "a", "blanks": "     ", "one_wide_letter": "đ"} {
		t.Run(name+"_is_refused", func(t *testing.T) {
			_, err := w.Search(t.Context(), me, start)
			w.wantCode(err, "invalid_search")
		})
	}
	t.Run("tells_the_relation", func(t *testing.T) {
		found, err := w.Search(t.Context(), me, "ab")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			want := map[string]wire.Relation{"abfriend": contact, "abpest": blocked}[p.Username]
			if want == "" {
				want = none
			}
			if p.Relation != want || p.DisplayName != strings.ToUpper(p.Username) {
				t.Errorf("got %+v, want %s", p, want)
			}
		}
	})
	t.Run("finds_no_more_than_20", func(t *testing.T) {
		for i := range 25 {
			w.person(fmt.Sprintf("many%02d", i))
		}
		found, err := w.Search(t.Context(), me, "many")
		if err != nil || len(found) != 20 || found[0].Username != "many00" || found[19].Username != "many19" {
			t.Errorf("got %+v, %v", found, err)
		}
	})
}

func TestSearchIsLimited(t *testing.T) {
	for name, redisDies := range map[string]bool{"with_redis": false, "and_without_it": true} {
		t.Run(name, func(t *testing.T) {
			settings := testkit.RedisConfig(t)
			line := testkit.NewLine(t, settings.Address)
			settings.Address = line.Address()
			hints := redisstore.Open(settings)
			t.Cleanup(func() { _ = hints.Close() })
			w := newWorldWith(t, hints)
			ada, bob := w.person("ada"), w.person("bob")
			if redisDies {
				line.Cut()
			}
			for i := range 100 {
				if _, err := w.Search(t.Context(), ada, fmt.Sprintf("bo%d", i)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := w.Search(t.Context(), ada, "bo")
			if !apperr.Is(err, apperr.TooMany) || apperr.RetryAfterOf(err) <= 0 {
				t.Errorf("got %v", err)
			}
			if _, err := w.Search(t.Context(), bob, "ad"); err != nil {
				t.Errorf("somebody else is refused: %v", err)
			}
		})
	}
}

func TestProfile(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	w.must(w.ask, bob, ada)
	got, err := w.Profile(t.Context(), ada, bob.UserID)
	if err != nil || got != (wire.Profile{ID: bob.UserID, Username: "bob", DisplayName: "BOB", Relation: incoming}) {
		t.Errorf("got %+v, %v", got, err)
	}
	w.must(w.Reject, ada, bob)
	if got, err := w.Profile(t.Context(), ada, bob.UserID); err != nil || got.Relation != none {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := w.Profile(t.Context(), ada, ada.UserID); err != nil || got.Relation != wire.RelationSelf {
		t.Errorf("got %+v, %v", got, err)
	}
	w.must(w.Block, ada, bob)
	if got, err := w.Profile(t.Context(), ada, bob.UserID); err != nil || got.Relation != blocked {
		t.Errorf("a blocker does not find the blocked, to unblock them: %+v, %v", got, err)
	}
	_, err = w.Profile(t.Context(), bob, ada.UserID)
	w.wantCode(err, "no_such_user")
}

func TestListIsPaged(t *testing.T) {
	const all = 2345
	w := newWorld(t)
	ada := w.person("ada")
	w.crowd(ada, all, "contact")
	w.crowd(ada, 10, "rejected")
	seen := map[wire.UserID]bool{}
	after := noUser
	pages := 0
	for after != "" {
		page, err := w.List(t.Context(), ada, after)
		if err != nil || len(page.Contacts) > 1000 {
			t.Fatalf("%d on a page: %v", len(page.Contacts), err)
		}
		for _, c := range page.Contacts {
			seen[c.ID] = true
		}
		after = page.Next
		pages++
	}
	if len(seen) != all || pages != 3 {
		t.Errorf("%d contacts on %d pages", len(seen), pages)
	}
}

// crowd gives holder n relations of a state, each to somebody new.
func (w *world) crowd(holder wire.Session, n int, state string) {
	w.t.Helper()
	w.execute(`INSERT INTO users (id, username, display_name, password_hash, created_at, updated_at)
SELECT gen_random_uuid(), $1 || '.' || n, 'One of many', '', now(), now() FROM generate_series(1, $2) AS n`, state, n)
	w.execute(`INSERT INTO relations (user_id, other_id, state, since)
SELECT $1, id, $2, now() FROM users WHERE username LIKE $2 || '.%'`, holder.UserID, state)
}

// hold gives holder one relation and its other side none.
func (w *world) hold(holder, other wire.Session, state string) {
	w.t.Helper()
	w.execute(`INSERT INTO relations (user_id, other_id, state, since) VALUES ($1, $2, $3, $4)`,
		holder.UserID, other.UserID, state, w.clock.Now())
}

func TestBounds(t *testing.T) {
	w := newWorld(t)
	ada, bob, eve := w.person("ada"), w.person("bob"), w.person("eve")
	w.must(w.ask, bob, ada)
	late := w.person("late")
	w.hold(ada, late, "outgoing")
	w.crowd(ada, 4998, "outgoing")
	w.must(w.ask, ada, eve)
	t.Run("of_requests_and_contacts", func(t *testing.T) {
		_, err := w.Ask(t.Context(), ada, w.person("one-more").UserID)
		w.wantCode(err, "too_many_contacts")
		_, err = w.Accept(t.Context(), ada, bob.UserID)
		w.wantCode(err, "too_many_contacts")
		w.must(w.ask, ada, late) // asking again needs no more room
		if got, err := w.Profile(t.Context(), late, ada.UserID); err != nil || got.Relation != incoming {
			t.Errorf("asked again, the other sees %+v, %v", got, err)
		}
		w.must(w.accept, eve, ada) // nor does a request of hers that becomes a contact
		w.must(w.Block, ada, bob)  // who is full can still get rid of people
	})
	t.Run("of_blocks", func(t *testing.T) {
		w.crowd(eve, 5000, "blocked")
		w.wantCode(w.Block(t.Context(), eve, bob.UserID), "too_many_blocked")
	})
	t.Run("of_requests_from_others_and_nobody_is_told", func(t *testing.T) {
		popular := w.person("popular")
		w.crowd(popular, 1000, "incoming")
		if got, err := w.Ask(t.Context(), late, popular.UserID); err != nil || got.State != outgoing {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := w.Profile(t.Context(), popular, late.UserID); err != nil || got.Relation != none {
			t.Errorf("got %+v, %v", got, err)
		}
		w.must(w.ask, popular, bob) // her own room is another
	})
}

func TestRejectionsAreForgotten(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	w.crowd(ada, 3, "rejected")
	w.clock.Add(30*24*time.Hour + time.Minute)
	w.must(w.ask, bob, ada)
	w.must(w.Reject, ada, bob)
	var kept int
	if err := w.sql.QueryRow(t.Context(), `SELECT count(*) FROM relations WHERE user_id = $1`, ada.UserID).Scan(&kept); err != nil || kept != 1 {
		t.Errorf("%d rejections are kept: %v", kept, err)
	}
}

func TestRelations(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	want := func(a, b wire.UserID, want wire.Relations) {
		t.Helper()
		if got, err := w.Relations(t.Context(), a, b); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	want(ada.UserID, bob.UserID, wire.Relations{Active: true})
	w.must(w.ask, ada, bob)
	want(ada.UserID, bob.UserID, wire.Relations{Active: true})
	w.must(w.accept, bob, ada)
	want(ada.UserID, bob.UserID, wire.Relations{Contact: true, Active: true})
	want(bob.UserID, ada.UserID, wire.Relations{Contact: true, Active: true})
	w.must(w.Block, bob, ada)
	want(ada.UserID, bob.UserID, wire.Relations{Blocked: true, Active: true})
	want(bob.UserID, ada.UserID, wire.Relations{Blocking: true, Active: true})
	w.execute(`UPDATE users SET disabled_at = $2 WHERE id = $1`, ada.UserID, w.clock.Now())
	want(ada.UserID, bob.UserID, wire.Relations{Blocked: true})
	want(bob.UserID, ada.UserID, wire.Relations{Blocking: true})
	want(ada.UserID, noUser, wire.Relations{})
}

func TestAccountThatGoes(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.person("ada"), w.person("bob")
	w.must(w.ask, ada, bob)
	w.must(w.accept, bob, ada)
	w.execute(`DELETE FROM users WHERE id = $1`, bob.UserID)
	if got := w.sees(ada, bob); got != none {
		t.Errorf("still %s", got)
	}
	for name, do := range map[string]deed{"ask": w.ask, "accept": w.accept, "reject": w.Reject, "remove": w.Remove, "block": w.Block, "unblock": w.Unblock} {
		if err := do(t.Context(), ada, bob.UserID); apperr.CodeOf(err) != "no_such_user" {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.wantCode(w.ask(t.Context(), bob, ada.UserID), "no_such_user") // a token outlives its account by a moment
}

func TestHints(t *testing.T) {
	settings := testkit.RedisConfig(t)
	listener := redisstore.Open(settings)
	t.Cleanup(func() { _ = listener.Close() })
	subscription := listener.Subscribe(t.Context(), wire.RelationChannel)
	t.Cleanup(func() { _ = subscription.Close() })
	if _, err := subscription.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := testkit.NewLine(t, settings.Address)
	settings.Address = line.Address()
	hints := redisstore.Open(settings)
	t.Cleanup(func() { _ = hints.Close() })
	w := newWorldWith(t, hints)
	ada, bob := w.person("ada"), w.person("bob")
	both := []wire.RelationHint{{User: ada.UserID, Other: bob.UserID}, {User: bob.UserID, Other: ada.UserID}}
	onlyAda, onlyBob := both[:1], both[1:]

	for _, step := range []struct {
		name          string
		do            deed
		caller, other wire.Session
		want          []wire.RelationHint
	}{
		{"ask", w.ask, ada, bob, both},
		{"ask_again", w.ask, ada, bob, nil},
		{"reject_is_not_heard_by_the_rejected", w.Reject, bob, ada, onlyBob},
		{"cancel_is_not_heard_by_who_rejected", w.Remove, ada, bob, onlyAda},
		{"ask_is_not_heard_by_who_rejected", w.ask, ada, bob, onlyAda},
		{"agree", w.ask, bob, ada, both},
		{"remove", w.Remove, bob, ada, both},
		{"block_is_not_heard_by_the_blocked", w.Block, bob, ada, onlyBob},
		{"ask_is_not_heard_by_who_blocks", w.ask, ada, bob, onlyAda},
		{"unblock_is_not_heard_by_the_unblocked", w.Unblock, bob, ada, onlyBob},
	} {
		t.Run(step.name, func(t *testing.T) {
			w.must(step.do, step.caller, step.other)
			if err := listener.Publish(t.Context(), wire.RelationChannel, "end").Err(); err != nil {
				t.Fatal(err)
			}
			var got []wire.RelationHint
			for {
				message, err := subscription.ReceiveMessage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				hint, err := wire.ParseRelationHint(message.Payload)
				if err != nil {
					break // the end
				}
				got = append(got, hint)
			}
			slices.SortFunc(got, func(a, b wire.RelationHint) int {
				if a.User == ada.UserID {
					return -1
				}
				return 1
			})
			if !slices.Equal(got, step.want) {
				t.Errorf("got %v, want %v", got, step.want)
			}
		})
	}
	t.Run("nothing_fails_without_redis", func(t *testing.T) {
		line.Cut()
		w.must(w.Block, ada, bob)
		w.wantSeen(ada, bob, blocked, none)
	})
}

func TestReadyOnlyWithTables(t *testing.T) {
	w := newWorld(t)
	if err := w.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	empty := contacts.New(contacts.Parts{Log: slog.New(slog.DiscardHandler), SQL: testkit.Postgres(t)})
	if empty.Ready(context.WithoutCancel(t.Context())) == nil {
		t.Error("ready without tables")
	}
}
