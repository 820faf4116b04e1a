package chat

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func waiting(body string) *send {
	return &send{ctx: context.Background(), request: wire.SendRequest{Body: body}, done: make(chan sendAnswer, 1)}
}

func TestLanes(t *testing.T) {
	t.Run("what_waits_is_one_batch", func(t *testing.T) {
		begun, hold, sizes := make(chan struct{}, 10), make(chan struct{}), make(chan int, 10)
		l := newLanes(func(_ context.Context, _ wire.ConversationID, batch []*send) {
			begun <- struct{}{}
			<-hold
			sizes <- len(batch)
		})
		add(t, l, "a", waiting("first"))
		<-begun
		for range 5 {
			add(t, l, "a", waiting("later"))
		}
		close(hold)
		if first, second := <-sizes, <-sizes; first != 1 || second != 5 {
			t.Errorf("batches of %d and %d", first, second)
		}
		l.close()
		if l.total != 0 || l.bytes != 0 || len(l.waiting) != 0 {
			t.Errorf("left behind: %d messages, %d bytes, %d workers", l.total, l.bytes, len(l.waiting))
		}
	})
	t.Run("full_ones_say_so", func(t *testing.T) {
		hold := make(chan struct{})
		l := newLanes(func(context.Context, wire.ConversationID, []*send) { <-hold })
		defer l.close()
		defer close(hold)
		refused := error(nil)
		for range laneLimit + batchSize + 1 {
			if refused = l.add("a", waiting("x")); refused != nil {
				break
			}
		}
		wantCode(t, refused, "conversation_busy")
		add(t, l, "b", waiting("another conversation has room"))
		large := strings.Repeat("x", maxBody)
		for i := range totalBytes/maxBody + 1 {
			if refused = l.add(wire.ConversationID(rune('c'+i)), waiting(large)); refused != nil {
				break
			}
		}
		wantCode(t, refused, "unavailable")
	})
	t.Run("idle_workers_end", func(t *testing.T) {
		var worked atomic.Int64
		l := newLanes(func(context.Context, wire.ConversationID, []*send) { worked.Add(1) })
		defer l.close()
		for range 100 {
			add(t, l, "a", waiting("x"))
		}
		testkit.Eventually(t, patience, "the worker to end", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.waiting) == 0 && l.total == 0
		})
		if worked.Load() == 0 {
			t.Error("nothing was done")
		}
	})
	t.Run("closed_ones_take_nothing", func(t *testing.T) {
		l := newLanes(func(context.Context, wire.ConversationID, []*send) {})
		l.close()
		wantCode(t, l.add("a", waiting("x")), "unavailable")
	})
}

func add(t *testing.T, l *lanes, id wire.ConversationID, w *send) {
	t.Helper()
	if err := l.add(id, w); err != nil {
		t.Fatal(err)
	}
}

func TestSenderWhoLeftIsNotNumbered(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	gone, here := waiting("gone"), waiting("here")
	gone.ctx = ctx
	leave()
	if letters := lettersOf([]*send{gone, here}); len(letters) != 1 || letters[0].request.Body != "here" {
		t.Errorf("got %d letters", len(letters))
	}
	if answer := <-gone.done; answer.err == nil {
		t.Error("who left got a good answer")
	}
}
