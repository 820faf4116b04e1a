package video

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestBegin(t *testing.T) {
	w := newWorld(t)
	s, other := w.service(), w.service()
	ada, bob, eve := newUser(), newUser(), newUser()
	group := w.conversation(ada, bob, eve)

	t.Run("the_same_request_is_the_same_call", func(t *testing.T) {
		request := wire.CallRequest{ConversationID: w.conversation(ada, bob), ClientID: newClientID(), Media: wire.MediaAudio}
		first, isNew, err := s.Begin(t.Context(), ada, request)
		if err != nil || !isNew || first.State != wire.CallRinging {
			t.Fatalf("got %+v, %v, %v", first, isNew, err)
		}
		again, isNew, err := other.Begin(t.Context(), ada, request)
		if err != nil || isNew || again.ID != first.ID {
			t.Errorf("again: %+v, %v, %v", again, isNew, err)
		}
		if err := s.Leave(t.Context(), ada, first.ID); err != nil {
			t.Fatal(err)
		}
		over, _, err := s.Begin(t.Context(), ada, request)
		if err != nil || over.ID != first.ID || over.State != wire.CallEnded || over.Reason != wire.EndedCancelled {
			t.Errorf("after its end: %+v, %v", over, err)
		}
	})
	t.Run("many_at_once_are_one_call", func(t *testing.T) {
		ids := make([]wire.CallID, 8)
		var all errgroup.Group
		for i := range ids {
			all.Go(func() error {
				call, _, err := []*Service{s, other}[i%2].Begin(t.Context(), []wire.Session{ada, bob, eve}[i%3], wire.CallRequest{ConversationID: group, ClientID: newClientID(), Media: wire.MediaVideo})
				ids[i] = call.ID
				return err
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
			t.Errorf("calls %v go on", ids)
		}
	})
	t.Run("who_is_in_a_call_is_busy", func(t *testing.T) {
		ada, bob, eve := newUser(), newUser(), newUser()
		with := w.begin(s, ada, w.conversation(ada, bob))
		if _, err := s.enter(t.Context(), bob, with.ID); err != nil {
			t.Fatal(err)
		}
		call := w.begin(s, eve, w.conversation(eve, bob))
		if call.State != wire.CallEnded || call.Reason != wire.EndedBusy {
			t.Errorf("got %+v", call)
		}
	})
	t.Run("odd_requests_are_refused", func(t *testing.T) {
		for code, request := range map[string]wire.CallRequest{
			"no_such_conversation": {ConversationID: wire.ConversationID(uuid.NewString()), ClientID: newClientID(), Media: wire.MediaAudio},
			"invalid_client_id":    {ConversationID: group, ClientID: wire.ClientID(uuid.NewString()), Media: wire.MediaAudio},
			"invalid_media":        {ConversationID: group, ClientID: newClientID(), Media: "hologram"},
		} {
			_, _, err := s.Begin(t.Context(), ada, request)
			wantCode(t, err, code)
		}
		_, _, err := s.Begin(t.Context(), newUser(), wire.CallRequest{ConversationID: group, ClientID: newClientID(), Media: wire.MediaAudio})
		wantCode(t, err, "no_such_conversation")
		w.say(func(w *world) { w.blocked = true })
		_, _, err = s.Begin(t.Context(), ada, wire.CallRequest{ConversationID: w.conversation(ada, bob), ClientID: newClientID(), Media: wire.MediaAudio})
		wantCode(t, err, "cannot_call")
		w.say(func(w *world) { w.away = true })
		_, _, err = s.Begin(t.Context(), ada, wire.CallRequest{ConversationID: group, ClientID: newClientID(), Media: wire.MediaAudio})
		wantCode(t, err, "unavailable")
		w.say(func(w *world) { w.away, w.blocked = false, false })
	})
	t.Run("nobody_calls_without_end", func(t *testing.T) {
		restless := newUser()
		id := w.conversation(restless, bob)
		for range beginLimit.Burst {
			w.begin(s, restless, id)
		}
		_, _, err := s.Begin(t.Context(), restless, wire.CallRequest{ConversationID: id, ClientID: newClientID(), Media: wire.MediaAudio})
		wantCode(t, err, "too_many_requests")
	})
}

func TestCallsOfAUser(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	ada, bob, eve, outsider := newUser(), newUser(), newUser(), newUser()
	call := w.begin(s, ada, w.conversation(ada, bob, eve))
	for _, who := range []wire.Session{ada, bob, eve} {
		found, err := s.Calls(t.Context(), who)
		if err != nil || len(found.Calls) != 1 || found.Calls[0].ID != call.ID || len(found.Calls[0].Members) != 3 {
			t.Errorf("%+v, %v", found, err)
		}
	}
	if found, err := s.Calls(t.Context(), outsider); err != nil || len(found.Calls) != 0 {
		t.Errorf("an outsider sees %+v, %v", found, err)
	}
	for _, ask := range []func() error{
		func() error { _, err := s.Call(t.Context(), outsider, call.ID); return err },
		func() error { return s.Decline(t.Context(), outsider, call.ID) },
		func() error { return s.Leave(t.Context(), outsider, call.ID) },
		func() error { _, err := s.mayEnter(t.Context(), outsider, call.ID); return err },
		func() error { _, err := s.Call(t.Context(), ada, wire.CallID(uuid.NewString())); return err },
	} {
		wantCode(t, ask(), "no_such_call")
	}
	if err := s.Decline(t.Context(), bob, call.ID); err != nil {
		t.Fatal(err)
	}
	if state := w.state(call.ID, bob.UserID); state != wire.MemberDeclined {
		t.Errorf("bob is %s", state)
	}

	t.Run("a_user_is_in_one_call", func(t *testing.T) {
		if _, err := s.enter(t.Context(), eve, call.ID); err != nil {
			t.Fatal(err)
		}
		second := w.begin(s, bob, w.conversation(bob, ada))
		if second.Reason != wire.EndedBusy {
			t.Errorf("ada's call is %+v", second)
		}
		another := w.begin(s, ada, w.conversation(ada, outsider))
		if _, err := s.enter(t.Context(), ada, another.ID); err != nil {
			t.Fatal(err)
		}
		if state := w.state(call.ID, ada.UserID); state != wire.MemberLeft {
			t.Errorf("in the first call ada is %s", state)
		}
	})
	t.Run("a_test_call_is_ones_own", func(t *testing.T) {
		test, err := s.Test(t.Context(), ada)
		if err != nil || !test.Test || test.State != wire.CallLive {
			t.Fatalf("got %+v, %v", test, err)
		}
		if _, err := s.mayEnter(t.Context(), ada, test.ID); err != nil {
			t.Error(err)
		}
		_, err = s.mayEnter(t.Context(), bob, test.ID)
		wantCode(t, err, "no_such_call")
		if found, err := s.Calls(t.Context(), ada); err != nil || slices.ContainsFunc(found.Calls, func(c wire.Call) bool { return c.Test }) {
			t.Errorf("it is listed: %+v, %v", found, err)
		}
		for range testLimit.Burst {
			_, err = s.Test(t.Context(), ada)
		}
		wantCode(t, err, "too_many_requests")
	})
}

func TestTimePasses(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	ada, bob := newUser(), newUser()
	heard := w.direct.Subscribe(t.Context(), wire.CallsChannel)
	defer func() { _ = heard.Close() }()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHint := func() {
		t.Helper()
		message, err := heard.ReceiveMessage(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{string(ada.UserID) + " " + string(bob.UserID), string(bob.UserID) + " " + string(ada.UserID)}; !slices.Contains(want, message.Payload) {
			t.Errorf("told %q", message.Payload)
		}
	}
	rung := w.begin(s, ada, w.conversation(ada, bob))
	wantHint()
	if err := s.sweepRinging(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := w.state(rung.ID, bob.UserID); state != wire.MemberRinging {
		t.Errorf("it ceased to ring at once: %s", state)
	}
	w.exec(`UPDATE calls SET started_at = now() - INTERVAL '46 seconds' WHERE id = $1`, rung.ID)
	if err := s.sweepRinging(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHint()
	if call, err := s.Call(t.Context(), ada, rung.ID); err != nil || call.Reason != wire.EndedMissed {
		t.Errorf("got %+v, %v", call, err)
	}

	t.Run("nobody_is_connected", func(t *testing.T) {
		call := w.begin(s, ada, w.conversation(ada, bob, newUser()))
		if err := s.sweepAbandoned(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state := w.state(call.ID, ada.UserID); state != wire.MemberJoined {
			t.Errorf("ada is %s at once", state)
		}
		w.exec(`UPDATE calls SET empty_since = now() - INTERVAL '61 seconds' WHERE id = $1`, call.ID)
		if err := s.sweepAbandoned(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Call(t.Context(), ada, call.ID); err != nil || got.Reason != wire.EndedLost {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("its_owner_is_dead", func(t *testing.T) {
		call := w.begin(s, ada, w.conversation(ada, bob, newUser()))
		if _, err := s.enter(t.Context(), ada, call.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.sweepAbandoned(t.Context()); err != nil { // notes since when
			t.Fatal(err)
		}
		found, err := w.store.call(t.Context(), call.ID)
		if err != nil || found.empty == nil || found.EndedAt != nil {
			t.Errorf("got %+v, %v", found, err)
		}
	})
	t.Run("what_ended_is_logged_once_and_forgotten_later", func(t *testing.T) {
		if err := s.logEnded(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := w.store.callsWhere(t.Context(), "are to be logged", sqlUnlogged, logAtOnce); err != nil || len(left) > 0 {
			t.Errorf("not logged: %v, %v", left, err)
		}
		page, err := s.History(t.Context(), bob, "", 0)
		if err != nil || len(page.Calls) == 0 || page.Missed == 0 {
			t.Fatalf("got %+v, %v", page, err)
		}
		if err := s.logEnded(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again, err := s.History(t.Context(), bob, "", 0); err != nil || len(again.Calls) != len(page.Calls) {
			t.Errorf("logged twice: %+v, %v", again, err)
		}
		w.exec(`UPDATE calls SET ended_at = ended_at - INTERVAL '25 hours' WHERE ended_at IS NOT NULL`)
		if err := s.sweepOld(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = s.Call(t.Context(), ada, rung.ID)
		wantCode(t, err, "no_such_call")
		if again, err := s.History(t.Context(), bob, "", 0); err != nil || len(again.Calls) != len(page.Calls) {
			t.Errorf("the log went too: %+v, %v", again, err)
		}
	})
}

func TestHistory(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	ada := newUser()
	var want []wire.CallID
	for i := range 25 { // over several months, two of them at the same moment
		at := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Duration(i/2) * 9 * 24 * time.Hour)
		record := wire.CallRecord{
			CallID: wire.CallID(uuid.Must(uuid.NewV7()).String()), ConversationID: w.conversation(ada, newUser()), Media: wire.MediaAudio,
			StartedBy: ada.UserID, StartedAt: at, EndedAt: at.Add(time.Minute), Outcome: wire.OutcomeMissed, Reason: wire.EndedMissed,
		}
		if err := s.records.put(t.Context(), ada.UserID, record); err != nil {
			t.Fatal(err)
		}
		want = append(want, record.CallID)
	}
	var got []wire.CallID
	pages := 0
	for before := ""; ; pages++ {
		page, err := s.History(t.Context(), ada, before, 4)
		if err != nil {
			t.Fatal(err)
		}
		for i, record := range page.Calls {
			if i > 0 && record.StartedAt.After(page.Calls[i-1].StartedAt) {
				t.Error("a page is out of order")
			}
			got = append(got, record.CallID)
		}
		if before = page.Next; before == "" {
			break
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || pages != 6 {
		t.Errorf("%d of %d records on %d pages", len(got), len(want), pages+1)
	}
	for _, odd := range []string{"x", "MTIz"} {
		_, err := s.History(t.Context(), ada, odd, 0)
		wantCode(t, err, "invalid_before")
	}

	t.Run("what_is_over_is_there_at_once", func(t *testing.T) {
		eve, bob := newUser(), newUser()
		call := w.begin(s, eve, w.conversation(eve, bob))
		if err := s.Leave(t.Context(), eve, call.ID); err != nil {
			t.Fatal(err)
		}
		for _, who := range []wire.Session{bob, eve} {
			if page, err := s.History(t.Context(), who, "", 1); err != nil || len(page.Calls) != 1 || page.Calls[0].CallID != call.ID || (page.Missed == 1) != (who == bob) {
				t.Errorf("got %+v, %v", page, err)
			}
		}
	})
	t.Run("missed_until_seen", func(t *testing.T) {
		page, err := s.History(t.Context(), ada, "", 1)
		if err != nil || page.Missed != 8 || page.SeenAt != nil { // of the last 30 days
			t.Errorf("got %+v, %v", page, err)
		}
		if err := s.Seen(t.Context(), ada, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := s.Seen(t.Context(), ada, time.Now().Add(-300*time.Hour)); err != nil { // never goes back
			t.Fatal(err)
		}
		if page, err := s.History(t.Context(), ada, "", 1); err != nil || page.Missed != 2 || page.SeenAt == nil {
			t.Errorf("got %+v, %v", page, err)
		}
		wantCode(t, s.Seen(t.Context(), ada, time.Now().Add(time.Hour)), "invalid_time")
	})
}

func TestOwnership(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	ctx := t.Context()
	ada := newUser()
	call := w.begin(s, ada, w.conversation(ada, newUser(), newUser()))
	one, err := w.store.register(ctx, "app-01", "10.0.0.1:8083")
	if err != nil {
		t.Fatal(err)
	}
	two, err := w.store.register(ctx, "app-02", "10.0.0.2:8083")
	if err != nil {
		t.Fatal(err)
	}
	take := func(seen int64, to, from owner) (int64, bool) {
		t.Helper()
		fence, taken, err := w.store.take(ctx, call.ID, seen, to, from)
		if err != nil {
			t.Fatal(err)
		}
		return fence, taken
	}
	fence, taken := take(0, one, owner{})
	if !taken || fence != 1 {
		t.Fatalf("fence %d, %v", fence, taken)
	}
	if where, err := w.store.place(ctx, call.ID); err != nil || where.owner != one || where.address != "10.0.0.1:8083" {
		t.Errorf("it is at %+v, %v", where, err)
	}
	if _, taken := take(fence, two, owner{}); taken {
		t.Error("taken from one who lives")
	}
	w.exec(`UPDATE call_hosts SET expires_at = now() - INTERVAL '1 second' WHERE host = 'app-01'`)
	if where, err := w.store.place(ctx, call.ID); err != nil || where.address != "" {
		t.Errorf("a dead one has it: %+v, %v", where, err)
	}
	if _, taken := take(fence-1, two, owner{}); taken {
		t.Error("taken from a fence that was passed")
	}
	next, taken := take(fence, two, owner{})
	if !taken || next != 2 {
		t.Errorf("fence %d, %v", next, taken)
	}
	if _, taken := take(fence, one, owner{}); taken {
		t.Error("taken twice from one fence")
	}
	if held, err := w.store.renew(ctx, one); err != nil || !held { // it comes back to life
		t.Errorf("renewed: %v, %v", held, err)
	}
	if _, taken := take(next, one, owner{}); taken {
		t.Error("taken back from one who lives")
	}

	t.Run("another_process_of_the_same_name_begins_an_epoch", func(t *testing.T) {
		again, err := w.store.register(ctx, "app-02", "10.0.0.2:8083")
		if err != nil || again.epoch != two.epoch+1 {
			t.Fatalf("got %+v, %v", again, err)
		}
		if held, err := w.store.renew(ctx, two); err != nil || held {
			t.Errorf("the one before still holds it: %v, %v", held, err)
		}
		if third, taken := take(next, again, owner{}); !taken {
			t.Errorf("what was of the epoch before is not free: %d", third)
		} else {
			next, two = third, again
		}
	})
	t.Run("one_that_leaves_gives_and_takes_nothing", func(t *testing.T) {
		if err := w.store.leave(ctx, two); err != nil {
			t.Fatal(err)
		}
		found, err := w.store.successors(ctx, "app-02")
		if err != nil || len(found) != 1 || found[0] != one {
			t.Errorf("successors are %+v, %v", found, err)
		}
		if _, taken := take(next, two, owner{}); taken {
			t.Error("taken by one that leaves")
		}
		if fence, taken := take(next, one, two); !taken || fence != next+1 {
			t.Errorf("not given: %d, %v", fence, taken)
		}
	})
	t.Run("what_is_over_is_nobody_s", func(t *testing.T) {
		w.exec(`UPDATE calls SET ended_at = now() WHERE id = $1`, call.ID)
		if _, taken := take(next+1, one, one); taken {
			t.Error("a call that is over was taken")
		}
	})
}

func TestManyTakersOneOwner(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	ada := newUser()
	call := w.begin(s, ada, w.conversation(ada, newUser(), newUser()))
	takers := make([]owner, 6)
	for i := range takers {
		var err error
		if takers[i], err = w.store.register(t.Context(), "app-0"+string(rune('1'+i)), "x"); err != nil {
			t.Fatal(err)
		}
	}
	wins := make([]bool, len(takers))
	var all errgroup.Group
	for i, taker := range takers {
		all.Go(func() (err error) {
			_, wins[i], err = w.store.take(t.Context(), call.ID, 0, taker, owner{})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(wins, func(won bool) bool { return !won })); n != 1 {
		t.Errorf("%d hosts own the call", n)
	}
	testkit.Eventually(t, patience, "one owner", func() bool {
		where, err := w.store.place(t.Context(), call.ID)
		return err == nil && where.fence == 1
	})
}
