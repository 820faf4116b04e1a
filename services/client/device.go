package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"secureconnect/services/internal/wire"
)

// DeviceOptions say who a device is and what it does with what it hears.
type DeviceOptions struct {
	// Token gives a fresh access token, always of the same session.
	Token func(ctx context.Context) (string, error)
	// Cursors are how far this device has each conversation.
	Cursors map[wire.ConversationID]int64
	// Deliver takes a conversation's items, in order and without a gap; through is its cursor then. It is called by one goroutine.
	Deliver func(id wire.ConversationID, items []wire.Item, through int64)
	// Notice takes every other frame of the platform's own accord: its type and all of it. It may be nil.
	Notice func(kind string, frame json.RawMessage)
	// Pause is before the second attempt to connect, and doubles up to 64 times as much; 250 ms when it is zero.
	Pause time.Duration
}

// Device is one device's live connection. It comes back by itself, reads what it missed, and sends again what was not acknowledged: a
// message that Send took is stored once, or Send says that it will never be.
type Device struct {
	client  *Client
	options DeviceOptions

	mu       sync.Mutex
	socket   *Socket // nil while there is none
	last     int     // request id
	outbox   []*request
	asked    map[string]*request
	streams  map[wire.ConversationID]*stream
	watched  []wire.UserID
	attempts int
	lost     error // why there is no socket
	expires  time.Time
}

// request is a frame that waits for its answer. One that lasts is sent again after a reconnect.
type request struct {
	frame  wire.ClientFrame
	lasts  bool
	answer chan reply
}

type reply struct {
	content json.RawMessage
	err     error
}

// stream is one conversation on its way to Deliver.
type stream struct {
	through int64
	target  int64             // the last number known to be there
	early   []wire.ItemsFrame // beginning above through
	asking  bool
}

// earlyFrames may wait for the range before them; what is beyond is read again.
const earlyFrames = 64

// ErrNotConnected is what a request that does not last gets while there is no socket.
var ErrNotConnected = errors.New("the device is not connected")

// Device prepares a device's connection; Run it.
func (c *Client) Device(options DeviceOptions) *Device {
	d := &Device{client: c, options: options, asked: map[string]*request{}, streams: map[wire.ConversationID]*stream{}}
	d.options.Pause = valueOr(options.Pause, 250*time.Millisecond)
	for id, through := range options.Cursors {
		d.streams[id] = &stream{through: through}
	}
	return d
}

// Run connects, and connects again, until ctx ends (nil) or the platform says that there is no use.
func (d *Device) Run(ctx context.Context) error {
	for {
		err := d.connect(ctx)
		d.mu.Lock()
		d.lost = err
		d.mu.Unlock()
		var closed *CloseError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &closed) && closed.Final():
			return err
		}
		if !d.rest(ctx, closed) {
			return nil
		}
	}
}

// closeElsewhere is the code of a host that stops while another one serves.
const closeElsewhere = 4001

// rest waits before the next attempt, with full jitter so that those who were cut together do not come together.
func (d *Device) rest(ctx context.Context, closed *CloseError) bool {
	d.mu.Lock()
	pause := d.options.Pause << min(d.attempts, 6)
	if closed != nil && closed.Code == closeElsewhere && d.attempts == 0 {
		pause = d.options.Pause / 4
	}
	d.attempts++
	d.mu.Unlock()
	timer := time.NewTimer(rand.N(pause) + time.Millisecond) //nolint:gosec // spreads load, hides nothing
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connect lives through one socket and returns how it ended.
func (d *Device) connect(ctx context.Context) error {
	token, err := d.options.Token(ctx)
	if err != nil {
		return err
	}
	socket, err := d.client.DialSocket(ctx, PathSocket, http.Header{"Sec-Websocket-Protocol": {wire.SocketProtocol}})
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	ready, err := socket.Authenticate(ctx, token)
	if err != nil {
		return err
	}
	d.renewed(ready)
	renewing, cancel := context.WithCancel(ctx)
	var renewed sync.WaitGroup
	renewed.Go(func() { d.renew(renewing, socket) })
	defer renewed.Wait()
	defer cancel()
	if err := d.resume(ctx, socket); err != nil {
		return err
	}
	defer d.lose()
	for {
		var content json.RawMessage
		if err := socket.Receive(ctx, &content); err != nil {
			return err
		}
		if err := d.take(ctx, content); err != nil {
			return err
		}
	}
}

// renew sends a fresh token when two thirds of the last one's life have passed.
func (d *Device) renew(ctx context.Context, socket *Socket) {
	for {
		d.mu.Lock()
		left := time.Until(d.expires)
		d.mu.Unlock()
		timer := time.NewTimer(max(left*2/3, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		token, err := d.options.Token(ctx)
		if err != nil {
			continue // the old one lasts a little longer
		}
		if socket.Send(ctx, wire.AuthFrame{Type: wire.FrameAuth, Token: token}) != nil {
			return
		}
	}
}

func (d *Device) renewed(ready Ready) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expires = ready.ExpiresAt
}

// resume says how far the device is and sends again what was not acknowledged, in order.
func (d *Device) resume(ctx context.Context, socket *Socket) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	cursors := make(map[wire.ConversationID]int64, len(d.streams))
	for id, s := range d.streams {
		cursors[id] = s.through
		s.early, s.asking = nil, false
	}
	if err := socket.Send(ctx, wire.ClientFrame{Type: wire.FrameSync, ID: "sync", Cursors: cursors}); err != nil {
		return err
	}
	for _, r := range d.outbox {
		if err := socket.Send(ctx, r.frame); err != nil {
			return err
		}
	}
	if len(d.watched) > 0 {
		if err := socket.Send(ctx, wire.ClientFrame{Type: wire.FrameWatch, ID: "watch", Users: d.watched}); err != nil {
			return err
		}
	}
	d.socket, d.attempts = socket, 0
	return nil
}

// lose gives requests up that do not last.
func (d *Device) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.socket = nil
	for id, r := range d.asked {
		if !r.lasts {
			delete(d.asked, id)
			r.answer <- reply{err: ErrNotConnected}
		}
	}
}

// Send stores a message and tells its number. It returns when the message is durable, when the platform refuses it for good, or when ctx
// ends, after which it may still come to be stored: an error that is ctx's says nothing of the message, whatever problem of connecting it
// tells besides.
func (d *Device) Send(ctx context.Context, id wire.ConversationID, body string) (wire.Sent, error) {
	name, err := uuid.NewV7()
	if err != nil {
		return wire.Sent{}, fmt.Errorf("name message: %w", err)
	}
	return d.SendAs(ctx, id, wire.ClientID(name.String()), body)
}

// SendAs is Send under a name the message has already: the same bytes under it are the same message.
func (d *Device) SendAs(ctx context.Context, id wire.ConversationID, name wire.ClientID, body string) (wire.Sent, error) {
	var sent wire.SentFrame
	err := d.request(ctx, wire.ClientFrame{Type: wire.FrameSend, ConversationID: id, ClientID: name, Body: body}, true, &sent)
	return sent.Sent, err
}

// Range reads what is above a number, up to another or, with 0, to the last.
func (d *Device) Range(ctx context.Context, id wire.ConversationID, after, upTo int64, limit int) (wire.Page, error) {
	var page wire.PageFrame
	err := d.request(ctx, wire.ClientFrame{Type: wire.FrameRange, ConversationID: id, After: after, UpTo: upTo, Limit: limit}, false, &page)
	return page.Page, err
}

// MoveCursor says how far this device was given, and its user has read, a conversation. Nobody answers.
func (d *Device) MoveCursor(ctx context.Context, id wire.ConversationID, change wire.CursorChange) error {
	return d.say(ctx, wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Delivered: change.Delivered, Read: change.Read})
}

// Typing says that its user writes, or has ceased to.
func (d *Device) Typing(ctx context.Context, id wire.ConversationID, on bool) error {
	return d.say(ctx, wire.ClientFrame{Type: wire.FrameTyping, ConversationID: id, On: on})
}

// Watch asks for the presence of contacts; Notice gets it, now and at every change.
func (d *Device) Watch(ctx context.Context, users []wire.UserID) error {
	d.mu.Lock()
	d.watched = slices.Clone(users)
	d.mu.Unlock()
	return d.say(ctx, wire.ClientFrame{Type: wire.FrameWatch, ID: "watch", Users: users})
}

// Through is how far this device has a conversation.
func (d *Device) Through(id wire.ConversationID) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.streams[id]; s != nil {
		return s.through
	}
	return 0
}

func (d *Device) say(ctx context.Context, frame wire.ClientFrame) error {
	d.mu.Lock()
	socket := d.socket
	d.mu.Unlock()
	if socket == nil {
		return ErrNotConnected
	}
	return socket.Send(ctx, frame)
}

// request sends a frame and waits for what comes back under its id.
func (d *Device) request(ctx context.Context, frame wire.ClientFrame, lasts bool, into any) error {
	r, err := d.post(ctx, frame, lasts)
	if err != nil {
		return err
	}
	select {
	case got := <-r.answer:
		if got.err != nil {
			return got.err
		}
		if err := json.Unmarshal(got.content, into); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		return nil
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		d.forgetLocked(r)
		if d.socket == nil && d.lost != nil {
			return fmt.Errorf("wait for a socket (%w): %w", d.lost, ctx.Err())
		}
		return fmt.Errorf("wait for the answer: %w", ctx.Err())
	}
}

// post sends under the lock, so that frames leave in the order of their requests.
func (d *Device) post(ctx context.Context, frame wire.ClientFrame, lasts bool) (*request, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == nil && !lasts {
		return nil, ErrNotConnected
	}
	d.last++
	frame.ID = strconv.Itoa(d.last)
	r := &request{frame: frame, lasts: lasts, answer: make(chan reply, 1)}
	d.asked[frame.ID] = r
	if lasts {
		d.outbox = append(d.outbox, r)
	}
	if d.socket == nil {
		return r, nil
	}
	if err := d.socket.Send(ctx, frame); err != nil && !lasts {
		d.forgetLocked(r)
		return nil, err
	}
	return r, nil
}

func (d *Device) forgetLocked(r *request) {
	delete(d.asked, r.frame.ID)
	d.outbox = slices.DeleteFunc(d.outbox, func(o *request) bool { return o == r })
}
