package auth

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// refreshCookie keeps a browser's refresh token where its scripts cannot read it. It is looked at only together with
// a header that a foreign site cannot send without asking, so SameSite is not alone.
type refreshCookie struct {
	name   string
	secure bool
}

func newRefreshCookie(secure bool) refreshCookie {
	if !secure {
		return refreshCookie{name: "refresh"} // __Host- demands Secure (RFC 6265bis §4.1.3.2)
	}
	return refreshCookie{name: "__Host-refresh", secure: true}
}

func fromWeb(c *echo.Context) bool {
	return c.Request().Header.Get(wire.HeaderClient) == wire.ClientWeb
}

func (r refreshCookie) read(c *echo.Context) config.Secret {
	cookie, err := c.Cookie(r.name)
	if err != nil {
		return config.Secret{} // there is none
	}
	return config.NewSecret(cookie.Value)
}

func (r refreshCookie) set(c *echo.Context, refresh config.Secret) {
	r.write(c, refresh.Reveal(), int(sessionLifetime.Seconds()))
}

func (r refreshCookie) clear(c *echo.Context) { r.write(c, "", -1) }

func (r refreshCookie) write(c *echo.Context, value string, maxAge int) {
	c.SetCookie(&http.Cookie{ // #nosec G124 -- Secure is off only where edge_tls is, and a browser would drop the cookie
		Name: r.name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: r.secure, SameSite: http.SameSiteStrictMode,
	})
}
