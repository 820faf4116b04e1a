package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Times of the socket. The platform takes a client that is silent for longer than pongWithin for gone, and so does the client.
const (
	linkWithin = 5 * time.Second // from dialling to joined
	pingEvery  = 2 * time.Second
	pongWithin = 2500 * time.Millisecond
	firstPause = 100 * time.Millisecond // before the second attempt; each is twice as long
	maxDouble  = 3
	hasteEvery = time.Second // a call that moves again and again is no reason to hurry
)

// errSilent is why a socket was given up that answered no more.
var errSilent = errors.New("the platform does not answer")

// keepLinked has a socket to the call, and another one when it ends, until ctx ends or the platform says that there is no use.
func (c *Call) keepLinked(ctx context.Context) {
	var hasty time.Time
	for attempt := 0; ; attempt++ {
		joined, err := c.link(ctx)
		if ctx.Err() != nil {
			return
		}
		c.acts.put(func() { c.unlinked(err) })
		if final(err) {
			return
		}
		if joined {
			attempt = 0
		}
		if moved(err) && time.Since(hasty) > hasteEvery {
			hasty = time.Now()
			continue
		}
		pause := firstPause << min(attempt, maxDouble)
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // spreads load, hides nothing
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// closeMoved is the code of a call that goes on on another host.
const closeMoved = 4005

func moved(err error) bool {
	var closed *client.CloseError
	return errors.As(err, &closed) && closed.Code == closeMoved || errors.Is(err, errAnew) || errors.Is(err, errMoved)
}

// later are the platform's refusals on a socket that mean: again, later.
var later = []string{"unavailable", "internal", "too_many_requests", "try_again"}

// final says whether to try again is pointless: the call is over, or not for this device.
func final(err error) bool {
	var closed *client.CloseError
	var refused *client.Problem
	switch {
	case errors.As(err, &closed):
		return closed.Final()
	case errors.As(err, &refused) && refused.Status == 0: // on the socket
		return refused.RetryAfter == 0 && !slices.Contains(later, refused.Code)
	case errors.As(err, &refused):
		return refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusTooManyRequests && refused.Status != http.StatusRequestTimeout
	default:
		return false
	}
}

// link lives through one socket and returns how it ended, and whether it had come to joined.
func (c *Call) link(life context.Context) (joined bool, err error) {
	ctx, drop := context.WithCancelCause(life)
	defer drop(nil)
	socket, ready, first, err := c.enter(ctx)
	if err != nil {
		return false, err
	}
	lingers := false
	defer func() {
		if !lingers {
			_ = socket.Close()
		}
	}()
	if !c.ask(func() { c.joined(life, socket, drop, ready, first) }) {
		return true, ErrOver
	}
	pongs := make(chan string, 1)
	c.running.Go(func() { ping(ctx, socket, pongs, drop) })
	for {
		var content json.RawMessage
		if err := socket.Receive(ctx, &content); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				lingers = errors.Is(cause, errMoved) && c.ask(func() { c.linger(socket) })
				return true, cause
			}
			return true, err
		}
		var head struct{ Type, ID string }
		if err := json.Unmarshal(content, &head); err != nil {
			return true, fmt.Errorf("read frame: %w", err)
		}
		if head.Type == wire.FramePong {
			select {
			case pongs <- head.ID:
			default: // one that came too late
			}
			continue
		}
		var taken error
		if !c.ask(func() { taken = c.take(head.Type, content) }) {
			return true, ErrOver
		}
		if taken != nil {
			return true, taken
		}
	}
}

// enter opens a socket, signs it in and joins.
func (c *Call) enter(ctx context.Context) (socket *client.Socket, ready client.Ready, first wire.JoinedFrame, err error) {
	ctx, cancel := context.WithTimeout(ctx, linkWithin)
	defer cancel()
	token, err := c.options.Token(ctx)
	if err != nil {
		return nil, ready, first, err
	}
	socket, err = c.options.Client.DialSocket(ctx, client.CallSocket(c.id), http.Header{"Sec-Websocket-Protocol": {wire.CallProtocol}})
	if err != nil {
		return nil, ready, first, err //nolint:wrapcheck // the platform's word, as it is
	}
	if ready, first, err = c.join(ctx, socket, token); err != nil {
		_ = socket.Close() // the reason to give up is err
		return nil, ready, first, err
	}
	return socket, ready, first, nil
}

func (c *Call) join(ctx context.Context, socket *client.Socket, token string) (ready client.Ready, first wire.JoinedFrame, err error) {
	if ready, err = socket.Authenticate(ctx, token); err != nil {
		return ready, first, err //nolint:wrapcheck // as above
	}
	join := wire.CallFrame{Type: wire.FrameJoin, ID: "join", VideoSlots: c.options.VideoSlots}
	if !c.ask(func() { join.Resume, join.Faults = c.resume(), c.nextFaults() }) {
		return ready, first, ErrOver
	}
	if err = socket.Send(ctx, join); err != nil {
		return ready, first, err //nolint:wrapcheck // as above
	}
	first, err = awaitJoined(ctx, socket)
	return ready, first, err
}

// awaitJoined passes over what comes before the answer to join.
func awaitJoined(ctx context.Context, socket *client.Socket) (wire.JoinedFrame, error) {
	for {
		var content json.RawMessage
		if err := socket.Receive(ctx, &content); err != nil {
			return wire.JoinedFrame{}, err //nolint:wrapcheck // the platform's word, as it is
		}
		switch head, err := read[struct{ Type string }](content); {
		case err != nil:
			return wire.JoinedFrame{}, err
		case head.Type == wire.FrameJoined:
			return read[wire.JoinedFrame](content)
		case head.Type == wire.FrameError:
			refused, err := read[wire.ErrorFrame](content)
			return wire.JoinedFrame{}, errors.Join(problemOf(refused), err)
		}
	}
}

// problemOf is a refusal on the socket as one over HTTP.
func problemOf(frame wire.ErrorFrame) error {
	return &client.Problem{Code: frame.Code, Detail: frame.Detail, RetryAfter: time.Duration(frame.RetryAfter) * time.Second}
}

// ping asks again and again, and drops a socket that does not answer.
func ping(ctx context.Context, socket *client.Socket, pongs <-chan string, drop context.CancelCauseFunc) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		id := strconv.Itoa(n)
		within, cancel := context.WithTimeout(ctx, pongWithin)
		answered := socket.Send(within, wire.CallFrame{Type: wire.FramePing, ID: id}) == nil && awaitPong(within, pongs, id)
		cancel()
		if !answered {
			drop(errSilent)
			return
		}
	}
}

func awaitPong(ctx context.Context, pongs <-chan string, id string) bool {
	for {
		select {
		case got := <-pongs:
			if got == id {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}
