package video

import (
	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/tunnel"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// SocketRoute adds the socket of a call to e. The gateway has judged the Origin.
func SocketRoute(e *echo.Echo, live *Live) { e.GET("/v1/calls/:id/ws", live.openSocket) }

// openSocket upgrades the request where the call lives, or can come to live; the socket outlives its handler. Elsewhere it passes the
// request on. Who may be in the call is asked when a frame says who it is: before, a call that is not there and one that is not the
// asker's look alike.
func (l *Live) openSocket(c *echo.Context) error {
	const op = "video.openSocket"
	id, err := wire.ParseCallID(c.Param("id"))
	if err != nil {
		return noCall(op)
	}
	if !tunnel.IsUpgrade(c.Request()) {
		return notASocket(op, nil)
	}
	here, address, err := l.whereIs(c, id)
	if err != nil {
		return err
	}
	if !here {
		return l.relayed.to(c, address)
	}
	k := newSocket(l, id, web.Subscriber(c.RealIP()), c.Request().Header.Get(wire.HeaderRequestID))
	if err := l.enter(k); err != nil {
		return err
	}
	conn, err := wsconn.Accept(c.Response(), c.Request(), wsconn.Options{ReadLimit: frameLimit, Subprotocol: wire.CallProtocol})
	if err != nil {
		l.leave(k)
		return notASocket(op, err)
	}
	k.begin(conn)
	return nil
}

func notASocket(op string, err error) error {
	return apperr.E(op, apperr.Invalid, "This address speaks WebSocket.", err, apperr.Code("upgrade_required"))
}

// whereIs says whether a call's socket is to be served here, or else which host's.
func (l *Live) whereIs(c *echo.Context, id wire.CallID) (here bool, address string, err error) {
	if l.room(id) != nil {
		return true, "", nil
	}
	where, err := l.service.store.place(c.Request().Context(), id)
	if apperr.Is(err, apperr.NotFound) {
		return true, "", nil // it is told so as a participant would be
	}
	if err != nil {
		return false, "", apperr.OrUnavailable("video.whereIs", err)
	}
	me, _ := l.itself()
	if where.address == "" || where.owner == me {
		return true, "", nil
	}
	if c.Request().Header.Get(headerRelayed) != "" {
		return false, "", apperr.E("video.whereIs", apperr.Unavailable, "The call has just moved. Try again.", errMoved)
	}
	return false, where.address, nil
}
