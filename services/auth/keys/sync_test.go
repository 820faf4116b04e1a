package keys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

const patience = 15 * time.Second

func texts(t *testing.T, page wire.KeysSync) (all []string) {
	t.Helper()
	for _, event := range page.ToDevice.Events {
		content, _ := plain(t, event.Content).(object)
		text, _ := content["n"].(string)
		all = append(all, text)
	}
	return all
}

func TestSendToDevice(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.join("ada"), w.join("bob")

	t.Run("events_come_in_order_from_whom_the_server_knows", func(t *testing.T) {
		for i := range 5 {
			content := object{"n": fmt.Sprint(i), "sender": "@liar:secureconnect", "é": "\u2028"}
			into[object](t, ada.send(fmt.Sprint("order", i), content, bob))
		}
		page := bob.sync("")
		if got := strings.Join(texts(t, page), " "); got != "0 1 2 3 4" {
			t.Errorf("got %s", got)
		}
		sameJSON(t, page.ToDevice.Events[0], object{"sender": ada.user(), "type": "m.test", "content": object{"n": "0", "sender": "@liar:secureconnect", "é": "\u2028"}})
		bob.sync(page.NextBatch)
	})
	t.Run("the_same_transaction_is_one", func(t *testing.T) {
		before := bob.sync("").NextBatch
		var sending sync.WaitGroup
		for range 8 {
			sending.Go(func() { into[object](t, ada.send("once", object{"n": "once"}, bob)) })
		}
		sending.Wait()
		into[object](t, ada.send("once", object{"n": "other bytes"}, bob))
		if got := texts(t, bob.sync(before)); len(got) != 1 || got[0] != "once" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("another_devices_transaction_is_another", func(t *testing.T) {
		before := bob.sync("").NextBatch
		into[object](t, w.login("ada", "").send("once", object{"n": "second device"}, bob))
		if got := texts(t, bob.sync(before)); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a_star_is_every_device_and_a_name_beats_it", func(t *testing.T) {
		other := w.login("bob", "")
		other.mustUpload(object{"device_keys": other.deviceKeys()})
		before := bob.sync("").NextBatch
		body := object{"messages": object{bob.user(): object{"*": object{"n": "all"}, other.id(): object{"n": "you"}}}}
		into[object](t, ada.call(t.Context(), ada.token, http.MethodPut, "/v1/keys/sendToDevice/m.test/star", body))
		if got, his := texts(t, bob.sync(before)), texts(t, other.sync("")); !slices.Equal(got, []string{"all"}) || !slices.Equal(his, []string{"you"}) {
			t.Errorf("got %q and %q", got, his)
		}
	})
	t.Run("unknown_users_and_devices_are_passed_over", func(t *testing.T) {
		before := bob.sync("").NextBatch
		body := object{"messages": object{
			"@00000000-0000-0000-0000-000000000001:secureconnect": object{"X": object{}}, "nonsense": object{"*": object{}},
			bob.user(): object{"GHOST": object{"n": "x"}, "no id!": object{}, bob.id(): object{"n": "there"}},
		}}
		into[object](t, ada.call(t.Context(), ada.token, http.MethodPut, "/v1/keys/sendToDevice/m.test/unknown", body))
		if got := texts(t, bob.sync(before)); !slices.Equal(got, []string{"there"}) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a_full_queue_keeps_what_it_has_and_says_so", func(t *testing.T) {
		carol := w.join("carol")
		into[object](t, ada.send("full0", object{"n": "first"}, carol))
		w.exec(`UPDATE key_devices SET inbox_gone = inbox_gone - $3 WHERE user_id = $1 AND device_id = $2`, carol.session.UserID, carol.session.DeviceID, keys.MaxQueued-1)
		sameJSON(t, into[object](t, ada.send("full1", object{"n": "second"}, carol, bob)), object{"full": object{carol.user(): []string{carol.id()}}})
		page := carol.sync("")
		if got := texts(t, page); !slices.Equal(got, []string{"first"}) {
			t.Errorf("got %q", got)
		}
		carol.sync(page.NextBatch)
		sameJSON(t, into[object](t, ada.send("full2", object{"n": "third"}, carol)), object{})
	})
	t.Run("events_wait_30_days", func(t *testing.T) {
		dave := w.join("dave")
		into[object](t, ada.send("old", object{"n": "old"}, dave))
		w.clock.Add(keys.QueuedFor - time.Minute)
		w.exec(`UPDATE sessions SET expires_at = $1`, w.clock.Now().Add(time.Hour)) // everybody came by meanwhile
		ada, dave := w.again(ada), w.again(dave)
		into[object](t, ada.send("new", object{"n": "new"}, dave))
		w.clock.Add(2 * time.Minute)
		if err := w.directory.SweepOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := texts(t, w.again(dave).sync("")); !slices.Equal(got, []string{"new"}) {
			t.Errorf("got %q", got)
		}
	})
}

// again is the same device with a session and token of now.
func (w *world) again(d *device) *device {
	w.t.Helper()
	name := ""
	if err := w.sql.QueryRow(w.t.Context(), `SELECT username FROM users WHERE id = $1`, d.session.UserID).Scan(&name); err != nil {
		w.t.Fatal(err)
	}
	fresh := w.login(name, d.id())
	fresh.key = d.key
	return fresh
}

func TestSync(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.join("ada"), w.join("bob")

	t.Run("a_lost_answer_loses_nothing", func(t *testing.T) {
		start := bob.sync("").NextBatch
		into[object](t, ada.send("lost1", object{"n": "1"}, bob))
		into[object](t, ada.send("lost2", object{"n": "2"}, bob))
		first, again := bob.sync(start), bob.sync(start)
		sameJSON(t, again, first)
		if got := texts(t, first); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("got %q", got)
		}
		if n := w.count(`SELECT count(*) FROM key_inbox`); n != 2 {
			t.Errorf("%d events in the queue before they are acknowledged", n)
		}
		if got := texts(t, bob.sync(first.NextBatch)); len(got) != 0 {
			t.Errorf("got %q again", got)
		}
		if n := w.count(`SELECT count(*) FROM key_inbox`); n != 0 {
			t.Errorf("%d events in the queue after they were acknowledged", n)
		}
	})
	t.Run("the_queue_is_the_devices_alone", func(t *testing.T) {
		other := w.login("bob", "")
		other.sync("")
		into[object](t, ada.send("alone", object{"n": "alone"}, bob))
		if got := texts(t, other.sync("")); len(got) != 0 {
			t.Errorf("another device of the user got %q", got)
		}
		bob.sync(bob.sync("").NextBatch)
	})
	t.Run("positions_of_others_and_of_the_future_are_refused", func(t *testing.T) {
		position := bob.sync("").NextBatch
		parts := strings.Split(position, ".")
		other := w.login("bob", "")
		for name, since := range map[string]string{
			"of_another_user":      ada.sync("").NextBatch,
			"of_another_device":    other.sync("").NextBatch,
			"events_to_come":       parts[0] + ".999." + parts[2],
			"changes_to_come":      parts[0] + "." + parts[1] + ".999",
			"garbage":              "s72594_4483_1934",
			"overflow":             parts[0] + ".9999999999999999999.0",
			"negative":             parts[0] + ".-1.0",
			"odd_number":           parts[0] + ".01.0",
			"long":                 strings.Repeat("A", 5000),
			"of_nobody":            strings.Repeat("A", 26) + ".0.0",
			"with_something_after": position + "%0A",
		} {
			a := bob.get("sync?since=" + since)
			if a.status != http.StatusBadRequest || a.code() != "invalid_since" {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		w.want(bob.get("sync?timeout=-1"), http.StatusBadRequest, "invalid_timeout")
	})
	t.Run("pages_are_bounded", func(t *testing.T) {
		carol := w.join("carol")
		since := carol.sync("").NextBatch
		w.exec(`INSERT INTO key_inbox (user_id, device_id, number, sender_id, type, content, queued_at)
SELECT $1, $2, n, $1, 'm.test', '{"n":"' || n || '"}', now() FROM generate_series(1, 250) AS n`, carol.session.UserID, carol.session.DeviceID)
		w.exec(`UPDATE key_devices SET inbox_head = 250 WHERE user_id = $1`, carol.session.UserID)
		var got []string
		for {
			page := carol.sync(since)
			if len(page.ToDevice.Events) == 0 {
				break
			}
			if len(page.ToDevice.Events) > keys.PageEvents {
				t.Errorf("%d events on one page", len(page.ToDevice.Events))
			}
			got, since = append(got, texts(t, page)...), page.NextBatch
		}
		if len(got) != 250 || got[0] != "1" || got[249] != "250" {
			t.Errorf("%d events, %v", len(got), got)
		}
		big := object{"n": "big", "x": strings.Repeat("x", 60<<10)}
		for i := range 20 {
			into[object](t, ada.send(fmt.Sprint("big", i), big, carol))
		}
		if n := len(carol.sync(since).ToDevice.Events); n < 10 || n > 18 {
			t.Errorf("%d events of 60 KiB on one page", n)
		}
	})
	t.Run("it_waits_until_there_is_something", func(t *testing.T) {
		_, since := bob.changedSince("")
		got := make(chan wire.KeysSync, 1)
		go func() { got <- into[wire.KeysSync](t, bob.get("sync?timeout=20000&since="+since)) }()
		testkit.Eventually(t, patience, "the sync to wait", func() bool { return w.directory.Waiting() == 1 })
		start := time.Now()
		into[object](t, ada.send("wake", object{"n": "wake"}, bob))
		if page := <-got; !slices.Equal(texts(t, page), []string{"wake"}) || time.Since(start) > 3*time.Second {
			t.Errorf("got %+v after %s", page, time.Since(start))
		}
		bob.sync(bob.sync("").NextBatch)
	})
	t.Run("it_is_woken_by_changed_keys", func(t *testing.T) {
		bob.query(ada)
		_, since := bob.changedSince("")
		got := make(chan wire.KeysSync, 1)
		go func() { got <- into[wire.KeysSync](t, bob.get("sync?timeout=20000&since="+since)) }()
		testkit.Eventually(t, patience, "the sync to wait", func() bool { return w.directory.Waiting() == 1 })
		start := time.Now()
		ada.publish(newSelf(ada))
		if page := <-got; !slices.Equal(page.DeviceLists.Changed, []string{ada.user()}) || time.Since(start) > 3*time.Second {
			t.Errorf("got %+v after %s", page, time.Since(start))
		}
	})
	t.Run("without_hints_it_finds_out_by_itself", func(t *testing.T) {
		elsewhere := keys.New(keys.Parts{Log: quiet, SQL: w.sql, Passwords: w.auth})
		elsewhere.PollEvery(20 * time.Millisecond)
		_, since := bob.changedSince("")
		group, ctx := errgroup.WithContext(t.Context())
		group.Go(func() error {
			page, err := elsewhere.Sync(ctx, bob.session, since, 20*time.Second)
			if err == nil && len(page.ToDevice.Events) != 1 {
				t.Errorf("got %+v", page)
			}
			return err
		})
		testkit.Eventually(t, patience, "the sync to wait", func() bool { return elsewhere.Waiting() == 1 })
		into[object](t, ada.send("poll", object{"n": "poll"}, bob))
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a_stop_and_a_hang_up_end_the_wait", func(t *testing.T) {
		_, since := bob.changedSince("")
		since = bob.sync(since).NextBatch
		ctx, hangUp := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { _, err := w.directory.Sync(ctx, bob.session, since, 20*time.Second); ended <- err }()
		testkit.Eventually(t, patience, "the sync to wait", func() bool { return w.directory.Waiting() == 1 })
		hangUp()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		go func() { _, err := w.directory.Sync(t.Context(), bob.session, since, 20*time.Second); ended <- err }()
		testkit.Eventually(t, patience, "the sync to wait", func() bool { return w.directory.Waiting() == 1 })
		w.directory.Stop(t.Context())
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := w.directory.Waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

// Two hosts, one Redis: who sends on one wakes who waits on the other, and the hook hears of it.
func TestHintsReachOtherHosts(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.join("ada"), w.join("bob")
	shared := testkit.Redis(t)
	var heard atomic.Value
	here := keys.New(keys.Parts{Log: quiet, SQL: w.sql, Redis: shared, Passwords: w.auth, Queued: func(_ context.Context, users []wire.UserID) { heard.Store(users) }})
	there := keys.New(keys.Parts{Log: quiet, SQL: w.sql, Redis: shared, Passwords: w.auth})
	there.PollEvery(time.Minute)
	listening, stop := context.WithCancel(t.Context())
	group, _ := errgroup.WithContext(t.Context())
	group.Go(func() error { return there.Listen(listening) })
	testkit.Eventually(t, patience, "the other host to listen", func() bool {
		n, err := shared.PubSubNumSub(t.Context(), wire.KeysChannel).Result()
		return err == nil && n[wire.KeysChannel] == 1
	})
	start, err := there.Sync(t.Context(), bob.session, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	group.Go(func() error {
		page, err := there.Sync(t.Context(), bob.session, start.NextBatch, 20*time.Second)
		if err == nil && len(page.ToDevice.Events) != 1 {
			t.Errorf("got %+v", page)
		}
		return err
	})
	testkit.Eventually(t, patience, "the sync to wait", func() bool { return there.Waiting() == 1 })
	began := time.Now()
	body := wire.ToDevice{Messages: map[string]map[string]json.RawMessage{bob.user(): {bob.id(): json.RawMessage(`{"n":"x"}`)}}}
	if _, err := here.SendToDevice(t.Context(), ada.session, "m.test", "t", body); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the sync to be answered", func() bool { return there.Waiting() == 0 })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if got, _ := heard.Load().([]wire.UserID); !slices.Equal(got, []wire.UserID{bob.session.UserID}) {
		t.Errorf("the hook heard of %v", got)
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// However writers overlap, a reader that follows the positions sees every change, and no number is missing.
func TestChangesHaveNoGaps(t *testing.T) {
	w := newWorld(t)
	reader := w.join("reader")
	const writers, rounds = 8, 6
	var all []*device
	for i := range writers {
		all = append(all, w.join(fmt.Sprintf("writer%d", i)))
	}
	reader.query(all...)
	since := reader.sync("").NextBatch
	head := w.count(`SELECT number FROM key_change_head`)

	seen := map[string]int{}
	writing, done := errgroup.Group{}, make(chan struct{})
	for i, d := range all {
		writing.Go(func() error {
			for round := range rounds {
				device := w.login(fmt.Sprintf("writer%d", i), fmt.Sprintf("D%d", round))
				a := device.post("upload", object{"device_keys": device.deviceKeys()})
				if a.status != http.StatusOK {
					return fmt.Errorf("%s: %d %s", d.user(), a.status, a.body)
				}
			}
			return nil
		})
	}
	go func() {
		if err := writing.Wait(); err != nil {
			t.Error(err)
		}
		close(done)
	}()
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		var changed []string
		changed, since = reader.changedSince(since)
		for _, user := range changed {
			seen[user] = len(reader.query(all...).DeviceKeys[user]) // as a client does
		}
	}
	if got := w.count(`SELECT number FROM key_change_head`) - head; got != writers*rounds {
		t.Errorf("%d numbers for %d changes", got, writers*rounds)
	}
	for _, d := range all {
		if seen[d.user()] != rounds+1 {
			t.Errorf("the reader believes in %d devices of %s", seen[d.user()], d.user())
		}
	}
}
