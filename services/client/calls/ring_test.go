package calls

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

var (
	start = time.Unix(1_800_000_000, 0)
	one   = e2ee.Peer{User: "one", Device: "a"}
	two   = e2ee.Peer{User: "two", Device: "b"}
	three = e2ee.Peer{User: "three", Device: "c"}
)

func everybody(wire.UserID) bool { return true }

// at is a moment so many milliseconds after the start.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// gives takes what is due, and wants it to be those keys for those peers.
func (r *ring) gives(t *testing.T, now time.Time, keys []frames.Key, to ...e2ee.Peer) job {
	t.Helper()
	j, due := r.due(now, everybody)
	if !due {
		t.Fatal("nothing is due")
	}
	want := map[e2ee.Peer]bool{}
	for _, peer := range to {
		want[peer] = true
	}
	if !maps.Equal(j.peers, want) || !slices.Equal(j.keys, keys) {
		t.Errorf("%d keys (step %d) are due to %v, want %d (step %d) to %v", len(j.keys), j.keys[0].Step, j.peers, len(keys), keys[0].Step, want)
	}
	return j
}

// settled is a ring of whose keys those who are there have all.
func settled(t *testing.T, peers ...e2ee.Peer) *ring {
	t.Helper()
	r := newRing(func(frames.Key) {})
	r.begin(peers)
	if len(peers) > 0 {
		r.done(start, r.gives(t, start, []frames.Key{r.sender.Key()}, peers...), nil, nil)
	}
	r.idle(t, at(0))
	return r
}

func (r *ring) idle(t *testing.T, now time.Time) {
	t.Helper()
	if j, due := r.due(now, everybody); due {
		t.Errorf("%v are due something", j.peers)
	}
}

func TestRing_coming(t *testing.T) {
	r := settled(t, one)
	first := r.sender.Key()
	r.came(at(0), two)
	if step := r.sender.Key(); step.Chain != first.Chain || step.Step != 1 {
		t.Errorf("it is at %d", step.Step)
	}
	j := r.gives(t, at(0), []frames.Key{r.sender.Key()}, two)
	r.came(at(1), three)
	r.idle(t, at(1)) // one job at a time
	r.done(at(2), j, nil, nil)
	r.done(at(3), r.gives(t, at(2), []frames.Key{r.sender.Key()}, three), nil, nil)
	r.idle(t, at(3))
}

func TestRing_leaving(t *testing.T) {
	r := settled(t, one, two, three)
	first := r.sender.Key()
	r.left(at(0), three)
	j := r.gives(t, at(0), []frames.Key{first, *r.next}, one, two)
	next := *r.next
	r.tick(at(499))
	r.done(at(499), j, nil, nil)
	r.tick(at(499))
	if r.sender.Key() != first {
		t.Error("the new chain is used before it had time to arrive")
	}
	r.tick(at(500))
	if r.sender.Key() != next {
		t.Error("the new chain is not used")
	}
	r.idle(t, at(500))
}

// Somebody's key does not arrive: the others wait for 2 s, and whoever left reads no longer.
func TestRing_leaving_while_somebody_is_away(t *testing.T) {
	r := settled(t, one, two, three)
	first := r.sender.Key()
	r.left(at(0), three)
	r.done(at(100), r.gives(t, at(0), []frames.Key{first, *r.next}, one, two), nil, errors.New("away"))
	r.tick(at(1999))
	if r.sender.Key() != first {
		t.Error("the new chain is used before all have it")
	}
	next := *r.next
	r.tick(at(2000))
	if r.sender.Key() != next {
		t.Error("the new chain is not used after 2 s")
	}
	r.done(at(2001), r.gives(t, at(2000), []frames.Key{next}, one, two), nil, nil)
	r.idle(t, at(60000))
}

// Others leave all the time: that puts the end off for nobody.
func TestRing_leaving_again_and_again(t *testing.T) {
	r := settled(t, one, two, three)
	first := r.sender.Key()
	for ms := 0; ms < 2000; ms += 400 {
		r.tick(at(ms))
		if r.sender.Key() != first {
			t.Fatalf("after %d ms a chain is used that did not have its time", ms)
		}
		r.left(at(ms), e2ee.Peer{User: "passing"})
		j, _ := r.due(at(ms), everybody)
		r.done(at(ms), j, nil, nil)
	}
	r.tick(at(2000))
	if r.sender.Key() == first {
		t.Error("who left first still reads")
	}
}

// Who comes while a chain is about to be used is given both.
func TestRing_coming_and_leaving(t *testing.T) {
	r := settled(t, one, two)
	r.left(at(0), two)
	r.done(at(1), r.gives(t, at(0), []frames.Key{r.sender.Key(), *r.next}, one), nil, nil)
	r.came(at(400), three)
	j := r.gives(t, at(400), []frames.Key{r.sender.Key(), *r.next}, three)
	r.tick(at(600))
	if r.next == nil {
		t.Error("the new chain is used before the newcomer has it")
	}
	r.done(at(601), j, nil, nil)
	r.tick(at(601))
	if r.next != nil {
		t.Error("the new chain is not used")
	}
}

func TestRing_refusals(t *testing.T) {
	r := settled(t)
	r.came(at(0), one)
	r.came(at(0), two)
	refused := map[e2ee.Peer]error{two: e2ee.ErrUnsigned}
	r.done(at(0), r.gives(t, at(0), []frames.Key{r.sender.Key()}, one, two), refused, nil)
	if !reflect.DeepEqual(r.refused, refused) {
		t.Errorf("refused are %v", r.refused)
	}
	last := 0
	for i, ms := range []int{500, 1500, 3500, 7500, 15500, 31500, 61500} {
		r.idle(t, at(ms-1))
		r.done(at(ms), r.gives(t, at(ms), []frames.Key{r.sender.Key()}, two), refused, nil)
		last = ms
		_ = i
	}
	// Who is refused holds nobody up: not who comes, and not a new chain.
	r.came(at(last+1), three)
	r.done(at(last+1), r.gives(t, at(last+1), []frames.Key{r.sender.Key()}, two, three), refused, nil)
	r.left(at(last+2), one)
	j, _ := r.due(at(last+2), everybody)
	r.done(at(last+3), j, refused, nil)
	r.tick(at(last + 502))
	if r.next != nil {
		t.Error("the new chain waits for who may not have it")
	}
	j, _ = r.due(at(last+10000), everybody)
	r.done(at(last+10000), j, nil, nil)
	if len(r.refused) != 0 {
		t.Errorf("%v are refused still", r.refused)
	}
}

// Who is not judged yet waits, and lets others pass.
func TestRing_judging(t *testing.T) {
	r := settled(t)
	r.came(at(0), one)
	r.came(at(0), two)
	j, due := r.due(at(0), func(user wire.UserID) bool { return user == two.User })
	if !due || !maps.Equal(j.peers, map[e2ee.Peer]bool{two: true}) {
		t.Errorf("%v are due something", j.peers)
	}
	r.done(at(1), j, nil, nil)
	r.gives(t, at(1), []frames.Key{r.sender.Key()}, one)
}

// A step that 16 divides goes to all; and a chain ends with its last step, which who comes after is not given.
func TestRing_many_come(t *testing.T) {
	r := settled(t, one)
	chain := r.sender.Key().Chain
	for n := 1; n <= frames.LastStep; n++ {
		peer := e2ee.Peer{User: "many", Device: wire.DeviceID(rune('A' + n))}
		r.came(at(n), peer)
		j, _ := r.due(at(n), everybody)
		if all := len(j.peers) > 1; all != (n%16 == 0 || n == frames.LastStep) {
			t.Errorf("step %d is due to %d", n, len(j.peers))
		}
		r.done(at(n), j, nil, nil)
	}
	if r.sender.Key().Chain != chain || r.sender.Key().Step != frames.LastStep || r.next == nil {
		t.Fatalf("it is at step %d", r.sender.Key().Step)
	}
	r.came(at(300), two)
	next := *r.next
	j, _ := r.due(at(300), everybody)
	if !j.peers[two] || j.has(chain) || !j.has(next.Chain) {
		t.Errorf("due are %d keys", len(j.keys))
	}
	r.done(at(300), j, nil, nil)
	r.tick(at(800))
	if r.sender.Key() != next {
		t.Error("the new chain is not used")
	}
}
