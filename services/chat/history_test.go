package chat

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

func TestVisible(t *testing.T) {
	four := int64(4)
	left := view{head: 20, stays: []stay{{2, &four}, {10, nil}}}
	for name, c := range map[string]struct {
		after, upTo int64
		limit       int
		runs        []run
		through     int64
	}{
		"all":                         {0, 20, 100, []run{{2, 4}, {10, 20}}, 20},
		"from_within":                 {2, 12, 100, []run{{3, 4}, {10, 12}}, 12},
		"page_ends_with_the_limit":    {0, 20, 5, []run{{2, 4}, {10, 11}}, 11},
		"page_ends_before_the_gap":    {0, 20, 3, []run{{2, 4}}, 4},
		"nothing_within_a_gap":        {4, 9, 100, nil, 9},
		"before_the_first_membership": {0, 1, 100, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runs, through := left.visible(c.after, c.upTo, c.limit)
			if !slices.Equal(runs, c.runs) || through != c.through {
				t.Errorf("got %v through %d", runs, through)
			}
		})
	}
}

// Who joins sees from the joining on, who is removed up to the removal; both included, and nothing between two stays.
func TestMembersSeeTheirStays(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob, outsider := newUser(), newUser(), newUser()
	id := w.group(s, ada)
	seqs := func(as wire.Session) (seqs []int64) {
		for _, item := range w.readAll(s, as, id) {
			seqs = append(seqs, item.Seq)
		}
		return seqs
	}
	add := func() {
		t.Helper()
		if _, err := s.Add(t.Context(), ada, id, []wire.UserID{bob.UserID}); err != nil {
			t.Fatal(err)
		}
	}
	w.send(s, ada, id, "before") // 2
	add()                        // 3
	w.send(s, bob, id, "during") // 4
	if err := s.Remove(t.Context(), ada, id, bob.UserID); err != nil {
		t.Fatal(err)
	} // 5
	w.send(s, ada, id, "after") // 6
	if got := seqs(bob); !slices.Equal(got, []int64{3, 4, 5}) {
		t.Errorf("the removed member sees %v", got)
	}
	page, err := s.Messages(t.Context(), bob, id, Range{After: 0, UpTo: 100})
	if err != nil || page.Head != 5 || page.Through != 5 || page.More {
		t.Errorf("the removed member learns of more: %+v, %v", page, err)
	}
	_, err = s.Send(t.Context(), bob, id, text("still here"))
	wantCode(t, err, "no_such_conversation")
	add()                       // 7
	w.send(s, ada, id, "again") // 8
	if got := seqs(bob); !slices.Equal(got, []int64{3, 4, 5, 7, 8}) {
		t.Errorf("the returned member sees %v", got)
	}
	w.wantBodies(w.readAll(s, bob, id), "during", "again")
	if got := seqs(ada); len(got) != 8 {
		t.Errorf("the owner sees %v", got)
	}
	_, err = s.Messages(t.Context(), outsider, id, Range{})
	wantCode(t, err, "no_such_conversation")
}

func TestPagesAreBounded(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada := newUser()
	id := w.group(s, ada)
	large := make([]byte, maxBody)
	for i := range large {
		large[i] = 'x'
	}
	for range 12 {
		w.send(s, ada, id, string(large))
	}
	page, err := s.Messages(t.Context(), ada, id, Range{Limit: maxPage})
	if err != nil || !page.More || len(page.Items) > pageBytes/maxBody+2 || page.Items[len(page.Items)-1].Seq != page.Through {
		t.Errorf("%d items through %d, more %v: %v", len(page.Items), page.Through, page.More, err)
	}
	if got := len(w.readAll(s, ada, id)); got != 13 {
		t.Errorf("read %d, want 13", got)
	}

	// Over the edge of a bucket.
	w.exec(`UPDATE conversations SET head = $2 WHERE id = $1`, id, bucketSize-2)
	for i := range 5 {
		w.send(s, ada, id, fmt.Sprint(i))
	}
	page, err = s.Messages(t.Context(), ada, id, Range{After: bucketSize - 2})
	if err != nil || page.Through != bucketSize+3 || page.More {
		t.Errorf("through %d, %v", page.Through, err)
	}
	w.wantBodies(page.Items, "0", "1", "2", "3", "4")
}

// A stored message that Cassandra does not have is an error, not a hole.
func TestLostMessageIsNoGap(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada := newUser()
	id := w.group(s, ada)
	sent := w.send(s, ada, id, "gone")
	w.cqlExec(`DELETE FROM messages WHERE conversation_id = ? AND bucket = ? AND seq = ?`, string(id), bucketOf(sent.Seq), sent.Seq)
	_, err := s.Messages(t.Context(), ada, id, Range{})
	wantCode(t, err, "message_unreadable")
}

func (w *world) cqlExec(statement string, values ...any) {
	w.t.Helper()
	if err := w.cql.Write(w.t.Context(), statement, values...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setLife(s *Service, as wire.Session, id wire.ConversationID, seconds int) {
	w.t.Helper()
	if _, err := s.Change(w.t.Context(), as, id, wire.ConversationChange{MessageLife: &seconds}); err != nil {
		w.t.Fatal(err)
	}
}

func TestDisappearingMessages(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob := newUser(), newUser()
	id := w.group(s, ada, bob)
	w.send(s, ada, id, "stays")
	w.setLife(s, ada, id, 3600)
	passing := w.send(s, ada, id, "passes")
	w.setLife(s, ada, id, 0)
	w.send(s, ada, id, "stays too")
	items := w.readAll(s, bob, id)
	w.wantBodies(items, "stays", "passes", "stays too")
	if got := items[3]; got.ExpiresAt == nil || !got.ExpiresAt.Equal(passing.At.Add(time.Hour)) || items[1].ExpiresAt != nil {
		t.Errorf("got %+v", got)
	}
	for _, seconds := range []int{-1, 1, 29 * 24 * 3600} {
		_, err := s.Change(t.Context(), ada, id, wire.ConversationChange{MessageLife: &seconds})
		wantCode(t, err, "invalid_message_life")
	}
	_, err := s.Change(t.Context(), bob, id, wire.ConversationChange{MessageLife: new(int)})
	wantCode(t, err, "not_allowed")

	expired := func(when string) {
		t.Helper()
		items := w.readAll(s, bob, id)
		w.wantBodies(items, "stays", "stays too")
		if len(items) != 6 || items[3].Kind != wire.ItemExpired || items[3].Body != "" || items[3].Sender != "" {
			t.Errorf("%s: %+v", when, items[3])
		}
	}
	var left int
	read := func(scan func(...any) error) (bool, error) { return true, scan(&left) }
	if err := w.cql.Read(t.Context(), func() {}, read, `SELECT TTL(body) FROM passing_messages WHERE conversation_id = ? AND bucket = 0 AND seq = ?`, string(id), passing.Seq); err != nil || left <= 0 || left > 3600 {
		t.Errorf("it passes in %d s: %v", left, err)
	}
	// An hour later, before Cassandra has let go of it, after it has, and when its record is forgotten as well.
	w.exec(`UPDATE message_numbers SET created_at = created_at - INTERVAL '1 hour' WHERE conversation_id = $1`, id)
	w.cqlExec(`UPDATE passing_messages SET expires_at = ? WHERE conversation_id = ? AND bucket = 0 AND seq = ?`, time.Now().Add(-time.Second), string(id), passing.Seq)
	expired("still in Cassandra")
	w.cqlExec(`DELETE FROM passing_messages WHERE conversation_id = ? AND bucket = 0 AND seq = ?`, string(id), passing.Seq)
	expired("gone from Cassandra")
	w.exec(`DELETE FROM message_numbers WHERE conversation_id = $1 AND state = 'stored'`, id)
	expired("forgotten")
}

func TestDeletionForEverybody(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob, eve := newUser(), newUser(), newUser()
	id := w.group(s, ada, bob, eve)
	clear := func(as wire.Session, seq int64) error {
		_, err := s.Send(t.Context(), as, id, wire.SendRequest{ClientID: newClientID(), Body: "encrypted deletion", Clears: seq})
		return err
	}
	for _, seconds := range []int{0, 3600} {
		w.setLife(s, ada, id, seconds)
		mine, theirs := w.send(s, bob, id, "mine"), w.send(s, eve, id, "theirs")
		wantCode(t, clear(bob, theirs.Seq), "not_yours")
		wantCode(t, clear(bob, 1), "no_such_message") // an event
		for _, err := range []error{clear(bob, mine.Seq), clear(bob, mine.Seq), clear(ada, theirs.Seq)} {
			if err != nil {
				t.Error(err)
			}
		}
		for _, item := range w.readAll(s, eve, id) {
			if (item.Seq == mine.Seq || item.Seq == theirs.Seq) && (item.Kind != wire.ItemCleared || item.Body != "") {
				t.Errorf("got %+v", item)
			}
		}
		// A late repeat of the first write brings nothing back.
		at := mine.At
		late := wire.Item{Seq: mine.Seq, At: &at, Sender: bob.UserID, Device: "phone", ClientID: mine.ClientID, Body: "mine"}
		if seconds > 0 {
			ends := at.Add(time.Hour)
			late.ExpiresAt = &ends
		}
		if err := s.messages.insert(t.Context(), id, late); err != nil {
			t.Fatal(err)
		}
		for _, item := range w.readAll(s, eve, id) {
			if item.Seq == mine.Seq && item.Body != "" {
				t.Error("a late write brought a deleted body back")
			}
		}
	}
}

func TestSweepForgetsOldRecords(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob := newUser(), newUser()
	id := w.group(s, ada, bob)
	for range 3 {
		w.send(s, ada, id, "old")
	}
	w.exec(`UPDATE message_numbers SET state = 'void' WHERE conversation_id = $1 AND seq = 3`, id)
	w.exec(`UPDATE message_numbers SET created_at = created_at - INTERVAL '32 days'`)
	w.send(s, ada, id, "young")
	if err := s.sweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := map[string]int{}
	rows, err := w.store.Query(t.Context(), `SELECT state, count(*) FROM message_numbers GROUP BY state`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			t.Fatal(err)
		}
		left[state] = n
	}
	if left["event"] != 1 || left["void"] != 1 || left["stored"] != 1 {
		t.Errorf("left are %v", left)
	}
	w.wantBodies(w.readAll(s, bob, id), "old", "old", "young")
}

// What was stored is told in order, once; what was refused never.
func TestAnnouncements(t *testing.T) {
	w := newWorld(t)
	told := make(chan wire.Item, 100)
	s := w.host(func(s *Service) {
		s.announce = func(_ context.Context, _ wire.ConversationID, items []wire.Item) {
			for _, item := range items {
				told <- item
			}
		}
	})
	ada := newUser()
	id := w.group(s, ada)
	request := text("one")
	for range 2 {
		if _, err := s.Send(t.Context(), ada, id, request); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = s.Send(t.Context(), newUser(), id, text("refused"))
	w.send(s, ada, id, "two")
	s.Close()
	close(told)
	var got []string
	for item := range told {
		got = append(got, fmt.Sprint(item.Seq, item.Kind, item.Body))
	}
	if want := []string{"1event", "2messageone", "3messagetwo"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
