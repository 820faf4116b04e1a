package chat

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"secureconnect/services/internal/wire"
)

func TestParseFrame(t *testing.T) {
	for content, good := range map[string]bool{
		`{"type":"auth","token":"a.b.c"}`:                     true,
		`{"type":"auth","token":"x","later":true}`:            true,
		`{"type":"sync","id":"1","cursors":{"a":5}}`:          true,
		`{"type":"cursor","conversation_id":"a","read":0}`:    true,
		`{"type":"ping"}`:                                     true,
		`{"token":"x"}`:                                       false,
		`{"type":"auth"}`:                                     false,
		`{"type":"auth","token":7}`:                           false,
		`{"type":"ready","token":"x"}`:                        false,
		`[{"type":"auth","token":"x"}]`:                       false,
		`{"type":"auth","token":"x"} {}`:                      false,
		`{"type":"cursor","conversation_id":"a"}`:             false,
		`{"type":"send"}`:                                     false,
		`{"type":"sync","cursors":{"a":"5"}}`:                 false,
		`{"type":"sync","cursors":{"a":1.5}}`:                 false,
		`{"type":"range","conversation_id":"a","after":1e30}`: false,
		`null`:                                   false,
		``:                                       false,
		"{\"type\":\"auth\",\"token\":\"\xff\"}": false,
		strings.Repeat("[", 5000):                false,
		`{"type":"auth","token":"x"` + "\x00" + `}`:              false,
		`{"type":"ping","id":"` + strings.Repeat("x", 64) + `"}`: true,
		`{"type":"ping","id":"` + strings.Repeat("x", 65) + `"}`: false,
	} {
		if _, err := parseFrame([]byte(content)); (err == nil) != good {
			t.Errorf("parseFrame(%.60q): %v", content, err)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"auth","token":"a.b.c"}`, `{"type":"sync","cursors":{"x":1}}`, `[]`, "\xff", `{"type":"auth","type":"ready","token":"x"}`,
		`{"type":"send","id":"1","conversation_id":"c","client_id":"d","body":"<"}`, `{"type":"watch","users":["a"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		frame, err := parseFrame(content)
		if err != nil {
			return
		}
		again, err := parseFrame(frameOf(frame))
		if err != nil || !bytes.Equal(frameOf(again), frameOf(frame)) {
			t.Errorf("accepted %q as %+v, and that as %+v: %v", content, frame, again, err)
		}
	})
}

func TestBatches(t *testing.T) {
	message := func(seq int64, size int) wire.Item {
		return wire.Item{Seq: seq, Kind: wire.ItemMessage, Body: strings.Repeat("x", size)}
	}
	removal := wire.Item{Seq: 5, Kind: wire.ItemEvent, Event: &wire.Event{Type: wire.EventRemoved, Users: []wire.UserID{"u"}}}
	for _, c := range []struct {
		name    string
		after   int64
		items   []wire.Item
		through int64
		want    string
	}{
		{"nothing", 3, nil, 3, ""},
		{"only void numbers", 3, nil, 5, "3-5:0"},
		{"one piece", 3, []wire.Item{message(4, 1), message(6, 1)}, 7, "3-7:2"},
		{"a removal in the middle ends its piece", 3, []wire.Item{message(4, 1), removal, message(6, 1)}, 6, "3-5:2 5-6:1"},
		{"a removal at the end", 3, []wire.Item{message(4, 1), removal}, 5, "3-5:2"},
		{"nothing comes with a removal", 3, []wire.Item{removal}, 8, "3-5:1 5-8:0"},
		{"large ones", 0, []wire.Item{message(1, pushBytes), message(2, pushBytes), message(3, 1)}, 3, "0-1:1 1-2:1 2-3:1"},
	} {
		var got []string
		for _, b := range batchesOf(c.after, c.items, c.through) {
			got = append(got, json.Number(frameOf(b.after)).String()+"-"+string(frameOf(b.through))+":"+string(frameOf(len(b.items))))
			var frame wire.ItemsFrame
			if err := json.Unmarshal(b.framed("c", 9), &frame); err != nil || frame.After != b.after || frame.Through != b.through || len(frame.Items) != len(b.items) {
				t.Errorf("%s: %s, %v", c.name, b.frame, err)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzParseAnnounced(f *testing.F) {
	f.Add("a 1 2 u,v\n[]")
	f.Add("a 1 2 ")
	f.Fuzz(func(t *testing.T, what string) {
		a, ok := parseAnnounced(what)
		if ok && (a.first < 1 || a.last < a.first) {
			t.Errorf("accepted %q as %+v", what, a)
		}
	})
}
