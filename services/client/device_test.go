package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// Whatever the platform's frames say, a conversation's items are delivered in order and once, and its cursor never goes back.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		`{"type":"items","conversation_id":"a","after":0,"items":[{"seq":1},{"seq":2}],"through":2,"head":2}`,
		`{"type":"items","conversation_id":"a","after":5,"items":[{"seq":9},{"seq":6}],"through":9}`,
		`{"type":"items","conversation_id":"a","after":0,"items":[{"seq":4},{"seq":3},{"seq":9}],"through":4}`,
		`{"type":"items","conversation_id":"a","after":-1,"items":[{"seq":-1}],"through":-5}`, `{"type":"items","items":null,"through":9223372036854775807}`,
		`{"type":"page","id":"fill a","conversation_id":"a","items":[{"seq":3}],"through":3,"head":9,"more":true}`,
		`{"type":"page","id":"fill nobody","items":[],"through":3,"head":9,"more":true}`, `{"type":"page","id":"1","items":7}`,
		`{"type":"synced","id":"sync","conversations":[{"id":"a","head":7},{"id":"","head":-1}]}`, `{"type":"synced","conversations":{}}`,
		`{"type":"conversation","conversation":{"id":"b","joined_seq":4}}`, `{"type":"conversation"}`, `{"type":"ready","expires_at":"0001-01-01T00:00:00Z"}`,
		`{"type":"error","id":"1","code":"try_again","retry_after":1}`, `{"type":"error","id":"fill nobody","retry_after":-9223372036854775808}`,
		`{"type":"error","id":"2","code":"no_such_conversation"}`, `{"type":"sent","id":"1","seq":1}`, `{"type":"pong","id":"nobody"}`,
		`{"type":"inbox"}`, `{"type":7}`, `{}`, `[]`, `null`, `"`,
	} {
		f.Add([]byte(seed), []byte(`{"type":"items","conversation_id":"a","after":1,"items":[{"seq":2},{"seq":3}],"through":3}`))
	}
	c, err := New(Options{BaseURL: "http://nowhere.test"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		cursors := map[wire.ConversationID]int64{"a": 1}
		device := c.Device(DeviceOptions{
			Cursors: cursors,
			Token:   func(context.Context) (string, error) { return "", errors.New("none") },
			Deliver: func(id wire.ConversationID, items []wire.Item, through int64) {
				if through <= cursors[id] {
					t.Errorf("the cursor of %q goes from %d to %d", id, cursors[id], through)
				}
				for _, item := range items {
					if item.Seq <= cursors[id] || item.Seq > through {
						t.Errorf("%d of %q is delivered in (%d, %d]", item.Seq, id, cursors[id], through)
					}
				}
				if !slices.IsSortedFunc(items, func(a, b wire.Item) int { return int(a.Seq - b.Seq) }) {
					t.Errorf("out of order: %+v", items)
				}
				cursors[id] = through
			},
		})
		lasting, err := device.post(t.Context(), wire.ClientFrame{Type: wire.FrameSend}, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, frame := range [][]byte{first, second} {
			_ = device.take(ctx, frame) // an error ends the socket
		}
		if len(lasting.answer) > 1 {
			t.Error("a request was answered twice")
		}
	})
}
