package gateway

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/wire"
)

// service is where requests under some prefixes go. This is all the gateway knows of the public interface.
type service struct {
	name     string
	url      *url.URL
	prefixes []string
	upgrades bool // it has sockets
}

func (c Config) services() []service {
	return []service{
		{name: "auth", url: c.Auth, prefixes: []string{"/v1/auth", "/v1/users", "/v1/contacts", "/v1/keys"}},
		{name: "chat", url: c.Chat, prefixes: []string{"/v1/conversations", "/v1/ws"}, upgrades: true},
		{name: "video", url: c.Video, prefixes: []string{"/v1/calls"}, upgrades: true},
	}
}

// route lays the way of a request: bounded, identified, then to its service.
func (g *Gateway) route() {
	e := g.server.Echo
	e.Pre(g.forgetForgedHeaders, g.answerHeaders)
	e.Use(refuseOddPaths, g.refuseForeignSites, g.admit, g.servePages)
	e.GET(documentPath, serveDocument)
	for _, s := range g.config.services() {
		forward := g.forwardTo(s)
		for _, prefix := range s.prefixes {
			e.Any(prefix, forward)
			e.Any(prefix+"/*", forward)
		}
	}
}

// Endpoints are the gateway's own, as "GET /path"; the rest of the public interface belongs to the services behind it.
func (g *Gateway) Endpoints() []string {
	endpoints := []string{http.MethodGet + " " + loginPath}
	for _, route := range g.server.Echo.Router().Routes() {
		if route.Method != echo.RouteAny {
			endpoints = append(endpoints, route.Method+" "+route.Path)
		}
	}
	return endpoints
}

// clientOf is the address the request came from, as the floor established it.
func clientOf(c *echo.Context) netip.Addr {
	address, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return address
}

// forgetForgedHeaders drops what only the load balancer may say. The floor judges X-Real-Ip by itself.
func (g *Gateway) forgetForgedHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		if !g.fromProxy(c.Request().RemoteAddr) {
			c.Request().Header.Del(wire.HeaderRequestID)
		}
		return next(c)
	}
}

func (g *Gateway) fromProxy(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, proxy := range g.config.Web.Proxies {
		if proxy.Contains(peer.Addr().Unmap()) {
			return true
		}
	}
	return false
}
