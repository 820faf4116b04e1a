package gateway

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// answersOnly are the gateway's own headers: what a service says in their place is not passed on.
// HSTS is the load balancer's to say, which alone knows the certificate.
var answersOnly = map[string]string{
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), display-capture=(), geolocation=(), microphone=(), payment=()",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY", // for browsers that do not know frame-ancestors
}

func (g *Gateway) answerHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		header := c.Response().Header()
		for name, value := range answersOnly {
			header.Set(name, value)
		}
		header.Set(wire.HeaderServedBy, g.config.Host)
		return next(c)
	}
}

// dropOwnHeaders leaves in a service's answer only what is the service's to say.
func dropOwnHeaders(response *http.Response) error {
	for name := range answersOnly {
		response.Header.Del(name)
	}
	for _, name := range []string{wire.HeaderServedBy, wire.HeaderRequestID, "Server"} {
		response.Header.Del(name)
	}
	if response.Header.Get("Cache-Control") == "" {
		response.Header.Set("Cache-Control", "no-store")
	}
	return nil
}

// refuseForeignSites keeps other sites' pages from changing anything in a visitor's name. Programs send no Origin.
func (g *Gateway) refuseForeignSites(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		switch c.Request().Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			return next(c)
		}
		if err := g.checkOrigin(c.Request()); err != nil {
			return err
		}
		return next(c)
	}
}

func (g *Gateway) checkOrigin(r *http.Request) error {
	for _, origin := range r.Header.Values("Origin") {
		if !g.ownOrigin(origin) {
			return apperr.E("gateway.origin", apperr.Forbidden, "This page may not speak for you here.", nil, apperr.Code("foreign_origin"))
		}
	}
	return nil
}

// ownOrigin reports whether a page of that origin (RFC 6454) is ours. Ports are the load balancer's business.
func (g *Gateway) ownOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	scheme := "https"
	if g.config.EdgeTLS == "off" {
		scheme = "http"
	}
	return u.Scheme == scheme && (u.Hostname() == g.apiName() || u.Hostname() == g.chatName())
}

func (g *Gateway) apiName() string  { return "api." + g.config.PublicDomain }
func (g *Gateway) chatName() string { return "chat." + g.config.PublicDomain }
