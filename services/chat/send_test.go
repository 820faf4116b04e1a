package chat

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestSend(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob := newUser(), newUser()
	id := w.group(s, ada, bob)

	t.Run("is_numbered_and_read", func(t *testing.T) {
		first, second := w.send(s, ada, id, "one"), w.send(s, bob, id, "two")
		if first.Seq != 2 || second.Seq != 3 || second.At.Before(first.At) {
			t.Errorf("got %+v, %+v", first, second)
		}
		items := w.readAll(s, bob, id)
		w.wantBodies(items, "one", "two")
		if items[0].Event == nil || items[0].Event.Type != wire.EventCreated || items[1].Sender != ada.UserID || items[1].Device != "phone" ||
			items[1].ClientID != first.ClientID || !items[1].At.Equal(first.At) {
			t.Errorf("read %+v", items)
		}
	})
	t.Run("same_bytes_again_have_the_same_answer", func(t *testing.T) {
		request := text("again")
		first, err := s.Send(t.Context(), ada, id, request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.host().Send(t.Context(), ada, id, request)
		if err != nil || again != first {
			t.Errorf("got %+v, want %+v: %v", again, first, err)
		}
		request.Body = "other bytes"
		_, err = s.Send(t.Context(), ada, id, request)
		wantCode(t, err, "client_id_reused")
	})
	t.Run("20_repeats_at_once_on_two_hosts_are_one_message", func(t *testing.T) {
		hosts, request := []*Service{s, w.host()}, text("only once")
		answers := make([]wire.Sent, 20)
		group, ctx := errgroup.WithContext(t.Context())
		for i := range answers {
			group.Go(func() (err error) {
				answers[i], err = hosts[i%2].Send(ctx, ada, id, request)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, answer := range answers {
			if answer != answers[0] {
				t.Errorf("got %+v and %+v", answer, answers[0])
			}
		}
		if n := strings.Count(strings.Join(bodies(w.readAll(s, bob, id)), "|"), "only once"); n != 1 {
			t.Errorf("stored %d times", n)
		}
	})
	t.Run("who_was_removed_since_has_the_same_answer_and_sends_nothing_new", func(t *testing.T) {
		request := text("just in time")
		first, err := s.Send(t.Context(), bob, id, request)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), ada, id, bob.UserID); err != nil {
			t.Fatal(err)
		}
		if again, err := w.host().Send(t.Context(), bob, id, request); err != nil || again != first {
			t.Errorf("got %+v, want %+v: %v", again, first, err)
		}
		_, err = s.Send(t.Context(), bob, id, text("too late"))
		wantCode(t, err, "no_such_conversation")
	})
	t.Run("refuses", func(t *testing.T) {
		old := uuid.Must(uuid.NewV7())
		copy(old[:6], make([]byte, 6))
		ahead := uuid.Must(uuid.NewV7())
		milliseconds := time.Now().Add(time.Hour).UnixMilli()
		for i := range 6 {
			ahead[i] = byte(milliseconds >> (40 - 8*i))
		}
		for code, request := range map[string]wire.SendRequest{
			"invalid_client_id":     {ClientID: wire.ClientID(uuid.NewString()), Body: "x"},
			"client_id_too_old":     {ClientID: wire.ClientID(old.String()), Body: "x"},
			"client_id_from_future": {ClientID: wire.ClientID(ahead.String()), Body: "x"},
			"too_large":             text(strings.Repeat("x", maxBody+1)),
			"invalid_message":       text(""),
			"no_such_message":       {ClientID: newClientID(), Body: "x", Clears: 9999},
		} {
			_, err := s.Send(t.Context(), ada, id, request)
			wantCode(t, err, code)
		}
		if _, err := s.Send(t.Context(), ada, id, text(strings.Repeat("x", maxBody))); err != nil {
			t.Errorf("the largest message: %v", err)
		}
	})
}

// Two hosts, sixteen writers: everybody reads one order, every number holds one message, and what was acknowledged is there.
func TestOneOrderForEverybody(t *testing.T) {
	w := newWorld(t)
	hosts := []*Service{w.host(), w.host()}
	const writers, each = 16, 12
	people := make([]wire.Session, writers)
	for i := range people {
		people[i] = newUser()
	}
	id := w.group(hosts[0], people[0], people[1:]...)

	acknowledged := make([]map[int64]string, writers)
	group, ctx := errgroup.WithContext(t.Context())
	for i, person := range people {
		acknowledged[i] = map[int64]string{}
		group.Go(func() error {
			last := int64(0)
			for n := range each {
				body := fmt.Sprintf("%d/%d", i, n)
				sent, err := hosts[(i+n)%2].Send(ctx, person, id, text(body))
				if err != nil {
					return err
				}
				if sent.Seq <= last {
					return fmt.Errorf("%s got %d after %d", body, sent.Seq, last)
				}
				last, acknowledged[i][sent.Seq] = sent.Seq, body
			}
			return nil
		})
	}
	reading := make([][]wire.Item, 4)
	for i := range reading { // while it is being written
		group.Go(func() (err error) {
			for len(bodies(reading[i])) < writers*each && err == nil {
				after := int64(0)
				if n := len(reading[i]); n > 0 {
					after = reading[i][n-1].Seq
				}
				var more []wire.Item
				more, err = readFrom(ctx, hosts[i%2], people[i], id, after)
				reading[i] = append(reading[i], more...)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	stored := map[int64]string{}
	for i, item := range reading[0] {
		if i > 0 && item.Seq <= reading[0][i-1].Seq {
			t.Errorf("%d comes after %d", item.Seq, reading[0][i-1].Seq)
		}
		stored[item.Seq] = item.Body
	}
	for i, items := range reading {
		if fmt.Sprint(bodies(items)) != fmt.Sprint(bodies(reading[0])) {
			t.Errorf("reader %d sees another order", i)
		}
	}
	for i := range acknowledged {
		for seq, body := range acknowledged[i] {
			if stored[seq] != body {
				t.Errorf("%q was acknowledged as %d, where %q is", body, seq, stored[seq])
			}
		}
	}
	if got := len(bodies(w.readAll(w.host(), people[1], id))); got != writers*each {
		t.Errorf("%d messages, want %d", got, writers*each)
	}
}

// A write to Cassandra that comes after its number was voided is never shown, and its message never acknowledged there.
func TestWriteDelayedPastTheVoidingOfItsNumber(t *testing.T) {
	w := newWorld(t)
	numbered, release := make(chan int64, 1), make(chan struct{})
	land := sync.OnceFunc(func() { close(release) })
	first := true
	slow := w.host(watching(func(item wire.Item) error {
		if first { // one send at a time here
			first = false
			numbered <- item.Seq
			<-release
		}
		return nil
	}, nil))
	quick := w.host()
	t.Cleanup(land) // before the hosts close, also when this test fails
	ada, bob := newUser(), newUser()
	id := w.group(quick, ada, bob)

	answer := make(chan wire.Sent, 1)
	go func() {
		sent, err := slow.Send(t.Context(), ada, id, text("late"))
		if err != nil {
			t.Error(err)
		}
		answer <- sent
	}()
	voided := <-numbered
	next := w.send(quick, bob, id, "next")
	page, err := quick.Messages(t.Context(), bob, id, Range{})
	if err != nil || page.Through != voided-1 || page.Head != next.Seq || page.More || len(bodies(page.Items)) != 0 {
		t.Fatalf("a cursor passes a hole: %+v, %v", page, err)
	}
	w.age()
	w.wantBodies(w.readAll(quick, bob, id), "next")
	land()
	sent := <-answer
	if sent.Seq <= next.Seq {
		t.Errorf("%d was voided, and acknowledged as %d", voided, sent.Seq)
	}
	w.wantBodies(w.readAll(quick, bob, id), "next", "late")
}

// A message whose every number is voided is refused in the end, and sent again later is one message.
func TestNumberVoidedEachTime(t *testing.T) {
	w := newWorld(t)
	ada, bob := newUser(), newUser()
	quick := w.host()
	id := w.group(quick, ada, bob)
	unlucky := w.host(watching(nil, func(wire.Item) error {
		w.age()
		w.readAll(quick, bob, id)
		return nil
	}))
	request := text("at last")
	_, err := unlucky.Send(t.Context(), ada, id, request)
	wantCode(t, err, "try_again")
	sent, err := quick.Send(t.Context(), ada, id, request)
	if err != nil || sent.Seq != 2+numberTries {
		t.Errorf("got %+v, %v", sent, err)
	}
	w.wantBodies(w.readAll(quick, bob, id), "at last")
}

// Whatever step a host dies at, the same message sent to another is stored once.
func TestCrashAtEachStep(t *testing.T) {
	w := newWorld(t)
	died := errors.New("killed")
	ada, bob := newUser(), newUser()
	for name, c := range map[string]struct {
		dies   func(line *testkit.Line) func(*Service)
		answer bool // the first send was answered
	}{
		"after_numbering": {dies: func(*testkit.Line) func(*Service) {
			return watching(func(wire.Item) error { return died }, nil)
		}},
		"after_insert": {dies: func(line *testkit.Line) func(*Service) {
			return watching(nil, func(wire.Item) error { line.Cut(); return nil })
		}},
		"after_mark": {answer: true, dies: func(*testkit.Line) func(*Service) { return func(*Service) {} }},
	} {
		for _, aged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/voided_%v", name, aged), func(t *testing.T) {
				other := w.host()
				id := w.group(other, ada, bob)
				line, through := lineTo(t, w.sql)
				dying := w.hostOn(testkit.OpenPostgres(t, through), c.dies(line))
				request := text("precious")
				first, err := dying.Send(t.Context(), ada, id, request)
				if (err == nil) != c.answer {
					t.Fatalf("got %+v, %v", first, err)
				}
				if aged {
					w.age()
					w.readAll(other, bob, id)
				}
				again, err := other.Send(t.Context(), ada, id, request)
				if err != nil {
					t.Fatal(err)
				}
				if c.answer && again != first {
					t.Errorf("got %+v, then %+v", first, again)
				}
				if want := int64(2); (aged && !c.answer) == (again.Seq == want) {
					t.Errorf("it has number %d", again.Seq)
				}
				w.wantBodies(w.readAll(other, bob, id), "precious")
			})
		}
	}
}

// lineTo gives a line to the server of address, and the address through it.
func lineTo(t *testing.T, address config.Secret) (*testkit.Line, config.Secret) {
	t.Helper()
	_, rest, _ := strings.Cut(address.Reveal(), "@")
	server, _, _ := strings.Cut(rest, "/")
	line := testkit.NewLine(t, server)
	return line, config.NewSecret(strings.Replace(address.Reveal(), "@"+server, "@"+line.Address(), 1))
}

// While commits are under way the marks of all conversations gather, and are one commit.
func TestMarksGather(t *testing.T) {
	w := newWorld(t)
	s, writer := w.host(), newUser()
	const conversations = 20
	numbered := make([]*letter, conversations)
	ids := make([]wire.ConversationID, conversations)
	for i := range ids {
		ids[i] = w.group(s, writer, newUser())
		numbered[i] = &letter{asked: asked{writer.UserID, writer.DeviceID, newClientID(), []byte("hash")}}
		if err := s.store.number(t.Context(), ids[i], numbered[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	hold, err := w.store.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(t.Context(), `SELECT FROM message_numbers WHERE conversation_id = ANY($1) FOR UPDATE`, ids[:markers]); err != nil {
		t.Fatal(err)
	}
	var marking errgroup.Group
	mark := func(i int) {
		marking.Go(func() error {
			marked, err := s.store.mark(t.Context(), ids[i], numbered[i:i+1])
			if err == nil && !marked[numbered[i].seq] {
				err = fmt.Errorf("number %d is not marked", i)
			}
			return err
		})
	}
	gathered := func(n int) func() bool {
		return func() bool {
			s.store.marks.mu.Lock()
			defer s.store.marks.mu.Unlock()
			return s.store.marks.workers == markers && len(s.store.marks.waiting) == n
		}
	}
	for i := range markers { // each is held up
		mark(i)
		testkit.Eventually(t, patience, "a commit is under way", func() bool {
			var waits bool
			err := w.store.QueryRow(t.Context(), `SELECT count(*) > $1 FROM pg_stat_activity WHERE query = $2 AND wait_event_type = 'Lock'`, i, sqlMark).Scan(&waits)
			return err == nil && waits
		})
	}
	for i := markers; i < conversations; i++ {
		mark(i)
	}
	testkit.Eventually(t, patience, "all others wait", gathered(conversations-markers))
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := marking.Wait(); err != nil {
		t.Fatal(err)
	}
	var commits int
	if err := w.store.QueryRow(t.Context(), `SELECT count(DISTINCT xmin::text) FROM message_numbers WHERE conversation_id = ANY($1) AND state = 'stored'`, ids).Scan(&commits); err != nil {
		t.Fatal(err)
	}
	if commits != markers+1 {
		t.Errorf("%d commits, want %d", commits, markers+1)
	}
}
