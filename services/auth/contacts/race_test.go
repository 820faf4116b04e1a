package contacts_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"

	"secureconnect/services/auth/contacts"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// twoHosts are two services on one store, each with connections of its own.
func twoHosts(t *testing.T) (w, other *world) {
	t.Helper()
	w = newWorld(t)
	second := contacts.New(contacts.Parts{
		Log: slog.New(slog.DiscardHandler), SQL: testkit.OpenPostgres(t, w.address), Now: w.clock.Now,
	})
	there := *w
	there.Service = second
	return w, &there
}

// strangers are two people whom no rate limit and no history concerns.
func (w *world) strangers() (ada, bob wire.Session) {
	w.t.Helper()
	suffix := uuid.NewString()[:12]
	return w.person("ada-" + suffix), w.person("bob-" + suffix)
}

// atOnce does both together and gives the codes of their answers, "" for success.
func atOnce(ctx context.Context, one, two func(context.Context) error) (first, second string) {
	var together sync.WaitGroup
	begin := make(chan struct{})
	run := func(do func(context.Context) error, code *string) {
		together.Go(func() {
			<-begin
			if err := do(ctx); err != nil {
				*code = apperr.CodeOf(err)
			}
		})
	}
	run(one, &first)
	run(two, &second)
	close(begin)
	together.Wait()
	return first, second
}

const rounds = 150

// Each race has one end, or one of few, whoever comes first.
func TestRaces(t *testing.T) {
	here, there := twoHosts(t)
	with := func(do deed, caller, other wire.Session) func(context.Context) error {
		return func(ctx context.Context) error { return do(ctx, caller, other.UserID) }
	}
	for name, c := range map[string]struct {
		before func(ada, bob wire.Session)
		ada    deed // on one host
		bob    deed // on the other
		// What ada and bob see at the end, and the codes they may be answered with.
		ofBob, ofAda       wire.Relation
		adaCodes, bobCodes []string
	}{
		"two_who_ask_each_other_are_contacts": {
			ada: here.ask, bob: there.ask, ofBob: contact, ofAda: contact,
		},
		"accept_against_cancel_leaves_nothing": {
			before: func(ada, bob wire.Session) { here.must(here.ask, ada, bob) },
			ada:    here.Remove, bob: there.accept, ofBob: none, ofAda: none,
			bobCodes: []string{"no_such_request"},
		},
		"block_by_who_asked_against_accept": {
			before: func(ada, bob wire.Session) { here.must(here.ask, ada, bob) },
			ada:    here.Block, bob: there.accept, ofBob: blocked, ofAda: none,
			bobCodes: []string{"no_such_request"},
		},
		"both_block": {
			before: func(ada, bob wire.Session) { here.must(here.ask, ada, bob); here.must(here.accept, bob, ada) },
			ada:    here.Block, bob: there.Block, ofBob: blocked, ofAda: blocked,
		},
		"both_remove": {
			before: func(ada, bob wire.Session) { here.must(here.ask, ada, bob); here.must(here.accept, bob, ada) },
			ada:    here.Remove, bob: there.Remove, ofBob: none, ofAda: none,
			adaCodes: []string{"no_such_contact"}, bobCodes: []string{"no_such_contact"},
		},
		"ask_against_block": {
			ada: here.ask, bob: there.Block, ofBob: outgoing, ofAda: blocked,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for round := range rounds {
				ada, bob := here.strangers()
				if c.before != nil {
					c.before(ada, bob)
				}
				first, second := atOnce(t.Context(), with(c.ada, ada, bob), with(c.bob, bob, ada))
				if !oneOf(first, c.adaCodes) || !oneOf(second, c.bobCodes) || first != "" && second != "" {
					t.Fatalf("round %d: answered %q and %q", round, first, second)
				}
				if ofBob, ofAda := here.sees(ada, bob), here.sees(bob, ada); ofBob != c.ofBob || ofAda != c.ofAda {
					t.Fatalf("round %d: ended with %s and %s, want %s and %s", round, ofBob, ofAda, c.ofBob, c.ofAda)
				}
			}
		})
	}
	t.Run("of_two_who_ask_exactly_one_hears_of_the_contact_at_once", func(t *testing.T) {
		for round := range rounds {
			ada, bob := here.strangers()
			var ofBob, ofAda wire.Contact
			atOnce(t.Context(),
				func(ctx context.Context) (err error) { ofBob, err = here.Ask(ctx, ada, bob.UserID); return err },
				func(ctx context.Context) (err error) { ofAda, err = there.Ask(ctx, bob, ada.UserID); return err })
			if (ofBob.State == contact) == (ofAda.State == contact) {
				t.Fatalf("round %d: got %s and %s", round, ofBob.State, ofAda.State)
			}
		}
	})
}

func oneOf(code string, codes []string) bool {
	for _, known := range codes {
		if code == known {
			return true
		}
	}
	return code == ""
}

// Two people do anything to each other, from two devices each, until the end; then the promises of a pair hold.
func TestChaosKeepsThePromises(t *testing.T) {
	here, there := twoHosts(t)
	for round := range 12 {
		ada, bob := here.strangers()
		var all sync.WaitGroup
		for device := range 4 {
			w, caller, other := here, ada, bob
			if device%2 == 1 {
				w, caller, other = there, bob, ada
			}
			deeds := []deed{w.ask, w.ask, w.accept, w.accept, w.Reject, w.Remove, w.Block, w.Unblock}
			choice := rand.New(rand.NewPCG(uint64(round), uint64(device)))
			all.Go(func() {
				for range 20 {
					err := deeds[choice.IntN(len(deeds))](t.Context(), caller, other.UserID)
					if err != nil && !apperr.Is(err, apperr.NotFound) && !apperr.Is(err, apperr.Conflict) && !apperr.Is(err, apperr.TooMany) {
						t.Errorf("round %d: %v", round, err)
					}
				}
			})
		}
		all.Wait()
		ofBob, ofAda := here.sees(ada, bob), here.sees(bob, ada)
		switch {
		case (ofBob == contact) != (ofAda == contact),
			ofBob == incoming && ofAda != outgoing, ofAda == incoming && ofBob != outgoing,
			ofBob == outgoing && ofAda == outgoing:
			t.Errorf("round %d ended with %s and %s", round, ofBob, ofAda)
		}
	}
}

// A crowd asks one person at the same moment; nobody's request is lost or refused for it.
func TestCrowdAtOneDoor(t *testing.T) {
	here, there := twoHosts(t)
	star := here.person("star")
	var fans [32]wire.Session
	for i := range fans {
		fans[i] = here.person(fmt.Sprintf("fan%02d", i))
	}
	var all sync.WaitGroup
	for i, fan := range fans {
		w := []*world{here, there}[i%2]
		all.Go(func() {
			if _, err := w.Ask(t.Context(), fan, star.UserID); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, fan := range fans {
		if here.sees(star, fan) != incoming {
			t.Error("a request was lost")
		}
	}
}
