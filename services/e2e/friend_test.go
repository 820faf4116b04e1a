//go:build lab

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

// friend is a person with two devices of the Go library, who lets others see what was understood: the first device answers what is said
// backwards, does to its answer what others do to what they said, and takes calls; the second puts an eye on it.
type friend struct {
	*caller // the first device

	second  *phone
	answers map[wire.ClientID]wire.ClientID // to what others said
	texts   map[wire.ClientID]string        // of the answers
}

const eye = "👀"

// newFriend has the friend ask somebody to be a contact, and be there until the test ends.
func (s *system) newFriend(t *testing.T, of string) *friend {
	t.Helper()
	f := &friend{
		caller:  &caller{person: s.newPerson(t, ""), t: t, system: s},
		answers: map[wire.ClientID]wire.ClientID{}, texts: map[wire.ClientID]string{},
	}
	f.reset()
	var tokens [2]client.Tokens
	for i := range tokens {
		var err error
		if tokens[i], _, err = f.client.Login(t.Context(), client.Credentials{Username: f.name, Password: f.password}); err != nil {
			t.Fatal(err)
		}
	}
	f.phone, f.second = newPhone(t, f.client, tokens[0]), newPhone(t, f.client, tokens[1])
	identity, err := f.phone.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.second.Join(t.Context(), identity); err != nil {
		t.Fatal(err)
	}
	f.takeCalls(t)
	f.listen(t, f.phone, f.answer)
	f.listen(t, f.second, f.look)

	found, _, err := f.client.SearchUsers(t.Context(), tokens[0].AccessToken, of)
	if err != nil || len(found) != 1 {
		t.Fatalf("search %s: %d found, %v", of, len(found), err)
	}
	if _, _, err := f.client.RequestContact(t.Context(), tokens[0].AccessToken, found[0].ID); err != nil {
		t.Fatal(err)
	}
	return f
}

// listen has a phone do something about each message of somebody else, in their order.
func (f *friend) listen(t *testing.T, p *phone, act func(context.Context, e2ee.Message) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan e2ee.Message, 100)
	p.heard = func(m e2ee.Message) {
		select {
		case heard <- m:
		case <-ctx.Done():
		}
	}
	p.switchOn()
	var acting sync.WaitGroup
	acting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-heard:
				if m.Item.Kind != wire.ItemMessage || m.Item.Sender == p.tokens.User.ID {
					continue
				}
				if err := errors.Join(m.Err, act(ctx, m)); err != nil && ctx.Err() == nil {
					t.Errorf("the friend, about %q: %v", m.Content.Text, err)
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); acting.Wait() })
}

// takeCalls has the first device answer what rings, until the test ends.
func (f *friend) takeCalls(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	rung := make(chan struct{}, 1)
	f.phone.rung = func() {
		select {
		case rung <- struct{}{}:
		default: // one look takes all that rings
		}
	}
	var acting sync.WaitGroup
	acting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-rung:
			}
			if err := f.pickUp(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("the friend, when it rang: %v", err)
			}
		}
	})
	t.Cleanup(func() { cancel(); acting.Wait() })
}

// pickUp answers what rings.
func (f *friend) pickUp(ctx context.Context) error {
	ongoing, _, err := f.client.OngoingCalls(ctx, f.phone.tokens.AccessToken)
	if err != nil {
		return fmt.Errorf("see which calls: %w", err)
	}
	for _, call := range ongoing {
		if !slices.ContainsFunc(call.Members, func(m wire.CallMember) bool {
			return m.UserID == f.phone.tokens.User.ID && m.State == wire.MemberRinging
		}) {
			continue
		}
		if _, err := f.enter(call.ID); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}

// callBack calls whoever wants to be called.
func (f *friend) callBack(ctx context.Context, in wire.ConversationID) error {
	call, _, err := f.client.BeginCall(ctx, f.phone.tokens.AccessToken, client.CallRequest{ConversationID: in, ClientID: newClientID(f.t), Media: wire.MediaVideo})
	if err != nil {
		return fmt.Errorf("call: %w", err)
	}
	if _, err := f.enter(call.ID); err != nil {
		return fmt.Errorf("enter own call: %w", err)
	}
	return nil
}

// look is what the second device does.
func (f *friend) look(ctx context.Context, m e2ee.Message) error {
	if m.Content.Kind != e2ee.KindText {
		return nil
	}
	_, err := f.second.Say(ctx, m.Conversation, e2ee.Content{Kind: e2ee.KindReact, Target: m.Content.ID, Key: eye, On: true})
	return err //nolint:wrapcheck // listen says whose it is
}

// answer is what the first device does.
func (f *friend) answer(ctx context.Context, m e2ee.Message) error {
	c := m.Content
	switch c.Kind {
	case e2ee.KindText:
		return f.reply(ctx, m)
	case e2ee.KindEdit:
		c.Target, c.Text = f.answers[c.Target], backwards(c.Text)
	case e2ee.KindDelete:
		c.Target = f.answers[c.Target]
	case e2ee.KindReact: // to the same
	default:
		return fmt.Errorf("a %s, which no browser sends", c.Kind)
	}
	c.ID = ""
	_, err := f.phone.Say(ctx, m.Conversation, c)
	return err //nolint:wrapcheck // listen says whose it is
}

// Texts that ask for more than an answer.
const (
	callMe          = "Please call me"
	whatComes       = "What comes?" // and is told what of the call has come since it was asked before
	makeGroup       = "Please make a group: "
	tellFingerprint = "My fingerprint: "
)

func (f *friend) reply(ctx context.Context, m e2ee.Message) error {
	if name, asked := strings.CutPrefix(m.Content.Text, makeGroup); asked {
		return f.gather(ctx, name, m.Item.Sender)
	}
	text := backwards(m.Content.Text)
	switch m.Content.Text {
	case callMe:
		return f.callBack(ctx, m.Conversation)
	case whatComes:
		came := f.counts()
		f.reset()
		text = fmt.Sprintf("pictures: %d, sounds: %d", came["picture"], came["sound"])
	}
	if fingerprint, told := strings.CutPrefix(m.Content.Text, tellFingerprint); told {
		own, err := f.compare(ctx, m.Item.Sender, fingerprint)
		if err != nil {
			return err
		}
		text = "Mine: " + own
	}
	if before := f.texts[m.Content.ReplyTo]; before != "" {
		text += ", as I said: " + before
	}
	sent, err := f.phone.Say(ctx, m.Conversation, e2ee.Content{Kind: e2ee.KindText, Text: text, ReplyTo: m.Content.ID})
	if err != nil {
		return err //nolint:wrapcheck // listen says whose it is
	}
	f.answers[m.Content.ID], f.texts[sent.ClientID] = sent.ClientID, text
	return nil
}

// compare verifies who has this fingerprint, and gives the friend's own.
func (f *friend) compare(ctx context.Context, user wire.UserID, fingerprint string) (string, error) {
	if err := f.phone.Verify(ctx, user, fingerprint); err != nil {
		return "", fmt.Errorf("verify: %w", err)
	}
	own, err := f.phone.Fingerprint(ctx, f.phone.tokens.User.ID)
	if err != nil {
		return "", fmt.Errorf("read own fingerprint: %w", err)
	}
	return own, nil
}

// gather makes a group and welcomes who asked for it.
func (f *friend) gather(ctx context.Context, name string, user wire.UserID) error {
	group, _, err := f.client.CreateConversation(ctx, f.phone.tokens.AccessToken, client.ConversationRequest{
		Kind: wire.KindGroup, Name: name, ClientID: newClientID(f.t), Members: []wire.UserID{user},
	})
	if err != nil {
		return fmt.Errorf("make group: %w", err)
	}
	_, err = f.phone.Say(ctx, group.ID, e2ee.Content{Kind: e2ee.KindText, Text: "Welcome to " + name})
	return err //nolint:wrapcheck // listen says whose it is
}

func backwards(text string) string {
	letters := []rune(text)
	slices.Reverse(letters)
	return string(letters)
}
