package e2e

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// script makes the events of a small history: conversation "c" of Ada and Bob, with Eve in it from 4 to 6.
type script []event

func (s *script) add(client, what string, id wire.ClientID, seq int64) *event {
	user := wire.UserID(client[:3])
	*s = append(*s, event{At: time.Duration(len(*s)) * time.Millisecond, Client: client, User: user, What: what, Conversation: "c", ID: id, Seq: seq})
	return &(*s)[len(*s)-1]
}

// send is a message that is acknowledged.
func (s *script) send(client string, id wire.ClientID, seq int64) {
	s.add(client, asked, id, 0)
	s.add(client, acked, id, seq)
}

// items of the conversation, by number: "" are events.
var scriptItems = map[int64]wire.ClientID{1: "", 2: "m2", 3: "m3", 4: "", 5: "m5", 6: "", 7: "m7"}

// give gives items, and the cursor behind the last.
func (s *script) give(client string, seqs ...int64) {
	for _, seq := range seqs {
		e := s.add(client, given, scriptItems[seq], seq)
		switch seq {
		case 1:
			e.Joins = []wire.UserID{"ada", "bob"}
		case 4:
			e.Joins = []wire.UserID{"eve"}
		case 6:
			e.Leaves = []wire.UserID{"eve"}
		}
	}
	s.add(client, through, "", seqs[len(seqs)-1])
}

// goodHistory has two numbers' worth of trouble in it that is none: a resend, and messages of which nobody heard.
func goodHistory() script {
	var s script
	s.send("ada", "m2", 2)
	s.add("bob", asked, "m3", 0)
	s.add("bob", asked, "m3", 0)
	s.send("bob", "m5", 5)
	s.add("bob", asked, "unheard", 0)
	s.add("bob", asked, "no", 0)
	s.add("bob", refused, "no", 0)
	s.give("ada-1", 1, 2, 3)
	s.give("eve", 4, 5, 6)
	s.send("ada", "m7", 7)
	s.give("bob", 1, 2, 3, 4, 5, 6, 7)
	s.give("ada-1", 4, 5, 6, 7)
	return s
}

// without leaves out the first event that does this.
func (s script) without(client, what string, seq int64) script {
	i := slices.IndexFunc(s, func(e event) bool { return e.Client == client && e.What == what && e.Seq == seq })
	return slices.Delete(slices.Clone(s), i, i+1)
}

func (s script) with(more func(*script)) script {
	s = slices.Clone(s)
	more(&s)
	return s
}

func TestBrokenHistories(t *testing.T) {
	good := goodHistory()
	if v := judge(good); len(v.found) > 0 || v.acknowledged != 3 || v.p50 == 0 || v.silence < 7*time.Millisecond {
		t.Fatalf("a good history: %v, %+v", v, v.found)
	}
	for name, c := range map[string]struct {
		history script
		want    string
	}{
		"lost for one reader":                      {good.without("bob", given, 5), lost},
		"lost for all":                             {good.with(func(s *script) { s.send("ada", "m9", 9) }), lost},
		"lost where nobody reads":                  {script{}.with(func(s *script) { s.send("ada", "m2", 2) }), lost},
		"lost for a reader whose cursor is behind": {good.with(func(s *script) { s.add("bob-2", through, "", 0) }), lost},
		"lost for who was a member then":           {good.without("eve", given, 5), lost},
		"under two numbers":                        {good.with(func(s *script) { s.add("bob", given, "m5", 8) }), twice},
		"acknowledged under two numbers":           {good.with(func(s *script) { s.add("bob", acked, "m5", 8) }), twice},
		"given twice":                              {good.with(func(s *script) { s.add("bob", given, "m7", 7) }), twice},
		"two orders":                               {good.with(func(s *script) { s.add("ada-2", given, "m3", 2) }), disorder},
		"a number that holds something else":       {good.with(func(s *script) { s.add("bob", asked, "other", 0); s.add("bob", acked, "other", 3) }), disorder},
		"given late": {good.without("bob", given, 3).with(func(s *script) {
			s.add("bob", given, "m3", 3)
		}), disorder},
		"numbered below what was acknowledged before": {good.with(func(s *script) {
			s.send("ada", "early", 10)
			s.send("ada", "late", 9)
		}), disorder},
		"a gap is passed over":                    {good.without("bob", given, 3), gap}, // never acknowledged, and read by Ada
		"an event another reader never sees":      {good.without("ada-1", given, 4), gap},
		"a gap passed over by who left":           {good.without("ada-1", given, 3).with(func(s *script) { s.add("ada-1", left, "", 0) }), gap},
		"a cursor goes back":                      {good.with(func(s *script) { s.add("bob", through, "", 6) }), back},
		"a cursor behind what was given":          {good.with(func(s *script) { s.add("bob", given, "", 8); s.add("bob", through, "", 7) }), back},
		"a read cursor goes back":                 {good.with(func(s *script) { s.moveTo(7); s.moveTo(6) }), back},
		"a removed member reads on":               {good.with(func(s *script) { s.add("eve", given, "m7", 7) }), leak},
		"a newcomer reads what was before":        {good.with(func(s *script) { s.add("eve-2", given, "m3", 3) }), leak},
		"a stranger reads":                        {good.with(func(s *script) { s.add("mal", given, "m3", 3) }), leak},
		"a message that nobody sent":              {good.with(func(s *script) { s.add("bob", given, "spam", 8) }), ghost},
		"a refused message is there all the same": {good.with(func(s *script) { s.add("bob", given, "no", 8) }), ghost},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(c.history)
			if len(v.found[c.want]) == 0 {
				t.Errorf("not found %s: %+v", c.want, v.found)
			}
		})
	}
	t.Run("nobody is owed what was before, or after leaving", func(t *testing.T) {
		v := judge(good.with(func(s *script) {
			s.add("bob-2", through, "", 1)
			s.give("bob-2", 2, 3)
			s.add("bob-2", left, "", 0)
		}))
		if len(v.found) > 0 {
			t.Errorf("found %+v", v.found)
		}
	})
}

// moveTo moves Bob's read cursor and is answered seq.
func (s *script) moveTo(seq int64) {
	s.add("bob", moving, "", 0)
	s.add("bob", moved, "", seq)
}

func TestHistoryIsReadAsWritten(t *testing.T) {
	var file bytes.Buffer
	r := newRecorder(&file)
	r.add(goodHistory()...)
	written, err := r.close()
	if err != nil {
		t.Fatal(err)
	}
	read, err := readHistory(&file)
	if err != nil || len(read) != len(written) || judge(read).String() != judge(written).String() {
		t.Errorf("wrote %v, read %v: %v", judge(written), judge(read), err)
	}
}
