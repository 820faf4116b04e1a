package chat

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

const (
	// missedChecks in a row are borne before a socket is closed whose session nobody can vouch for.
	missedChecks = 4

	// sendsAtOnce and asksAtOnce bound what one socket has under way.
	sendsAtOnce = 64
	asksAtOnce  = 4
)

// socket is one connection and whose it is. Frames are taken one after the other, by the connection's reader.
type socket struct {
	live       *Live
	subscriber string
	requestID  string
	conn       *wsconn.Conn
	opened     time.Time
	ctx        context.Context //nolint:containedctx // ends with the connection
	cancel     context.CancelFunc
	work       sync.WaitGroup

	// The reader's own.
	frames, sends, asks, typings ratelimit.Own

	mu       sync.Mutex
	session  wire.Session // zero until the first good auth frame
	checkAt  time.Time    // when auth is asked next whether the session lives
	checking bool
	missed   int // checks in a row that nobody could answer
	synced   bool
	listing  int                   // requests that read the list of conversations
	came     []wire.ConversationID // come into meanwhile
	ended    bool
	follows  map[wire.ConversationID]*feed // nil while the socket catches up
	sending  int
	asking   int
}

func newSocket(l *Live, subscriber, requestID string) *socket {
	return &socket{live: l, subscriber: subscriber, requestID: requestID, opened: time.Now()}
}

func (k *socket) begin(conn *wsconn.Conn) {
	k.conn = conn
	k.ctx, k.cancel = context.WithCancel(k.live.hub.ctx)
	k.opened = time.Now()
	conn.Begin(k.receive, k.end)
	k.live.sockets.begin(k)
}

// end runs once, when nothing of the connection runs any more.
func (k *socket) end(code wsconn.Code) {
	k.cancel()
	k.mu.Lock()
	k.ended = true
	session, follows := k.session, k.follows
	k.follows = nil
	k.mu.Unlock()
	for _, f := range follows {
		if f != nil {
			f.leave(k)
		}
	}
	k.live.presence.unwatch(k)
	k.work.Wait()
	k.live.sockets.leave(k, session)
	k.live.log.Info("socket closed", "op", "chat.socket", "user_id", session.UserID, "session_id", session.SessionID, "code", int(code),
		"request_id", k.requestID)
}

func (k *socket) close(code wsconn.Code) { k.conn.Close(code) }

func (k *socket) user() wire.UserID { return k.whose().UserID }

func (k *socket) whose() wire.Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.session
}

// start runs work beside the reader; it ends when the connection does.
func (k *socket) start(work func(ctx context.Context)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended {
		k.work.Go(func() { work(k.ctx) })
	}
}

// receive takes one frame. What is no frame of this protocol, or comes in the wrong state, ends the socket; a request that is
// refused is answered.
func (k *socket) receive(content []byte) {
	now := time.Now()
	if wait := k.frames.Take(now, k.live.limits.SocketFrame); wait > 0 {
		k.close(wsconn.TooMany)
		return
	}
	frame, err := parseFrame(content)
	known := k.whose().SessionID != ""
	switch {
	case err != nil, !known && frame.Type != wire.FrameAuth:
		k.close(wsconn.BadFrame)
	case frame.Type == wire.FrameAuth:
		if err := k.authenticate(frame.Token, now); err != nil {
			k.close(session.CloseCode(err))
		}
	default:
		k.handle(frame, now)
	}
}

func (k *socket) handle(frame wire.ClientFrame, now time.Time) {
	switch frame.Type {
	case wire.FrameSend:
		k.send(frame, now)
	case wire.FrameSync:
		k.ask(frame, now, k.sync)
	case wire.FrameRange:
		k.ask(frame, now, k.readRange)
	case wire.FrameWatch:
		k.ask(frame, now, k.watch)
	case wire.FrameCursor:
		k.moveCursor(frame)
	case wire.FrameTyping:
		if k.typings.Take(now, k.live.limits.Typing) == 0 { // else it is as if it had been lost
			k.typing(frame)
		}
	case wire.FramePing:
		k.tell(wire.PongFrame{Type: wire.FramePong, ID: frame.ID})
	}
}

func (k *socket) tell(frame any) { _ = k.conn.Send(frameOf(frame)) } // a connection that is closing says so by itself

func (k *socket) refuse(id string, err error) {
	frame := wire.ErrorFrame{Type: wire.FrameError, ID: id, Code: apperr.CodeOf(err), Detail: apperr.TextOf(err)}
	if wait := apperr.RetryAfterOf(err); wait > 0 {
		frame.RetryAfter = int(math.Ceil(wait.Seconds()))
	}
	if apperr.KindOf(err) == apperr.Internal {
		k.live.log.Error("request failed", "op", "chat.socket", "user_id", k.user(), "error", err, "request_id", k.requestID)
	}
	k.tell(frame)
}

// authenticate asks auth, not only the token: a socket may outlive what the token says.
func (k *socket) authenticate(accessToken string, now time.Time) error {
	const op = "chat.socket"
	session, err := k.live.service.Authenticate(k.ctx, accessToken)
	if err != nil {
		return err
	}
	if err := k.live.check(k.ctx, session.SessionID); err != nil {
		return err
	}
	before := k.whose()
	switch {
	case before.SessionID == "":
		if err := k.live.sockets.know(k, session); err != nil {
			return err
		}
	case session.SessionID != before.SessionID:
		return apperr.E(op, apperr.Unauthenticated, "This socket belongs to another session.", nil)
	}
	k.mu.Lock()
	k.session, k.missed = session, 0
	k.checkAt = now.Add(spread(k.live.recheckEvery()))
	k.mu.Unlock()
	k.tell(wire.ReadyFrame{
		Type: wire.FrameReady, SessionID: session.SessionID, UserID: session.UserID, DeviceID: session.DeviceID, ExpiresAt: session.Expires,
	})
	if before.SessionID == "" {
		// Whatever came while there was no socket.
		_ = k.conn.Send(inboxFrame)
		_ = k.conn.Send(callsFrame)
	}
	return nil
}

// keepTime ends a socket that brought no token in time, and asks now and then whether its session lives.
func (k *socket) keepTime(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended:
	case k.session.SessionID == "":
		if now.Sub(k.opened) > k.live.limits.AuthenticateWithin {
			k.close(wsconn.Unauthenticated)
		}
	case now.After(k.session.Expires):
		k.close(wsconn.TokenExpired)
	case !k.checking && now.After(k.earliestLocked()):
		k.recheckLocked()
	}
}

// earliestLocked is sooner where hints of ended sessions may have been lost since it was set.
func (k *socket) earliestLocked() time.Time {
	if alone := k.live.deafSince(); !alone.IsZero() {
		if sooner := alone.Add(k.live.limits.RecheckAlone); sooner.Before(k.checkAt) {
			return sooner
		}
	}
	return k.checkAt
}

// recheckLocked closes the socket of a session that was ended, also when no hint came.
func (k *socket) recheckLocked() {
	if !k.live.checks.TryAcquire(1) {
		return // at the next tick, then
	}
	k.checking = true
	id := k.session.SessionID
	k.work.Go(func() {
		defer k.live.checks.Release(1)
		err := k.live.check(k.ctx, id)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.checking, k.checkAt = false, time.Now().Add(spread(k.live.recheckEvery()))
		switch {
		case err == nil:
			k.missed = 0
			if !k.live.deafSince().IsZero() {
				_ = k.conn.Send(callsFrame) // the hint of a call that rings may be lost, and is worth nothing later
			}
		case apperr.Is(err, apperr.Unauthenticated):
			k.close(session.CloseCode(err))
		default:
			if k.missed++; k.missed >= missedChecks && k.ctx.Err() == nil {
				k.close(session.CloseCode(err))
			}
		}
	})
}

// recheckWithin brings the next check forward.
func (k *socket) recheckWithin(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if soon := time.Now().Add(spread(d)); soon.Before(k.checkAt) {
		k.checkAt = soon
	}
}

// spread keeps sockets that were opened together from asking together.
func spread(d time.Duration) time.Duration {
	return d - d/5 + rand.N(d/5+1) //nolint:gosec // spreads load, hides nothing
}

// send stores a message. Messages are given to the core in the order of their frames; it answers in its own.
func (k *socket) send(frame wire.ClientFrame, now time.Time) {
	const op = "chat.socket.send"
	if wait := k.sends.Take(now, k.live.limits.SocketSend); wait > 0 || !k.enterSend() {
		k.refuse(frame.ID, apperr.Overrun(op, wait))
		return
	}
	id, err := wire.ParseConversationID(string(frame.ConversationID))
	if err != nil {
		k.leaveSend()
		k.refuse(frame.ID, noConversation(op))
		return
	}
	wait, err := k.live.service.post(k.ctx, k.whose(), id, wire.SendRequest{ClientID: frame.ClientID, Body: frame.Body, Clears: frame.Clears})
	if err != nil {
		k.leaveSend()
		k.refuse(frame.ID, err)
		return
	}
	k.start(func(context.Context) {
		sent, err := wait()
		k.leaveSend()
		if err != nil {
			k.refuse(frame.ID, err)
			return
		}
		k.tell(wire.SentFrame{Type: wire.FrameSent, ID: frame.ID, ConversationID: id, Sent: sent})
	})
}

func (k *socket) enterSend() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sending >= sendsAtOnce {
		return false
	}
	k.sending++
	return true
}

func (k *socket) leaveSend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending--
}

// ask runs a request that may take its time, a few at once.
func (k *socket) ask(frame wire.ClientFrame, now time.Time, work func(ctx context.Context, frame wire.ClientFrame) error) {
	const op = "chat.socket.ask"
	if wait := k.asks.Take(now, k.live.limits.SocketAsk); wait > 0 {
		k.refuse(frame.ID, apperr.Overrun(op, wait))
		return
	}
	k.mu.Lock()
	full := k.asking >= asksAtOnce
	if !full {
		k.asking++
	}
	k.mu.Unlock()
	if full {
		k.refuse(frame.ID, apperr.Overrun(op, 0))
		return
	}
	k.start(func(ctx context.Context) {
		err := work(ctx, frame)
		k.mu.Lock()
		k.asking--
		k.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			k.refuse(frame.ID, err)
		}
	})
}

// readRange answers with a page that fits a frame.
func (k *socket) readRange(ctx context.Context, frame wire.ClientFrame) error {
	const op = "chat.socket.range"
	id, err := wire.ParseConversationID(string(frame.ConversationID))
	if err != nil {
		return noConversation(op)
	}
	if !k.live.hub.take(ctx) {
		return ctx.Err()
	}
	page, err := k.live.service.Messages(ctx, k.whose(), id, Range{After: frame.After, UpTo: frame.UpTo, Limit: frame.Limit})
	k.live.hub.give()
	if err != nil {
		return err
	}
	first := batchesOf(frame.After, page.Items, page.Through)
	if len(first) > 1 {
		page.Items, page.Through, page.More = first[0].items, first[0].through, true
	}
	if k.conn.Await(k.live.room()) == nil {
		k.tell(wire.PageFrame{Type: wire.FramePage, ID: frame.ID, ConversationID: id, Page: page})
	}
	return nil
}
