package video

import (
	"context"
	"crypto/subtle"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
	"secureconnect/services/video/sfu"
)

// Limits of what one socket may say: frames of any kind, else it is closed; descriptions of connections, which cost more, else they are
// refused.
var (
	frameLimits       = ratelimit.Rule{Burst: 200, Every: 20 * time.Millisecond}
	descriptionLimits = ratelimit.Rule{Burst: 20, Every: 500 * time.Millisecond}
)

// socket is one connection to a call and whose it is. Frames are taken one after the other, by the connection's reader.
type socket struct {
	live       *Live
	call       wire.CallID
	subscriber string
	requestID  string
	conn       *wsconn.Conn
	ctx        context.Context //nolint:containedctx // ends with the connection
	cancel     context.CancelFunc
	opened     time.Time
	known      bool // guarded by live

	// The reader's own.
	frames, descriptions ratelimit.Own
	participant          *participant
	faults               faults

	mu       sync.Mutex
	session  wire.Session // zero until the first good auth frame
	checkAt  time.Time    // when auth is asked next whether the session lives
	checking bool
	gone     bool
	onGone   []func()
}

func newSocket(l *Live, call wire.CallID, subscriber, requestID string) *socket {
	return &socket{live: l, call: call, subscriber: subscriber, requestID: requestID, opened: time.Now()}
}

func (k *socket) begin(conn *wsconn.Conn) {
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.mu.Lock()
	k.conn = conn
	k.mu.Unlock()
	conn.Begin(k.receive, k.end)
	if k.live.isStopping() {
		conn.Close(wsconn.GoingAway)
	}
}

// close is for who knows the socket from the list of all: it may not have its connection yet.
func (k *socket) close(code wsconn.Code) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		k.conn.Close(code)
	}
}

// end runs once, when nothing of the connection runs any more.
func (k *socket) end(code wsconn.Code) {
	k.cancel()
	if k.participant != nil {
		k.participant.room.lose(k.participant, k)
	}
	k.mu.Lock()
	k.gone = true
	session, onGone := k.session, k.onGone
	k.mu.Unlock()
	for _, do := range onGone {
		do()
	}
	k.live.leave(k)
	k.live.log.Info("socket closed", "op", "video.socket", "call_id", k.call, "user_id", session.UserID, "code", int(code), "request_id", k.requestID)
}

// whenGone calls do when the connection has ended, or now if it has.
func (k *socket) whenGone(do func()) {
	k.mu.Lock()
	gone := k.gone
	if !gone {
		k.onGone = append(k.onGone, do)
	}
	k.mu.Unlock()
	if gone {
		do()
	}
}

func (k *socket) whose() wire.Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.session
}

func (k *socket) tell(frame any) { _ = k.conn.Send(frameOf(frame)) } // a connection that is closing says so by itself

// drop ends the connection without a word, as a network would.
func (k *socket) drop() { k.conn.Close(0) }

// receive takes one frame. What is no frame of this protocol, or comes in the wrong state, ends the socket; a request that is refused is
// answered.
func (k *socket) receive(content []byte) {
	now := time.Now()
	if wait := k.frames.Take(now, frameLimits); wait > 0 {
		k.conn.Close(wsconn.TooMany)
		return
	}
	frame, err := parseFrame(content)
	if err != nil || !k.expects(frame.Type) {
		k.conn.Close(wsconn.BadFrame)
		return
	}
	k.handle(frame, now)
}

// expects says which frames belong into which state.
func (k *socket) expects(kind string) bool {
	switch kind {
	case wire.FrameAuth:
		return true
	case wire.FramePing:
		return k.whose().SessionID != ""
	case wire.FrameJoin:
		return k.whose().SessionID != "" && k.participant == nil
	default:
		return k.participant != nil
	}
}

func (k *socket) handle(frame wire.CallFrame, now time.Time) {
	switch frame.Type {
	case wire.FrameAuth:
		if err := k.authenticate(frame.Token, now); err != nil {
			k.conn.Close(session.CloseCode(err))
		}
	case wire.FramePing:
		if !k.faults.strikes(faultNoPong) {
			k.tell(wire.PongFrame{Type: wire.FramePong, ID: frame.ID})
		}
	case wire.FrameJoin:
		k.join(frame)
	case wire.FrameOffer:
		k.offer(frame, now)
	case wire.FrameAnswer:
		k.answer(frame, now)
	case wire.FrameRestart:
		if k.mayDescribe(frame.ID, now) {
			k.participant.media.RestartDown()
		}
	case wire.FrameMute:
		k.mute(frame)
	case wire.FrameWant:
		k.participant.media.Want(frame.Want)
	case wire.FrameLeave:
		k.participant.room.leave(k.ctx, k.participant, wsconn.Over, wire.EndedLeft)
	}
}

func (k *socket) refuse(id string, err error) {
	frame := wire.ErrorFrame{Type: wire.FrameError, ID: id, Code: apperr.CodeOf(err), Detail: apperr.TextOf(err)}
	if wait := apperr.RetryAfterOf(err); wait > 0 {
		frame.RetryAfter = int(math.Ceil(wait.Seconds()))
	}
	if apperr.KindOf(err) == apperr.Internal {
		k.live.log.Error("request failed", "op", "video.socket", "call_id", k.call, "user_id", k.whose().UserID, "error", err, "request_id", k.requestID)
	}
	k.tell(frame)
}

// authenticate asks auth, not only the token: a socket may outlive what the token says.
func (k *socket) authenticate(accessToken string, now time.Time) error {
	signedIn, err := k.live.service.Authenticate(k.ctx, accessToken)
	if err != nil {
		return err
	}
	if err := k.live.check(k.ctx, signedIn.SessionID); err != nil {
		return err
	}
	if before := k.whose(); before.SessionID != "" && before.SessionID != signedIn.SessionID {
		return apperr.E("video.socket", apperr.Unauthenticated, "This socket belongs to another session.", nil)
	}
	k.live.know(k)
	k.mu.Lock()
	k.session = signedIn
	k.checkAt = now.Add(spread(k.live.limits.RecheckEvery))
	k.mu.Unlock()
	k.tell(wire.ReadyFrame{
		Type: wire.FrameReady, SessionID: signedIn.SessionID, UserID: signedIn.UserID, DeviceID: signedIn.DeviceID, ExpiresAt: signedIn.Expires,
	})
	return nil
}

// spread keeps sockets that were opened together from asking together.
func spread(d time.Duration) time.Duration {
	return d - d/5 + rand.N(d/5+1) //nolint:gosec // spreads load, hides nothing
}

// join enters the call in SQL and the room here. Who may not is told so, and that is the end of it.
func (k *socket) join(frame wire.CallFrame) {
	if k.live.faults {
		for _, asked := range frame.Faults {
			k.faults = append(k.faults, fault(asked))
		}
	}
	p, err := k.enter(frame)
	switch {
	case errors.Is(err, errMoved):
		k.conn.Close(wsconn.Moved)
		return
	case errors.Is(err, errReplaced):
		k.conn.Close(wsconn.Replaced)
		return
	case apperr.CodeOf(err) == "call_ended":
		k.tell(wire.EndedFrame{Type: wire.FrameEnded, Reason: k.live.service.endedBy(k.ctx, k.call)})
		k.conn.Close(wsconn.Over)
		return
	case err != nil:
		k.refuse(frame.ID, err)
		return
	}
	k.participant = p
	if k.faults.strikes(faultMoved) {
		k.tell(wire.HintFrame{Type: wire.FrameMoved})
	}
	if k.faults.strikes(faultAfterJoin) {
		k.drop()
	}
}

// errReplaced is a socket that would go on where its user has gone on from another device since.
var errReplaced = errors.New("the user is in the call on another device")

func (k *socket) enter(frame wire.CallFrame) (*participant, error) {
	// Who may not be there makes no room.
	call, err := k.live.service.mayEnter(k.ctx, k.whose(), k.call)
	if err != nil {
		return nil, err
	}
	r, err := k.live.roomOf(k.ctx, k.call)
	if err != nil {
		return nil, err
	}
	switch p, elsewhere := r.resumed(k, k.whose(), frame, call); {
	case p != nil:
		return p, nil
	case elsewhere:
		return nil, errReplaced
	}
	if call, err = k.live.service.enter(k.ctx, k.whose(), k.call); err != nil {
		return nil, err
	}
	return r.join(k, frame, call)
}

// offer answers the client's description of its connection up, and tells the others what it sends.
func (k *socket) offer(frame wire.CallFrame, now time.Time) {
	if !k.mayDescribe(frame.ID, now) {
		return
	}
	if k.faults.strikes(faultAfterOffer) {
		k.drop()
		return
	}
	p := k.participant
	answer, tracks, err := p.media.Offer(frame.SDP, frame.Tracks)
	if err != nil {
		k.refuse(frame.ID, badDescription(err))
		return
	}
	k.tell(wire.DescriptionFrame{Type: wire.FrameAnswer, ID: frame.ID, SDP: answer})
	p.room.setTracks(p, tracks)
}

func (k *socket) answer(frame wire.CallFrame, now time.Time) {
	if !k.mayDescribe(frame.ID, now) {
		return
	}
	if err := k.participant.media.Answer(frame.Version, frame.SDP); err != nil {
		k.refuse(frame.ID, badDescription(err))
	}
	if k.faults.strikes(faultAfterAnswer) {
		k.drop()
	}
}

func (k *socket) mayDescribe(id string, now time.Time) bool {
	wait := k.descriptions.Take(now, descriptionLimits)
	if wait > 0 {
		k.refuse(id, apperr.Overrun("video.socket", wait))
	}
	return wait == 0
}

// badDescription tells the client's mistakes from ours.
func badDescription(err error) error {
	const op = "video.describe"
	if errors.Is(err, sfu.ErrDescription) {
		return apperr.E(op, apperr.Invalid, "This description of a connection is not one that can be used here.", err, apperr.Code("invalid_description"))
	}
	return apperr.OrUnavailable(op, err)
}

func (k *socket) mute(frame wire.CallFrame) {
	p := k.participant
	track, known := p.media.Mute(frame.MID, frame.On)
	if !known {
		k.refuse(frame.ID, apperr.E("video.mute", apperr.NotFound, "You send no such track.", nil, apperr.Code("no_such_track")))
		return
	}
	p.room.setTrack(p, track)
}

// keepTime ends a socket that brought no token in time, and asks now and then whether its session lives.
func (k *socket) keepTime(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.conn == nil || k.gone:
	case k.session.SessionID == "":
		if now.Sub(k.opened) > k.live.limits.AuthenticateWithin {
			k.conn.Close(wsconn.Unauthenticated)
		}
	case now.After(k.session.Expires):
		k.conn.Close(wsconn.TokenExpired)
	case !k.checking && now.After(k.checkAt):
		id := k.session.SessionID
		k.checking = k.live.beside(func() { k.recheck(id) })
	}
}

// recheck closes the socket of a session that was ended. Where nobody can say, the call goes on.
func (k *socket) recheck(id wire.SessionID) {
	err := k.live.check(k.ctx, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.checking, k.checkAt = false, time.Now().Add(spread(k.live.limits.RecheckEvery))
	if apperr.Is(err, apperr.Unauthenticated) {
		k.conn.Close(session.CloseCode(err))
	}
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
