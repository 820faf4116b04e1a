package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// Redis may forget, go, hang and come back: no message is lost or overtaken, and none is late by much.
func TestRedisMayFail(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob, cat := newUser(), newUser(), newUser()
	id := n.group(a.Service, ada, bob)
	r := n.device(b.url, bob, map[wire.ConversationID]int64{id: 0})
	newcomer := n.device(b.url, cat, nil)
	var want []string
	slowest := time.Duration(0)
	say := func(body string) {
		t.Helper()
		n.send(a.Service, ada, id, body)
		stored := time.Now()
		want = append(want, body)
		testkit.Eventually(t, patience, body+" on the other host", func() bool { return len(r.bodies()) == len(want) })
		slowest = max(slowest, time.Since(stored))
	}
	say("at first")
	t.Run("flushed", func(t *testing.T) {
		if err := n.direct.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		say("after the flush")
	})
	t.Run("connections killed", func(t *testing.T) {
		for i := range 5 {
			a.line.Cut()
			b.line.Cut()
			a.line.Mend()
			b.line.Mend()
			say(fmt.Sprint("after the cut ", i))
		}
	})
	t.Run("away for the reader", func(t *testing.T) {
		b.line.Cut()
		for i := range 3 {
			say(fmt.Sprint("in the dark ", i))
		}
		made := n.group(a.Service, ada, cat)
		testkit.Eventually(t, patience, "a new conversation in the dark", func() bool { return newcomer.Through(made) == 1 })
		b.line.Mend()
		testkit.Eventually(t, patience, "hints again", b.live.channel.healthy)
		say("in the light")
	})
	t.Run("away for the writer", func(t *testing.T) {
		a.line.Cut()
		n.send(a.Service, ada, id, "unheard")
		want = append(want, "unheard")
		testkit.Eventually(t, patience, "the writer knows", func() bool { return !a.live.channel.healthy() })
		a.line.Mend()
		testkit.Eventually(t, patience, "hints again", a.live.channel.healthy)
		say("heard") // and before it the other, which was read
	})
	t.Run("deaf", func(t *testing.T) {
		b.line.Freeze()
		began := time.Now()
		say("while nothing answers")
		t.Logf("found in %s", time.Since(began).Round(10*time.Millisecond))
		b.line.Mend()
		testkit.Eventually(t, patience, "hints again", b.live.channel.healthy)
		say("and after")
	})
	if got := r.bodies(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if odd := r.oddities(); len(odd) > 0 {
		t.Error(odd)
	}
	t.Logf("the slowest was %s late", slowest.Round(10*time.Millisecond))
	if slowest > 5*time.Second {
		t.Errorf("a message was %s late", slowest)
	}
}

// A socket that is cut among its sends loses none of them and doubles none.
func TestResendAfterTheSocketIsCut(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	ada, bob := newUser(), newUser()
	id := n.group(h.Service, ada, bob)
	line := testkit.NewLine(t, h.url[len("http://"):])
	mouth := n.device("http://"+line.Address(), ada, map[wire.ConversationID]int64{id: 0})
	ears := n.device(h.url, bob, map[wire.ConversationID]int64{id: 0})
	const messages = 40
	done := make(chan error, messages)
	for i := range messages {
		go func() {
			_, err := mouth.Send(within(t), id, fmt.Sprint(i))
			done <- err
		}()
		if i%8 == 3 {
			line.Cut()
			line.Mend()
		}
	}
	for range messages {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	stored := bodies(n.readAll(h.Service, bob, id))
	testkit.Eventually(t, patience, "all at the other", func() bool { return len(ears.bodies()) >= len(stored) })
	if got := ears.bodies(); !slices.Equal(got, stored) || len(mouth.oddities())+len(ears.oddities()) > 0 {
		t.Errorf("stored %d, got %d; %q %q", len(stored), len(got), mouth.oddities(), ears.oddities())
	}
	slices.Sort(stored)
	if len(slices.Compact(stored)) != messages {
		t.Errorf("%d different messages of %d", len(slices.Compact(stored)), messages)
	}
	if _, err := mouth.Send(within(t), "0192f0c0-0000-7000-8000-000000000000", "x"); client.CodeOf(err) != "no_such_conversation" {
		t.Errorf("a final refusal: %v", err)
	}
}

// A host is killed when it has stored a message and before anybody heard so, and Redis forgets everything: the same bytes sent again, to
// another host, are the same message.
func TestResendAfterFlushAndKilledHost(t *testing.T) {
	for name, killed := range map[string]error{"before_the_number_is_marked": errors.New("killed"), "before_the_answer": nil} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			dying, other := n.node(), n.node()
			ada, bob := newUser(), newUser()
			id := n.group(other.Service, ada, bob)
			ears := n.device(other.url, bob, map[wire.ConversationID]int64{id: 0})
			line := testkit.NewLine(t, dying.url[len("http://"):])
			dead := make(chan struct{})
			watching(nil, func(wire.Item) error {
				line.Cut()
				close(dead)
				return killed
			})(dying.Service)
			mouth := n.device("http://"+line.Address(), ada, map[wire.ConversationID]int64{id: 0})
			message := newClientID()
			unheard, cancel := context.WithCancel(t.Context())
			sending := make(chan error, 1)
			go func() {
				_, err := mouth.SendAs(unheard, id, message, "precious")
				sending <- err
			}()
			<-dead
			cancel()
			if err := <-sending; err == nil {
				t.Fatal("it was acknowledged")
			}
			mouth.stop()
			dying.stop()

			var first wire.Sent
			for i := range 2 { // the second time everybody has it already
				if err := n.direct.FlushDB(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				sent, err := n.device(other.url, ada, map[wire.ConversationID]int64{id: 0}).SendAs(within(t), id, message, "precious")
				if err != nil || i > 0 && sent != first {
					t.Fatalf("sent again: %+v, %v; at first %+v", sent, err, first)
				}
				first = sent
				n.wantBodies(n.readAll(other.Service, bob, id), "precious")
			}
			n.send(other.Service, bob, id, "and on")
			testkit.Eventually(t, patience, "both at the other", func() bool { return len(ears.bodies()) == 2 })
			if got := ears.bodies(); !slices.Equal(got, []string{"precious", "and on"}) || len(ears.oddities()) > 0 {
				t.Errorf("got %q, %q", got, ears.oddities())
			}
		})
	}
}

// One who does not read costs a bounded queue, is told to come back and then has everything, and nobody waits for him.
func TestSlowReaderRecoversWhole(t *testing.T) {
	n := newNetwork(t)
	h := n.node(func(p *LiveParts) { p.Limits.QueueBytes = 256 << 10 })
	ada, bob, cat := newUser(), newUser(), newUser()
	id := n.group(h.Service, ada, bob, cat)
	slow := h.follow(bob, map[wire.ConversationID]int64{id: 1})
	swift := n.device(h.url, cat, map[wire.ConversationID]int64{id: 0})
	testkit.Eventually(t, patience, "the swift one is there", func() bool { return swift.Through(id) == 1 })
	body := string(make([]byte, 0, 40<<10))
	for len(body) < 40<<10 {
		body += "0123456789abcdef0123456789abcdef"
	}
	closed := func() bool {
		return len(h.live.sockets.of(bob.UserID)) == 0
	}
	sent := 0
	for ; sent < 2000 && !closed(); sent++ {
		n.send(h.Service, ada, id, fmt.Sprint(sent, " ", body))
	}
	if !closed() {
		t.Fatalf("nobody closed a reader that is %d frames behind", sent)
	}
	testkit.Eventually(t, patience, "the swift one has all", func() bool { return len(swift.bodies()) == sent })
	_ = slow.Close()
	back := n.device(h.url, bob, map[wire.ConversationID]int64{id: 1})
	testkit.Eventually(t, patience, "the slow one has all", func() bool { return len(back.bodies()) == sent })
	if odd := append(back.oddities(), swift.oddities()...); len(odd) > 0 {
		t.Error(odd)
	}
	t.Logf("%d messages of 40 KiB before the close", sent)
}
