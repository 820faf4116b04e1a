package web

import (
	"context"
	"strings"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const callerKey = "web.caller"

// Authenticator tells whose session an access token is, or fails with Unauthenticated (or Unavailable).
type Authenticator func(ctx context.Context, accessToken string) (wire.Session, error)

// Authenticate demands a good access token; handlers behind it find the session with Caller.
func Authenticate(authenticate Authenticator) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			session, err := authenticate(c.Request().Context(), BearerToken(c))
			if err != nil {
				return err
			}
			c.Set(callerKey, session)
			return next(c)
		}
	}
}

// BearerToken is the access token of the request, or "". A token in a URL is never looked at.
func BearerToken(c *echo.Context) string {
	scheme, credentials, found := strings.Cut(c.Request().Header.Get("Authorization"), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(credentials)
}

// Caller is the authenticated session. It fails with Unauthenticated where Authenticate did not run.
func Caller(c *echo.Context) (wire.Session, error) {
	if session, known := callerOf(c); known {
		return session, nil
	}
	return wire.Session{}, apperr.E("web.Caller", apperr.Unauthenticated, "Log in first.", nil)
}

func callerOf(c *echo.Context) (wire.Session, bool) {
	session, known := c.Get(callerKey).(wire.Session)
	return session, known
}
