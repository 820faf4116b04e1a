package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// admit counts the request, then refuses a token that is not good. It demands none: services do.
// A bad token is counted like no token, so guessing is bounded as tightly as logging in.
func (g *Gateway) admit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		ctx := c.Request().Context()
		session, identified, err := g.caller(c)
		if verdict := g.limits.Take(ctx, g.buckets(c, session, identified)...); !verdict.Allowed {
			return apperr.Overrun("gateway.admit", verdict.Wait)
		}
		if err != nil {
			return err
		}
		return next(c)
	}
}

// caller is the session of the request's token, when it has one and it is good.
func (g *Gateway) caller(c *echo.Context) (wire.Session, bool, error) {
	if c.Request().Header.Get("Authorization") == "" {
		return wire.Session{}, false, nil
	}
	session, err := g.identify(c.Request().Context(), web.BearerToken(c))
	return session, err == nil, err
}

// identify fails with Unauthenticated for a token that is bad, expired or of a session known to have ended.
func (g *Gateway) identify(ctx context.Context, accessToken string) (wire.Session, error) {
	found, err := session.Of(ctx, g.keys, accessToken, time.Now())
	if err == nil && g.revoked.has(ctx, found.SessionID) {
		return wire.Session{}, session.Ended("gateway.identify")
	}
	return found, err
}

func (g *Gateway) buckets(c *echo.Context, session wire.Session, identified bool) []ratelimit.Bucket {
	subscriber := web.Subscriber(clientOf(c).String())
	buckets := []ratelimit.Bucket{{Key: "gateway:address:" + subscriber, Rule: g.config.Limits.Address}}
	switch {
	case identified:
		return append(buckets, ratelimit.Bucket{Key: "gateway:session:" + string(session.SessionID), Rule: g.config.Limits.Session})
	case c.Request().Method != http.MethodGet && c.Request().Method != http.MethodHead, c.Request().Header.Get("Authorization") != "":
		return append(buckets, ratelimit.Bucket{Key: "gateway:anonymous:" + subscriber, Rule: g.config.Limits.Anonymous})
	default:
		return buckets
	}
}

func unavailable(op string, cause error) error {
	return apperr.E(op, apperr.Unavailable, "The service is not available right now. Try again in a moment.", cause, apperr.RetryAfter(2*time.Second))
}
