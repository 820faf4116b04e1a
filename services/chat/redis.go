package chat

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

const (
	liveChannel = "chat-live"

	// outboxSize is how many messages may wait for Redis; what finds it full is dropped and found by others in SQL.
	outboxSize = 4096
	// hintBytes is the most that is sent along with an announcement; of a larger one only the numbers go.
	hintBytes = 256 << 10

	probeEvery = 400 * time.Millisecond
	// deafAfter is without a word, not even the echo of our own probe.
	deafAfter = 1200 * time.Millisecond
)

// Kinds of messages between hosts: "<kind> <host> <what>", where the items of an announcement follow after a line's end.
const (
	kindAnnounce = "a"
	kindFrame    = "f"
	kindPresence = "p"
	kindProbe    = "e"
)

// channel is what app hosts tell each other through Redis. Nothing rests on it: a host that hears nothing asks SQL.
type channel struct {
	log   *slog.Logger
	redis *redis.Client // nil: this host is the only one
	host  string        // names this process among the others
	out   chan string

	heard   atomic.Int64 // unix nanoseconds of the last word
	lost    prometheus.Counter
	handle  func(kind, what string)
	hints   map[string]func(payload string)
	resumed func() // hints come again, and some may have been missed
}

func newChannel(log *slog.Logger, client *redis.Client, registry prometheus.Registerer) *channel {
	c := &channel{log: log, redis: client, host: rand.Text()[:12], out: make(chan string, outboxSize), hints: map[string]func(string){}}
	c.lost = prometheus.NewCounter(prometheus.CounterOpts{Name: "chat_announcements_lost_total", Help: "Announcements to other hosts that Redis did not take."})
	if registry != nil {
		registry.MustRegister(c.lost)
	}
	return c
}

func (c *channel) shared() bool { return c.redis != nil }

// healthy reports whether hints come.
func (c *channel) healthy() bool {
	return c.redis == nil || time.Since(time.Unix(0, c.heard.Load())) < deafAfter
}

// send never waits: what finds no room is lost, and counted.
func (c *channel) send(kind, what string) {
	if c.redis == nil {
		return
	}
	select {
	case c.out <- kind + " " + c.host + " " + what:
	default:
		c.lost.Inc()
	}
}

func (c *channel) sendAnnounce(id wire.ConversationID, first, last int64, users []wire.UserID, items []byte) {
	if c.redis == nil {
		return
	}
	var what strings.Builder
	what.WriteString(string(id) + " " + strconv.FormatInt(first, 10) + " " + strconv.FormatInt(last, 10) + " ")
	for i, user := range users {
		if i > 0 {
			what.WriteByte(',')
		}
		what.WriteString(string(user))
	}
	if len(items) <= hintBytes {
		what.WriteByte('\n')
		what.Write(items)
	}
	c.send(kindAnnounce, what.String())
}

// announced is an announcement as it was heard. Encoded is empty where only the numbers came.
type announced struct {
	id          wire.ConversationID
	first, last int64
	users       []wire.UserID
	encoded     []byte
}

// parseAnnounced reads what sendAnnounce wrote; the items it leaves as they are.
func parseAnnounced(what string) (a announced, ok bool) {
	header, items, _ := strings.Cut(what, "\n")
	parts := strings.Split(header, " ")
	if len(parts) != 4 {
		return announced{}, false
	}
	first, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || first < 1 {
		return announced{}, false
	}
	last, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || last < first {
		return announced{}, false
	}
	a = announced{id: wire.ConversationID(parts[0]), first: first, last: last, encoded: []byte(items)}
	if parts[3] != "" {
		for user := range strings.SplitSeq(parts[3], ",") {
			a.users = append(a.users, wire.UserID(user))
		}
	}
	return a, true
}

// eventMark is in the items of an announcement that changes who is in the conversation, and never in the text of a message:
// quotes there are escaped.
var eventMark = []byte(`"event":{`)

// batch gives nil where the feed has to read.
func (a announced) batch() *batch {
	if len(a.encoded) == 0 {
		return nil
	}
	b := &batch{after: a.first - 1, through: a.last, encoded: a.encoded}
	if bytes.Contains(a.encoded, eventMark) {
		b.leaving = leavers(b.decoded())
	}
	return b
}

// run publishes, listens and probes until ctx ends.
func (c *channel) run(ctx context.Context) error {
	if c.redis == nil {
		<-ctx.Done()
		return nil
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		c.publish(ctx)
	}()
	for rest(ctx, 0) {
		err := c.listen(ctx)
		if ctx.Err() == nil {
			c.log.Warn("hints are away", "op", "chat.listen", "error", err)
		}
		if !rest(ctx, 100*time.Millisecond) {
			break
		}
	}
	<-published
	return nil
}

// publish sends what waits, many at a time.
func (c *channel) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-c.out:
			c.publishMany(ctx, message)
		}
	}
}

const publishAtOnce = 64

func (c *channel) publishMany(ctx context.Context, message string) {
	n := 0
	_, err := c.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for {
			pipe.Publish(ctx, liveChannel, message)
			n++
			if n == publishAtOnce {
				return nil
			}
			select {
			case message = <-c.out:
			default:
				return nil
			}
		}
	})
	if err != nil {
		c.lost.Add(float64(n))
	}
}

// listen subscribes and reads until it fails or hears nothing. It reads in a loop of our own: the client's channel drops messages
// when it is full.
func (c *channel) listen(ctx context.Context) error {
	channels := []string{liveChannel}
	for name := range c.hints {
		channels = append(channels, name)
	}
	subscription := c.redis.Subscribe(ctx, channels...)
	// ReceiveMessage waits in a read that ctx does not wake; closing does.
	listening, cancel := context.WithCancel(ctx)
	probing := make(chan struct{})
	stop := context.AfterFunc(listening, func() { _ = subscription.Close() })
	defer func() {
		cancel()
		stop()
		_ = subscription.Close() // closed twice is no harm
		<-probing
	}()
	began := time.Now()
	go func() {
		defer close(probing)
		c.probe(listening, cancel, began)
	}()
	for {
		message, err := subscription.ReceiveMessage(listening)
		if err != nil {
			return err
		}
		first := c.heard.Load() < began.UnixNano()
		c.heard.Store(time.Now().UnixNano())
		if first {
			c.resumed()
		}
		c.take(message)
	}
}

// probe says something to ourselves when nobody else does. A subscription may look well and hear nothing for good.
func (c *channel) probe(ctx context.Context, giveUp func(), began time.Time) {
	for rest(ctx, probeEvery/2) {
		last := time.Unix(0, max(c.heard.Load(), began.UnixNano()))
		silence := time.Since(last)
		if silence > deafAfter {
			giveUp()
			return
		}
		if silence > probeEvery || c.heard.Load() < began.UnixNano() {
			c.send(kindProbe, "")
		}
	}
}

func (c *channel) take(message *redis.Message) {
	if hint, known := c.hints[message.Channel]; known {
		hint(message.Payload)
		return
	}
	kind, rest, _ := strings.Cut(message.Payload, " ")
	host, what, _ := strings.Cut(rest, " ")
	if host != c.host && kind != kindProbe {
		c.handle(kind, what)
	}
}
