package chat

import (
	"errors"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

var errFull = errors.New("no room for another socket")

// SocketRoute adds the socket to e. The gateway has judged the Origin.
func SocketRoute(e *echo.Echo, live *Live) { e.GET("/v1/ws", live.openSocket) }

// openSocket upgrades the request; the socket outlives its handler.
func (l *Live) openSocket(c *echo.Context) error {
	k := newSocket(l, web.Subscriber(c.RealIP()), c.Request().Header.Get(wire.HeaderRequestID))
	if err := l.sockets.enter(k); err != nil {
		return err
	}
	conn, err := wsconn.Accept(c.Response(), c.Request(), wsconn.Options{
		ReadLimit:   frameLimit,
		QueueBytes:  l.limits.QueueBytes,
		PingEvery:   l.limits.PingEvery,
		Subprotocol: wire.SocketProtocol,
	})
	if err != nil {
		l.sockets.leave(k, wire.Session{})
		return apperr.E("chat.openSocket", apperr.Invalid, "This address speaks WebSocket.", err, apperr.Code("upgrade_required"))
	}
	k.begin(conn)
	if l.sockets.isStopping() {
		conn.Close(wsconn.GoingAway)
	}
	return nil
}
