package contacts

import (
	"testing"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

var (
	rules = map[string]rule{"ask": ask, "accept": accept, "reject": reject, "remove": remove, "block": block, "unblock": unblock}
	start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

func (p pair) turned() pair { return pair{p.theirs, p.mine} }

// Whatever two people do in whatever order, the promises of pair hold.
func TestPromisesOfEveryReachablePair(t *testing.T) {
	type states struct{ mine, theirs wire.Relation }
	seen := map[states]bool{}
	var visit func(p pair, now time.Time)
	visit = func(p pair, now time.Time) {
		s := states{p.mine.state, p.theirs.state}
		if seen[s] {
			return
		}
		seen[s] = true
		contact, incoming, outgoing := wire.RelationContact, wire.RelationIncoming, wire.RelationOutgoing
		if (s.mine == contact) != (s.theirs == contact) {
			t.Errorf("contact on one side: %v", s)
		}
		if s.mine == incoming && s.theirs != outgoing {
			t.Errorf("a request that nobody made: %v", s)
		}
		if s.mine == outgoing && s.theirs == outgoing {
			t.Errorf("two requests and no contact: %v", s)
		}
		for _, apply := range rules {
			for _, later := range []time.Duration{time.Minute, rejectedFor} {
				if next, err := apply(p, now.Add(later)); err == nil {
					visit(next, now.Add(later))
					visit(next.turned(), now.Add(later))
				}
			}
		}
	}
	visit(pair{nothing, nothing}, start)
	if len(seen) < 12 {
		t.Errorf("only %d pairs were reached: %v", len(seen), seen)
	}
}

// Ada does anything, five times in a row, to somebody who never answers, has blocked her or has just rejected her. She
// gets the same answers and sees the same.
func TestSilenceBlockAndRejectionLookAlike(t *testing.T) {
	asked := after(t, pair{nothing, nothing}, ask)
	silent := asked
	blocked := after(t, asked.turned(), block).turned()
	refused := after(t, asked.turned(), reject).turned()
	var compare func(depth int, worlds [3]pair, path string)
	compare = func(depth int, worlds [3]pair, path string) {
		for i, w := range worlds {
			if w.mine.shown() != worlds[0].mine.shown() || w.mine.since != worlds[0].mine.since {
				t.Fatalf("after%s world %d shows %v, the silent one %v", path, i, w.mine, worlds[0].mine)
			}
		}
		if depth == 0 {
			return
		}
		for name, apply := range rules {
			now := start.Add(time.Duration(10-depth) * time.Hour)
			var next [3]pair
			var codes [3]string
			for i, w := range worlds {
				var err error
				next[i], err = apply(w, now)
				codes[i] = codeOf(err)
			}
			if codes[0] != codes[1] || codes[0] != codes[2] {
				t.Fatalf("after%s %s answers %q", path, name, codes)
			}
			if codes[0] == "" {
				compare(depth-1, next, path+" "+name)
			}
		}
	}
	compare(5, [3]pair{silent, blocked, refused}, "")
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return apperr.CodeOf(err)
}

func after(t *testing.T, p pair, apply rule) pair {
	t.Helper()
	p, err := apply(p, start)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRejectionLasts(t *testing.T) {
	refused := after(t, after(t, pair{nothing, nothing}, ask).turned(), reject).turned()
	for name, before := range map[string]func(pair) pair{
		"asking_again": func(p pair) pair { return p },
		"cancelling":   func(p pair) pair { return after(t, p, remove) },
		"blocking":     func(p pair) pair { return after(t, after(t, p, block), unblock) },
	} {
		t.Run(name, func(t *testing.T) {
			p := before(refused)
			early, err := ask(p, start.Add(rejectedFor-time.Second))
			if err != nil || early.theirs.shown() != wire.RelationNone {
				t.Errorf("it brought the request back early: %+v, %v", early, err)
			}
			late, err := ask(early, start.Add(rejectedFor))
			if err != nil || late.theirs.state != wire.RelationIncoming || late.mine != early.mine {
				t.Errorf("it never comes back, or its sender sees it: %+v, %v", late, err)
			}
		})
	}
	t.Run("who_rejected_may_change_their_mind", func(t *testing.T) {
		if p := after(t, refused.turned(), ask); p.mine.state != wire.RelationContact {
			t.Errorf("got %+v", p)
		}
	})
}
