package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Message is what a conversation's number holds, as a person may see it.
type Message struct {
	Conversation wire.ConversationID
	Item         wire.Item
	Content      Content // of an item of kind message, when Err is nil
	Err          error   // why it cannot be shown
}

// MessengerOptions are what a device does with what it hears.
type MessengerOptions struct {
	// Cursors are how far this device has each conversation.
	Cursors map[wire.ConversationID]int64
	// Read takes every item of the conversations, each conversation in its order. It is called by one goroutine.
	Read func(Message)
	// Notice takes what else the platform says of its own accord, such as that there is news of calls (wire.FrameCalls); it may be nil. It
	// must not wait for anything.
	Notice func(kind string, frame json.RawMessage)
	// BackedUp hears how each turn of backing keys up has ended (see BackUp); it may be nil. After an error there is another turn.
	BackedUp func(error)
	// Patience is how long a message waits for a key directory that does not answer; 10 s when it is zero.
	Patience time.Duration
}

// Messenger writes and reads encrypted messages on a device's live connection.
type Messenger struct {
	*Machine
	Device *client.Device

	patience time.Duration
	read     func(Message)
	told     func(kind string, frame json.RawMessage)
	backedUp func(error)
	wake     chan struct{} // keys may wait
}

// Messenger prepares a live connection of the machine's device; Run it.
func (m *Machine) Messenger(options MessengerOptions) *Messenger {
	messenger := &Messenger{
		Machine: m, read: options.Read, told: options.Notice, backedUp: options.BackedUp, patience: options.Patience,
		wake: make(chan struct{}, 1),
	}
	if messenger.patience == 0 {
		messenger.patience = 10 * time.Second
	}
	messenger.Device = m.client.Device(client.DeviceOptions{
		Token: m.options.Token, Cursors: options.Cursors,
		Deliver: messenger.deliver, Notice: messenger.notice,
	})
	return messenger
}

// Run keeps the device connected until ctx ends (nil) or the platform says that there is no use.
func (m *Messenger) Run(ctx context.Context) error {
	var following sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	following.Go(func() { m.follow(ctx) })
	defer following.Wait()
	defer cancel()
	return m.Device.Run(ctx) //nolint:wrapcheck // what ended the connection, as it is
}

// keyPause is the longest that keys wait when no frame tells of them.
const keyPause = 5 * time.Second

// follow takes keys in whenever the platform tells of some, and now and then all the same; and backs them up.
func (m *Messenger) follow(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.fresh:
			m.keep(ctx)
			continue
		case <-m.wake:
		case <-timer.C:
		}
		for more := true; more; {
			var err error
			if more, err = m.Sync(ctx, 0); err != nil {
				break // the next turn tries again
			}
		}
		m.keep(ctx)
		timer.Reset(keyPause)
	}
}

func (m *Messenger) keep(ctx context.Context) {
	if err := m.BackUp(ctx); m.backedUp != nil && ctx.Err() == nil {
		m.backedUp(err)
	}
}

func (m *Messenger) notice(kind string, frame json.RawMessage) {
	if kind != wire.FrameInbox {
		if m.told != nil {
			m.told(kind, frame)
		}
		return
	}
	select {
	case m.wake <- struct{}{}:
	default: // a turn is due already
	}
}

func (m *Messenger) deliver(conversation wire.ConversationID, items []wire.Item, _ int64) {
	for _, item := range items {
		message := Message{Conversation: conversation, Item: item}
		if item.Kind == wire.ItemMessage {
			message.Content, message.Err = m.patient(conversation, item)
		}
		m.read(message)
	}
}

// patient takes keys in first when one is missing: it was queued before its message was sent. A key that did not wait there never comes.
func (m *Messenger) patient(conversation wire.ConversationID, item wire.Item) (Content, error) {
	ctx, cancel := context.WithTimeout(context.Background(), m.patience)
	defer cancel()
	content, err := m.Decrypt(ctx, conversation, item)
	for errors.Is(err, ErrNoKey) {
		more, failed := m.Sync(ctx, 0)
		switch content, err = m.Decrypt(ctx, conversation, item); {
		case failed != nil && !sleep(ctx, syncPause):
			return content, errors.Join(err, failed)
		case failed == nil && !more:
			return content, err
		}
	}
	return content, err
}

// syncPause is before keys are asked for again after a failure.
const syncPause = 500 * time.Millisecond

func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Say encrypts content for those who are in the conversation now, and sends it. Its ID is made here when it has none. It returns when the
// message is durable.
func (m *Messenger) Say(ctx context.Context, conversation wire.ConversationID, content Content) (wire.Sent, error) {
	token, err := m.options.Token(ctx)
	if err != nil {
		return wire.Sent{}, err
	}
	present, _, err := m.client.Members(ctx, token, conversation)
	if err != nil {
		return wire.Sent{}, fmt.Errorf("read members: %w", err)
	}
	members := make([]wire.UserID, len(present))
	for i, member := range present {
		members[i] = member.UserID
	}
	if content.ID == "" {
		name, err := uuid.NewV7()
		if err != nil {
			return wire.Sent{}, fmt.Errorf("name message: %w", err)
		}
		content.ID = wire.ClientID(name.String())
	}
	body, err := m.Encrypt(ctx, conversation, members, content)
	if err != nil {
		return wire.Sent{}, err
	}
	return m.Device.SendAs(ctx, conversation, content.ID, body) //nolint:wrapcheck // the platform's word, as it is
}
