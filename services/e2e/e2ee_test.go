package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// phone is one device of a person, and what it has read.
type phone struct {
	*e2ee.Messenger
	t      *testing.T
	tokens client.Tokens
	leave  func()
	heard  func(e2ee.Message) // is told of every message, where somebody listens
	rung   func()             // and of calls

	mu       sync.Mutex
	read     []e2ee.Message
	backedUp bool  // a turn of backing up has ended
	backup   error // so
}

// newPhone makes the keys of a device; signing it is the test's.
func newPhone(t *testing.T, c *client.Client, tokens client.Tokens) *phone {
	t.Helper()
	machine, err := e2ee.New(t.Context(), c, e2ee.Options{
		User: tokens.User.ID, Device: tokens.DeviceID,
		Token: func(context.Context) (string, error) { return tokens.AccessToken, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	p := &phone{t: t, tokens: tokens}
	p.Messenger = machine.Messenger(e2ee.MessengerOptions{Read: p.take, BackedUp: p.hear, Notice: p.notice, Patience: 5 * time.Second})
	return p
}

func (p *phone) notice(kind string, _ json.RawMessage) {
	if kind == wire.FrameCalls && p.rung != nil {
		p.rung()
	}
}

func (p *phone) hear(backup error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backedUp, p.backup = true, backup
}

func (p *phone) take(m e2ee.Message) {
	p.mu.Lock()
	p.read = append(p.read, m)
	p.mu.Unlock()
	if p.heard != nil {
		p.heard(m)
	}
}

// switchOn connects the phone until leave.
func (p *phone) switchOn() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.leave = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(p.leave)
}

// texts are what the phone shows, "!" and the reason where it cannot show it.
func (p *phone) texts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var texts []string
	for _, m := range p.read {
		switch {
		case m.Item.Kind != wire.ItemMessage:
		case m.Err != nil:
			texts = append(texts, "! "+m.Err.Error())
		default:
			texts = append(texts, m.Content.Text)
		}
	}
	return texts
}

func (p *phone) wantTexts(want ...string) {
	p.t.Helper()
	testkit.Eventually(p.t, 20*time.Second, "the phone shows what was said", func() bool { return len(p.texts()) >= len(want) })
	if got := p.texts(); !slices.Equal(got, want) {
		p.t.Errorf("the phone shows %q, want %q", got, want)
	}
}

func (p *phone) say(conversation wire.ConversationID, text string) {
	p.t.Helper()
	if _, err := p.Say(p.t.Context(), conversation, e2ee.Content{Kind: e2ee.KindText, Text: text}); err != nil {
		p.t.Fatal(err)
	}
}

// makeFriends makes contacts of two people.
func makeFriends(t *testing.T, c *client.Client, one, other client.Tokens) {
	t.Helper()
	if _, _, err := c.RequestContact(t.Context(), one.AccessToken, other.User.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.AcceptContact(t.Context(), other.AccessToken, one.User.ID); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyReadersRead(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	linh, mai, bao := enter(t, c, "linh"), enter(t, c, "mai"), enter(t, c, "bao")
	makeFriends(t, c, linh, mai)
	makeFriends(t, c, linh, bao)
	again, _, err := c.Login(t.Context(), client.Credentials{Username: "mai", Password: "a long password"})
	if err != nil {
		t.Fatal(err)
	}
	writer, reader, second, third := newPhone(t, c, linh), newPhone(t, c, mai), newPhone(t, c, again), newPhone(t, c, bao)
	for _, one := range []*phone{writer, third} {
		if _, err := one.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	identity, err := reader.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Join(t.Context(), identity); err != nil {
		t.Fatal(err)
	}
	group, _, err := c.CreateConversation(t.Context(), linh.AccessToken, client.ConversationRequest{
		Kind: wire.KindGroup, Name: "All", ClientID: "0192f0c0-0000-7000-8000-000000000001", Members: []wire.UserID{mai.User.ID},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []*phone{writer, reader, second, third} {
		one.switchOn()
	}

	writer.say(group.ID, "hello")
	reader.say(group.ID, "hello, Linh")
	for _, one := range []*phone{writer, reader, second} {
		one.wantTexts("hello", "hello, Linh")
	}
	stored := messages(t, c, linh, group.ID)
	for _, item := range stored {
		if strings.Contains(item.Body, "hello") {
			t.Errorf("the server stores %s", item.Body)
		}
	}

	t.Run("who_was_away_misses_nothing", func(t *testing.T) {
		second.leave()
		writer.say(group.ID, "while you slept")
		writer.say(group.ID, "and more")
		second.switchOn()
		second.wantTexts("hello", "hello, Linh", "while you slept", "and more")
	})
	t.Run("a_newcomer_reads_from_then_on", func(t *testing.T) {
		if _, _, err := c.AddMembers(t.Context(), linh.AccessToken, group.ID, bao.User.ID); err != nil {
			t.Fatal(err)
		}
		writer.say(group.ID, "welcome")
		third.wantTexts("welcome")
		reader.wantTexts("hello", "hello, Linh", "while you slept", "and more", "welcome")
	})
	t.Run("who_has_left_has_no_key_to_what_follows", func(t *testing.T) {
		if _, err := c.RemoveMember(t.Context(), linh.AccessToken, group.ID, bao.User.ID); err != nil {
			t.Fatal(err)
		}
		writer.say(group.ID, "among us")
		reader.wantTexts("hello", "hello, Linh", "while you slept", "and more", "welcome", "among us")
		all := messages(t, c, linh, group.ID)
		if _, err := third.Decrypt(t.Context(), group.ID, all[len(all)-1]); !errors.Is(err, e2ee.ErrNoKey) {
			t.Errorf("who has left reads the next message: %v", err)
		}
	})
	t.Run("a_relabelled_ciphertext_is_refused", func(t *testing.T) {
		hello := stored[0]
		if content, err := reader.Decrypt(t.Context(), group.ID, hello); err != nil || content.Text != "hello" {
			t.Fatalf("the same again: %+v, %v", content, err)
		}
		for name, change := range map[string]func(*wire.Item){
			"another_name":   func(i *wire.Item) { i.ClientID = "0192f0c0-0000-7000-8000-00000000000f" },
			"another_sender": func(i *wire.Item) { i.Sender = bao.User.ID },
			"another_number": func(i *wire.Item) { i.Seq += 100 },
			"another_time":   func(i *wire.Item) { later := i.At.Add(time.Hour); i.At = &later },
		} {
			forged := hello
			change(&forged)
			if content, err := reader.Decrypt(t.Context(), group.ID, forged); err == nil {
				t.Errorf("%s: believed %q", name, content.Text)
			}
		}
		if content, err := reader.Decrypt(t.Context(), "0192f0c0-0000-7000-8000-0000000000ff", hello); err == nil {
			t.Errorf("in another conversation: believed %q", content.Text)
		}
	})
	t.Run("a_swapped_identity_stops_sending_until_it_is_verified", func(t *testing.T) {
		if _, err := p.sql.Exec(t.Context(), `DELETE FROM key_identities WHERE user_id = $1`, mai.User.ID); err != nil {
			t.Fatal(err)
		}
		stolen, _, err := c.Login(t.Context(), client.Credentials{Username: "mai", Password: "a long password"})
		if err != nil {
			t.Fatal(err)
		}
		thief := newPhone(t, c, stolen)
		if _, err := thief.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		changed := new(e2ee.IdentityChangedError)
		testkit.Eventually(t, 20*time.Second, "sending stops", func() bool {
			_, err := writer.Say(t.Context(), group.ID, e2ee.Content{Kind: e2ee.KindText, Text: "is it you?"})
			return errors.As(err, &changed) && changed.User == mai.User.ID
		})
		thief.switchOn()
		shown, err := writer.Fingerprint(t.Context(), mai.User.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Verify(t.Context(), mai.User.ID, shown); err != nil {
			t.Fatal(err)
		}
		writer.say(group.ID, "so it is you")
		testkit.Eventually(t, 20*time.Second, "the verified one reads", func() bool {
			return slices.Contains(thief.texts(), "so it is you")
		})
	})
}

// messages are all messages of a conversation, as the server has them.
func messages(t *testing.T, c *client.Client, who client.Tokens, conversation wire.ConversationID) []wire.Item {
	t.Helper()
	page, _, err := c.Messages(t.Context(), who.AccessToken, conversation, 0, 0, 500)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(page.Items, func(i wire.Item) bool { return i.Kind != wire.ItemMessage })
}
