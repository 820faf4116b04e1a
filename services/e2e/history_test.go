package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// What clients did and were told. A message that was asked for and neither acknowledged nor refused may be stored or not, once.
const (
	asked   = "asked"   // a message is sent for the first time
	acked   = "acked"   // the platform answered that it is stored under Seq
	refused = "refused" // the platform answered that it never will be
	given   = "given"   // a reader was given the item of Seq
	through = "through" // a reader's cursor: everything up to Seq was given that the reader may see; the first is where it begins
	left    = "left"    // a reader went away, and is owed nothing above its cursor
	moving  = "moving"  // a person's read cursor is moved over HTTP
	moved   = "moved"   // the platform answered that it stands at Seq
)

// event is one line of a history. Lines stand in the order in which they happened to one observer of all clients.
type event struct {
	At           time.Duration       `json:"at"`
	Client       string              `json:"client"`
	User         wire.UserID         `json:"user,omitempty"`
	What         string              `json:"what"`
	Conversation wire.ConversationID `json:"conversation"`
	ID           wire.ClientID       `json:"id,omitempty"` // of a message
	Seq          int64               `json:"seq,omitempty"`
	Joins        []wire.UserID       `json:"joins,omitempty"` // by the given item
	Leaves       []wire.UserID       `json:"leaves,omitempty"`
}

// recorder writes a history down as JSON lines and keeps it.
type recorder struct {
	mu     sync.Mutex
	began  time.Time
	events []event
	out    *bufio.Writer
	err    error
}

func newRecorder(out io.Writer) *recorder {
	return &recorder{out: bufio.NewWriter(out)}
}

// begin lets the time of the history begin now; what was added before has none.
func (r *recorder) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = time.Now()
}

func (r *recorder) add(all ...event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range all {
		if !r.began.IsZero() {
			e.At = time.Since(r.began)
		}
		r.events = append(r.events, e)
		line, err := json.Marshal(e)
		if err == nil {
			_, err = r.out.Write(append(line, '\n'))
		}
		r.err = errors.Join(r.err, err)
	}
}

// close gives the whole history.
func (r *recorder) close() ([]event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events, errors.Join(r.err, r.out.Flush())
}

func readHistory(in io.Reader) (history []event, err error) {
	for lines := json.NewDecoder(in); ; {
		var e event
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF):
			return history, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", len(history)+1, err)
		}
		history = append(history, e)
	}
}

// What a history may be found guilty of.
const (
	lost     = "lost"         // acknowledged, and not with everybody who may read it
	twice    = "twice"        // one message under two numbers, or given again
	disorder = "out of order" // two orders, or one that contradicts time
	gap      = "passed over"  // a cursor passed what another reader was given
	back     = "went back"    // a cursor
	leak     = "leaked"       // given to somebody who was no member then
	ghost    = "out of thin air"
)

// verdict is what the checker says of a history.
type verdict struct {
	acknowledged int
	found        map[string][]string
	p50, p99     time.Duration // from asking to the acknowledgement, resends included
	silence      time.Duration // the longest time without an acknowledgement
}

func (v *verdict) find(kind, format string, arguments ...any) {
	v.found[kind] = append(v.found[kind], fmt.Sprintf(format, arguments...))
}

func (v *verdict) String() string {
	return fmt.Sprintf("%d acknowledged, %d lost, %d twice, %d out of order; acknowledged after p50 %d ms, p99 %d ms; longest without an acknowledgement %.1f s",
		v.acknowledged, len(v.found[lost]), len(v.found[twice]), len(v.found[disorder]), v.p50.Milliseconds(), v.p99.Milliseconds(), v.silence.Seconds())
}

// report fails the test for everything found, and shows the first of each kind.
func (v *verdict) report(t *testing.T) {
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(v.found)) {
		all := v.found[kind]
		for _, text := range all[:min(len(all), 10)] {
			t.Errorf("%s: %s", kind, text)
		}
		if len(all) > 10 {
			t.Errorf("%s: %d more", kind, len(all)-10)
		}
	}
}

type placeKey struct {
	conversation wire.ConversationID
	seq          int64
}

type messageKey struct {
	conversation wire.ConversationID
	id           wire.ClientID
}

type readerKey struct {
	client       string
	conversation wire.ConversationID
}

// message is what is known of one by all who spoke of it.
type message struct {
	asked   bool
	askedAt time.Duration
	floor   int64 // the highest number acknowledged before it was asked for
	seq     int64 // 0: nobody has seen it
	acked   bool
	refused bool
}

// reader is one client in one conversation.
type reader struct {
	user    wire.UserID
	got     map[int64]bool
	begun   bool
	from    int64
	last    int64
	through int64
	left    bool
}

// owed tells whether the reader should have been given a number it may see.
func (r *reader) owed(seq int64) bool {
	return !r.got[seq] && seq > r.from && (seq <= r.through || !r.left)
}

// span is a membership, its first and last number included; 0 ends none.
type span struct{ from, through int64 }

// trial holds a history against the promises.
type trial struct {
	verdict  verdict
	messages map[messageKey]*message
	readers  map[readerKey]*reader
	places   map[placeKey]wire.ClientID // what a number holds; "" is an event
	joins    map[placeKey][]wire.UserID
	leaves   map[placeKey][]wire.UserID
	acked    map[wire.ConversationID]int64 // the highest so far
	cursors  map[readerKey]int64           // by user, as answered so far
	floors   map[readerKey]int64           // by client, when the move began
	waits    []time.Duration
	first    time.Duration // the first sending
	lastAck  time.Duration
}

// judge checks a history: what was acknowledged is with every reader once, in one order, under one number.
func judge(history []event) *verdict {
	c := &trial{
		verdict:  verdict{found: map[string][]string{}},
		messages: map[messageKey]*message{}, readers: map[readerKey]*reader{}, places: map[placeKey]wire.ClientID{},
		joins: map[placeKey][]wire.UserID{}, leaves: map[placeKey][]wire.UserID{},
		acked: map[wire.ConversationID]int64{}, cursors: map[readerKey]int64{}, floors: map[readerKey]int64{},
	}
	for _, e := range history {
		c.take(e)
	}
	c.judgeMessages()
	c.judgeReaders()
	c.measure()
	return &c.verdict
}

func (c *trial) take(e event) {
	switch e.What {
	case asked:
		c.takeAsked(e)
	case acked:
		c.takeAcked(e)
	case refused:
		c.message(e).refused = true
	case given:
		c.takeGiven(e)
	case through:
		c.takeThrough(e)
	case left:
		c.reader(e).left = true
	case moving:
		c.floors[readerKey{e.Client, e.Conversation}] = c.cursors[readerKey{string(e.User), e.Conversation}]
	case moved:
		if floor := c.floors[readerKey{e.Client, e.Conversation}]; e.Seq < floor {
			c.verdict.find(back, "the read cursor of %s in %s from %d to %d", e.User, e.Conversation, floor, e.Seq)
		}
		key := readerKey{string(e.User), e.Conversation}
		c.cursors[key] = max(c.cursors[key], e.Seq)
	default:
		c.verdict.find(ghost, "an event %q", e.What)
	}
}

func (c *trial) message(e event) *message {
	key := messageKey{e.Conversation, e.ID}
	if c.messages[key] == nil {
		c.messages[key] = &message{}
	}
	return c.messages[key]
}

func (c *trial) reader(e event) *reader {
	key := readerKey{e.Client, e.Conversation}
	if c.readers[key] == nil {
		c.readers[key] = &reader{user: e.User, got: map[int64]bool{}}
	}
	return c.readers[key]
}

func (c *trial) takeAsked(e event) {
	m := c.message(e)
	if m.asked {
		return // again
	}
	m.asked, m.askedAt, m.floor = true, e.At, c.acked[e.Conversation]
	if c.first == 0 {
		c.first, c.lastAck = e.At, e.At
	}
}

func (c *trial) takeAcked(e event) {
	m := c.message(e)
	if !m.acked {
		c.verdict.acknowledged++
		c.waits = append(c.waits, e.At-m.askedAt)
	}
	c.verdict.silence = max(c.verdict.silence, e.At-c.lastAck)
	c.lastAck = e.At
	m.acked = true
	c.acked[e.Conversation] = max(c.acked[e.Conversation], e.Seq)
	c.place(e)
}

// place notes what a number holds, by whoever's word.
func (c *trial) place(e event) {
	key := placeKey{e.Conversation, e.Seq}
	if holds, known := c.places[key]; known && holds != e.ID {
		c.verdict.find(disorder, "%s/%d is %q, and by the word of %s %q", e.Conversation, e.Seq, holds, e.Client, e.ID)
		return
	}
	c.places[key] = e.ID
	if e.ID == "" {
		c.joins[key], c.leaves[key] = e.Joins, e.Leaves
		return
	}
	switch m := c.message(e); m.seq {
	case 0:
		m.seq = e.Seq
	case e.Seq:
	default:
		c.verdict.find(twice, "message %s is %s/%d, and by the word of %s %d", e.ID, e.Conversation, m.seq, e.Client, e.Seq)
	}
}

func (c *trial) takeGiven(e event) {
	r := c.reader(e)
	switch {
	case r.got[e.Seq]:
		c.verdict.find(twice, "%s was given %s/%d again", e.Client, e.Conversation, e.Seq)
	case e.Seq <= r.last:
		c.verdict.find(disorder, "%s was given %s/%d after %d", e.Client, e.Conversation, e.Seq, r.last)
	case e.Seq <= r.through:
		c.verdict.find(disorder, "%s was given %s/%d with a cursor of %d", e.Client, e.Conversation, e.Seq, r.through)
	}
	r.begun, r.got[e.Seq], r.last = true, true, max(r.last, e.Seq)
	c.place(e)
}

func (c *trial) takeThrough(e event) {
	r := c.reader(e)
	if !r.begun {
		r.begun, r.from = true, e.Seq
	}
	if e.Seq < r.through || e.Seq < r.last {
		c.verdict.find(back, "the cursor of %s in %s to %d, from %d with %d given", e.Client, e.Conversation, e.Seq, r.through, r.last)
	}
	r.through = max(r.through, e.Seq)
}

func (c *trial) judgeMessages() {
	for key, m := range c.messages {
		switch {
		case m.seq != 0 && !m.asked:
			c.verdict.find(ghost, "%s/%d holds %s, which nobody sent", key.conversation, m.seq, key.id)
		case m.seq != 0 && m.refused:
			c.verdict.find(ghost, "%s/%d holds %s, which was refused", key.conversation, m.seq, key.id)
		case m.seq != 0 && m.seq <= m.floor:
			c.verdict.find(disorder, "%s/%d was sent after %d had been acknowledged", key.conversation, m.seq, m.floor)
		}
	}
}

// stays are the memberships that the items themselves tell of.
func (c *trial) stays() map[wire.ConversationID]map[wire.UserID][]span {
	stays := map[wire.ConversationID]map[wire.UserID][]span{}
	order := slices.SortedFunc(maps.Keys(c.joins), func(a, b placeKey) int { return int(a.seq - b.seq) })
	for _, key := range order {
		if stays[key.conversation] == nil {
			stays[key.conversation] = map[wire.UserID][]span{}
		}
		of := stays[key.conversation]
		for _, user := range c.joins[key] {
			of[user] = append(of[user], span{from: key.seq})
		}
		for _, user := range c.leaves[key] {
			if n := len(of[user]); n > 0 {
				of[user][n-1].through = key.seq
			}
		}
	}
	return stays
}

func among(stays []span, seq int64) bool {
	return slices.ContainsFunc(stays, func(s span) bool { return seq >= s.from && (s.through == 0 || seq <= s.through) })
}

// judgeReaders wants each reader to have what it may see and nothing else.
func (c *trial) judgeReaders() {
	stays := c.stays()
	missed := map[placeKey][]string{}
	for key, r := range c.readers {
		mine := stays[key.conversation][r.user]
		for seq := range r.got {
			if !among(mine, seq) {
				c.verdict.find(leak, "%s was given %s/%d and was no member then", key.client, key.conversation, seq)
			}
		}
		for place, id := range c.places {
			if place.conversation != key.conversation || !r.owed(place.seq) || !among(mine, place.seq) {
				continue
			}
			if id != "" && c.messages[messageKey{place.conversation, id}].acked {
				missed[place] = append(missed[place], fmt.Sprintf("%s (cursor %d)", key.client, r.through))
			} else if place.seq <= r.through {
				c.verdict.find(gap, "%s was never given %s/%d, with a cursor of %d", key.client, key.conversation, place.seq, r.through)
			}
		}
	}
	for place, clients := range missed {
		slices.Sort(clients)
		c.verdict.find(lost, "%s/%d was acknowledged and never given to %v", place.conversation, place.seq, clients)
	}
	if len(c.readers) == 0 && c.verdict.acknowledged > 0 {
		c.verdict.find(lost, "%d messages were acknowledged, and nobody reads", c.verdict.acknowledged)
	}
}

func (c *trial) measure() {
	if len(c.waits) == 0 {
		return
	}
	slices.Sort(c.waits)
	c.verdict.p50, c.verdict.p99 = c.waits[len(c.waits)/2], c.waits[len(c.waits)*99/100]
}

// TestRecordedHistory judges a history again that a failed run left: HISTORY_FILE=.build/history/….jsonl go test -run TestRecordedHistory
func TestRecordedHistory(t *testing.T) {
	name := os.Getenv("HISTORY_FILE")
	if name == "" {
		return // TestBrokenHistories tests the checker
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	history, err := readHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	v := judge(history)
	v.report(t)
	t.Log(v)
}
