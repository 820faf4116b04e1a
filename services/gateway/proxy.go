package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/tunnel"
	"secureconnect/services/internal/wire"
)

// forwardTo passes a request to a service and its answer back, both unchanged but for the headers that are ours.
func (g *Gateway) forwardTo(s service) echo.HandlerFunc {
	return func(c *echo.Context) error {
		if s.upgrades && tunnel.IsUpgrade(c.Request()) {
			return g.tunnelTo(c, s)
		}
		ctx, cancel := context.WithTimeout(c.Request().Context(), g.config.Limits.ServiceTimeout)
		defer cancel()
		return g.forward(ctx, c, s, dropOwnHeaders)
	}
}

// tunnelTo passes a request for a socket to a service, and what is said on the socket for as long as it lives.
func (g *Gateway) tunnelTo(c *echo.Context, s service) error {
	// A socket is opened by GET, and a browser does that for any page, with the visitor's cookies.
	if err := g.checkOrigin(c.Request()); err != nil {
		return err
	}
	t, err := g.tunnels.Enter()
	if err != nil {
		return err
	}
	defer g.tunnels.Leave(t)
	return g.forward(g.tunnels.Watch(c.Request().Context(), t), c, s, func(response *http.Response) error {
		if response.StatusCode == http.StatusSwitchingProtocols {
			if err := g.tunnels.Begin(t, response); err != nil {
				return err
			}
		}
		return dropOwnHeaders(response)
	})
}

func (g *Gateway) forward(ctx context.Context, c *echo.Context, s service, judge func(*http.Response) error) error {
	var failure error
	proxy := httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { rewrite(r, s, clientOf(c).String()) },
		Transport:      g.upstream,
		ModifyResponse: judge,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err },
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
	}
	proxy.ServeHTTP(c.Response(), c.Request().WithContext(ctx))
	return forwardError(s, failure)
}

// rewrite makes the client's address something a service can believe: it is in X-Real-Ip, and nowhere else.
func rewrite(r *httputil.ProxyRequest, s service, client string) {
	r.SetURL(s.url)
	header := r.Out.Header
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		header.Del(name)
	}
	if !s.upgrades || !tunnel.IsUpgrade(r.In) {
		header.Del("Connection")
		header.Del("Upgrade")
	}
	header.Set(wire.HeaderRealIP, client)
}

func forwardError(s service, err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return apperr.E("gateway.forward", apperr.TooLarge, "The request is too large.", err)
	case errors.Is(err, context.Canceled):
		// Nobody reads this answer; the kind keeps it from looking like our failure in the log.
		return apperr.E("gateway.forward", apperr.Invalid, "The client left before the answer.", err, apperr.Code("client_left"))
	default:
		return unavailable("gateway.forward "+s.name, err)
	}
}
