package video

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/tunnel"
	"secureconnect/services/internal/wire"
)

// relayTimeout is for the owner of a call to take a connection: on one network it does at once, or it is gone.
const relayTimeout = 700 * time.Millisecond

// headerRelayed says that another app host passes a socket on, which goes no further.
const headerRelayed = "X-Secureconnect-Relayed"

// relayed passes the sockets of calls on to the hosts that own them.
type relayed struct {
	log       *slog.Logger
	tunnels   *tunnel.Set
	transport *http.Transport
}

func newRelayed(log *slog.Logger, tunnels *tunnel.Set) *relayed {
	return &relayed{log: log, tunnels: tunnels, transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: relayTimeout}).DialContext,
		ResponseHeaderTimeout: 3 * time.Second,
		DisableKeepAlives:     true, // each connection becomes a socket
		DisableCompression:    true,
	}}
}

// to passes the request for a socket to the owner of its call, and then what is said on it.
func (r *relayed) to(c *echo.Context, address string) error {
	t, err := r.tunnels.Enter()
	if err != nil {
		return err
	}
	defer r.tunnels.Leave(t)
	var failure error
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: address})
			p.Out.Header.Set(wire.HeaderRealIP, c.RealIP())
			p.Out.Header.Set(headerRelayed, "1")
		},
		Transport: r.transport,
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode != http.StatusSwitchingProtocols {
				return nil
			}
			return r.tunnels.Begin(t, response)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failure = err },
		ErrorLog:     slog.NewLogLogger(r.log.Handler(), slog.LevelWarn),
	}
	proxy.ServeHTTP(c.Response(), c.Request().WithContext(r.tunnels.Watch(c.Request().Context(), t)))
	if failure != nil && context.Cause(c.Request().Context()) == nil {
		return apperr.OrUnavailable("video.relay", failure) // until its lease is over, and another host takes the call
	}
	return nil
}
