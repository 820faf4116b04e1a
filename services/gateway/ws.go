package gateway

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

const (
	socketReadLimit  = 8 << 10
	socketQueueBytes = 1 << 20

	// missedChecks in a row are borne before a socket is closed whose session nobody can vouch for.
	missedChecks = 4
)

// openSocket upgrades the request and keeps the socket until it ends.
func (g *Gateway) openSocket(c *echo.Context) error {
	if err := g.checkOrigin(c.Request()); err != nil {
		return err
	}
	k, err := g.sockets.enter(subscriberOf(clientOf(c)))
	if err != nil {
		return err
	}
	defer func() { g.sockets.leave(k, k.session) }()
	conn, err := wsconn.Accept(c.Response(), c.Request(), wsconn.Options{
		ReadLimit:  socketReadLimit,
		QueueBytes: socketQueueBytes,
		PingEvery:  g.config.Limits.PingEvery,
	})
	if err != nil {
		return apperr.E("gateway.openSocket", apperr.Invalid, "This address speaks WebSocket.", err, apperr.Code("upgrade_required"))
	}
	g.sockets.attach(k, conn)
	k.run(c.Request().Context())
	code := conn.Wait()
	g.log.Info("socket closed", "op", "gateway.socket", "user_id", k.session.UserID, "session_id", k.session.SessionID, "code", int(code),
		"request_id", c.Request().Header.Get(wire.HeaderRequestID))
	return nil
}

// socket is one connection and whose it is. Its fields belong to run, but for conn, which attach sets before.
type socket struct {
	sockets    *sockets
	subscriber string
	conn       *wsconn.Conn

	session wire.Session // zero until the first good auth frame
	missed  int          // checks in a row that nobody could answer
	frames  *ratelimit.Limiter
}

// run owns the socket until its connection has ended.
func (k *socket) run(ctx context.Context) {
	limits := k.sockets.limits
	k.frames = ratelimit.New(nil, time.Now)
	deadline := time.NewTimer(limits.AuthenticateWithin)
	defer deadline.Stop()
	recheck := time.NewTimer(spread(limits.RecheckEvery))
	defer recheck.Stop()
	for {
		select {
		case frame, open := <-k.conn.Frames():
			if !open {
				return
			}
			if err := k.receive(ctx, frame); err != nil {
				k.conn.Close(closeCode(err))
				continue
			}
			deadline.Reset(time.Until(k.session.Expires))
		case <-deadline.C:
			k.conn.Close(k.overdue())
		case <-recheck.C:
			k.recheck(ctx)
			recheck.Reset(spread(limits.RecheckEvery))
		}
	}
}

// receive takes one frame: an access token, the first or the next of the same session.
func (k *socket) receive(ctx context.Context, content []byte) error {
	if verdict := k.frames.Take(ctx, ratelimit.Bucket{Key: "frames", Rule: k.sockets.limits.SocketFrame}); !verdict.Allowed {
		return tooMany("gateway.socket", verdict.Wait)
	}
	frame, err := parseFrame(content)
	if err != nil {
		return apperr.E("gateway.socket", apperr.Invalid, "This frame is not in the protocol.", err)
	}
	if err := k.authenticate(ctx, frame.Token); err != nil {
		return err
	}
	ready, err := json.Marshal(wire.ReadyFrame{Type: wire.FrameReady, SessionID: k.session.SessionID, ExpiresAt: k.session.Expires})
	if err != nil {
		return apperr.E("gateway.socket", apperr.Internal, "Something went wrong on our side.", err)
	}
	_ = k.conn.Send(ready) // a connection that is closing says so through Frames
	return nil
}

// authenticate asks auth, not only the token: a socket may outlive what the token says.
func (k *socket) authenticate(ctx context.Context, accessToken string) error {
	session, err := k.sockets.identify(ctx, accessToken)
	if err != nil {
		return err
	}
	if err := k.sockets.check(ctx, session.SessionID); err != nil {
		return err
	}
	if k.session.SessionID == "" {
		if err := k.sockets.know(k, session); err != nil {
			return err
		}
	} else if session.SessionID != k.session.SessionID {
		return apperr.E("gateway.socket", apperr.Unauthenticated, "This socket belongs to another session.", nil)
	}
	k.session, k.missed = session, 0
	return nil
}

// overdue is how a socket ends that brought no token in time.
func (k *socket) overdue() wsconn.Code {
	if k.session.SessionID == "" {
		return wsconn.Unauthenticated
	}
	return wsconn.TokenExpired
}

// recheck closes the socket of a session that was ended, also when no hint came.
func (k *socket) recheck(ctx context.Context) {
	if k.session.SessionID == "" {
		return
	}
	err := k.sockets.check(ctx, k.session.SessionID)
	switch {
	case err == nil:
		k.missed = 0
	case apperr.Is(err, apperr.Unauthenticated):
		k.conn.Close(closeCode(err))
	default:
		if k.missed++; k.missed >= missedChecks {
			k.conn.Close(closeCode(err))
		}
	}
}

// spread keeps sockets that were opened together from asking together.
func spread(d time.Duration) time.Duration {
	return d - d/5 + rand.N(d/5+1) //nolint:gosec // spreads load, hides nothing
}
