package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
)

// climbChat lets two people write to each other as their clients do, encrypted, each on another app host.
func climbChat(ctx context.Context, s *site, p *proofs) {
	g := &guests{site: s}
	defer g.leave(ctx, p)
	t := &talk{site: s}
	defer t.hangUp()
	apps := s.Groups["app"]
	hosts := []string{apps[0], apps[len(apps)-1]}
	log := "docker compose logs chat auth on " + listing(apps)
	for _, one := range []step{
		{"people", log, func(ctx context.Context) (string, error) { return t.meet(ctx, g, hosts) }},
		{"keys", log, t.makeKeys},
		{"across app hosts", "docker compose logs chat on " + listing(hosts), t.across},
		{"another device", log, t.secondDevice},
		{"offline", log, t.offline},
		{"stored", log, t.stored},
	} {
		if !p.prove(ctx, one.name, one.look, one.proof) {
			return
		}
	}
}

// talk is a conversation of two, and the devices they have it on.
type talk struct {
	*site
	writer, reader *visitor
	with           client.ConversationID
	identity       e2ee.Identity // of the reader
	writing        *device
	reading        *device
	second         *device
	said           []string
}

// device is a live connection and what it has read.
type device struct {
	*e2ee.Messenger
	machine *e2ee.Machine
	leave   func()

	calls chan struct{} // has one waiting when the platform has told of news of calls

	mu   sync.Mutex
	read []e2ee.Message
	more chan struct{} // closed and replaced after each message
}

// meet makes two contacts with a conversation, one on each host.
func (t *talk) meet(ctx context.Context, g *guests, hosts []string) (string, error) {
	people, err := g.welcome(ctx, hosts...)
	if err != nil {
		return "", err
	}
	t.writer, t.reader = people[0], people[1]
	found, _, err := t.writer.api.SearchUsers(ctx, t.writer.tokens.AccessToken, t.reader.name)
	if err != nil {
		return "", t.writer.explain("search for a person", err)
	}
	if len(found) != 1 || found[0].ID != t.reader.tokens.User.ID {
		return "", fail("", "who searches for %s finds %d people", t.reader.name, len(found))
	}
	if _, _, err := t.writer.api.RequestContact(ctx, t.writer.tokens.AccessToken, found[0].ID); err != nil {
		return "", t.writer.explain("ask to be a contact", err)
	}
	if _, _, err := t.reader.api.AcceptContact(ctx, t.reader.tokens.AccessToken, t.writer.tokens.User.ID); err != nil {
		return "", t.reader.explain("accept a contact", err)
	}
	made, _, err := t.writer.api.CreateConversation(ctx, t.writer.tokens.AccessToken, client.ConversationRequest{
		Kind: "direct", UserID: found[0].ID,
	})
	if err != nil {
		return "", t.writer.explain("make a conversation", err)
	}
	t.with = made.ID
	return "two people find each other, agree to be contacts and have a conversation", nil
}

// makeKeys gives each a device with keys and an identity, and connects them.
func (t *talk) makeKeys(ctx context.Context) (string, error) {
	var err error
	if t.writing, err = newDevice(ctx, t.writer, t.writer.tokens); err != nil {
		return "", t.writer.explain("publish keys", err)
	}
	if t.reading, err = newDevice(ctx, t.reader, t.reader.tokens); err != nil {
		return "", t.reader.explain("publish keys", err)
	}
	if _, err := t.writing.machine.Bootstrap(ctx); err != nil {
		return "", t.writer.explain("make an identity", err)
	}
	if t.identity, err = t.reading.machine.Bootstrap(ctx); err != nil {
		return "", t.reader.explain("make an identity", err)
	}
	t.writing.connect(nil)
	t.reading.connect(nil)
	return "each has a device with keys, signed by an identity of their own", nil
}

func (t *talk) across(ctx context.Context) (string, error) {
	began := time.Now()
	if err := t.say(ctx, t.writing); err != nil {
		return "", t.writer.unsent(err)
	}
	acknowledged := time.Since(began)
	if err := t.shows(ctx, t.reading); err != nil {
		return "", err
	}
	there := time.Since(began)
	if err := t.say(ctx, t.reading); err != nil {
		return "", t.reader.unsent(err)
	}
	if err := errors.Join(t.shows(ctx, t.writing), t.shows(ctx, t.reading)); err != nil {
		return "", err
	}
	return fmt.Sprintf("a message from %s is durable after %d ms and read on %s after %d ms, the answer comes back",
		t.writer.host, acknowledged.Milliseconds(), t.reader.host, there.Milliseconds()), nil
}

func (t *talk) secondDevice(ctx context.Context) (string, error) {
	tokens, _, err := t.reader.api.Login(ctx, t.reader.credentials())
	if err != nil {
		return "", t.reader.explain("login on another device", err)
	}
	if t.second, err = newDevice(ctx, t.reader, tokens); err != nil {
		return "", t.reader.explain("publish keys of another device", err)
	}
	if err := t.second.machine.Join(ctx, t.identity); err != nil {
		return "", t.reader.explain("sign another device", err)
	}
	// What was said before is not this device's to read: it begins behind it.
	t.second.connect(map[client.ConversationID]int64{t.with: t.reading.Device.Through(t.with)})
	if _, err := t.writing.machine.Sync(ctx, 0); err != nil {
		return "", t.writer.explain("learn of another device", err)
	}
	if err := t.say(ctx, t.writing); err != nil {
		return "", t.writer.unsent(err)
	}
	if err := errors.Join(t.second.shows(ctx, t.said[len(t.said)-1:]), t.shows(ctx, t.reading)); err != nil {
		return "", err
	}
	return "a second device of the same person, signed by it, reads what is said from then on", nil
}

// missed is how much is said to a device that is away.
const missed = 5

func (t *talk) offline(ctx context.Context) (string, error) {
	t.reading.leave()
	for range missed {
		if err := t.say(ctx, t.writing); err != nil {
			return "", t.writer.unsent(err)
		}
	}
	began := time.Now()
	t.reading.connect(nil) // the cursors are its own
	if err := errors.Join(t.shows(ctx, t.reading), t.second.shows(ctx, t.said[len(t.said)-missed-1:])); err != nil {
		return "", err
	}
	return fmt.Sprintf("a device that was away reads the %d messages it missed, once each and in order, %d ms after it came back",
		missed, time.Since(began).Milliseconds()), nil
}

// stored reads what the server has as a page over HTTP: the same numbers, and none of the words.
func (t *talk) stored(ctx context.Context) (string, error) {
	page, _, err := t.reader.api.Messages(ctx, t.reader.tokens.AccessToken, t.with, 0, 0, 0)
	if err != nil {
		return "", t.reader.explain("read the conversation", err)
	}
	bodies := 0
	for _, item := range page.Items {
		if item.Body == "" {
			continue
		}
		bodies++
		for _, text := range t.said {
			if strings.Contains(item.Body, text) {
				return "", fail("services/client/e2ee", "message %d is stored in clear", item.Seq)
			}
		}
	}
	if bodies != len(t.said) {
		return "", fail("docker compose logs chat on "+listing(t.Groups["app"]), "%d messages were acknowledged and %d are stored", len(t.said), bodies)
	}
	return fmt.Sprintf("the server has all %d messages and can read none", bodies), nil
}

func (t *talk) say(ctx context.Context, from *device) error {
	text := "verify " + random(12)
	if _, err := from.Say(ctx, t.with, e2ee.Content{Kind: e2ee.KindText, Text: text}); err != nil {
		return err
	}
	t.said = append(t.said, text)
	return nil
}

// unsent names what keeps a message from being stored.
func (v *visitor) unsent(err error) error {
	problem := new(client.Problem)
	if errors.As(err, &problem) {
		return v.explain("send on "+v.host, err)
	}
	return fail("docker compose logs chat gateway on "+v.host, "a message from %s is not acknowledged: %v", v.host, err)
}

func (t *talk) shows(ctx context.Context, d *device) error { return d.shows(ctx, t.said) }

func (t *talk) hangUp() {
	for _, d := range []*device{t.writing, t.reading, t.second} {
		if d != nil {
			d.leave()
			d.machine.Close()
		}
	}
}

func newDevice(ctx context.Context, v *visitor, tokens client.Tokens) (*device, error) {
	machine, err := e2ee.New(ctx, v.api, e2ee.Options{
		User: tokens.User.ID, Device: tokens.DeviceID,
		Token: func(context.Context) (string, error) { return tokens.AccessToken, nil },
	})
	if err != nil {
		return nil, err
	}
	return &device{machine: machine, leave: func() {}, calls: make(chan struct{}, 1), more: make(chan struct{})}, nil
}

// connect stays until leave. A device that was connected before goes on where it was.
func (d *device) connect(cursors map[client.ConversationID]int64) {
	if d.Messenger == nil {
		d.Messenger = d.machine.Messenger(e2ee.MessengerOptions{Read: d.take, Notice: d.notice, Cursors: cursors})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Run(ctx) // what is missing then is told by who waits for it
	}()
	d.leave = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

// frameCalls is what the platform calls news of calls (services/video/PROTOCOL.md).
const frameCalls = "calls"

func (d *device) notice(kind string, _ json.RawMessage) {
	if kind != frameCalls {
		return
	}
	select {
	case d.calls <- struct{}{}:
	default: // it is known that there are some
	}
}

func (d *device) take(m e2ee.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Item.Body == "" {
		return // an event
	}
	d.read = append(d.read, m)
	close(d.more)
	d.more = make(chan struct{})
}

// shows waits until the device has read as much as was said, and compares.
func (d *device) shows(ctx context.Context, said []string) error {
	for {
		d.mu.Lock()
		read, more := slices.Clone(d.read), d.more
		d.mu.Unlock()
		for i, m := range read {
			switch {
			case m.Err != nil:
				return fail("docker compose logs auth on every app host", "message %d cannot be read: %v", m.Item.Seq, m.Err)
			case i >= len(said) || m.Content.Text != said[i]:
				return fail("docker compose logs chat on every app host", "message %d is not the one that was said there: doubled, lost or out of order", m.Item.Seq)
			}
		}
		if len(read) == len(said) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fail("docker compose logs chat on every app host, and redis on db", "%d of %d messages have come", len(read), len(said))
		}
	}
}
