// Package session tells whose a request or a socket is: it judges access tokens, asks auth whether a session lives, and says how a socket
// ends for which that is not so. It keeps nothing.
package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// Verifier tells whose an access token is: token.Remote, which has auth's keys.
type Verifier interface {
	Verify(ctx context.Context, raw string, now time.Time) (wire.Session, error)
}

// Of gives the session of an access token. Whether that session was ended since is Check's to say.
// It fails with Unauthenticated or Unavailable.
func Of(ctx context.Context, verifier Verifier, accessToken string, now time.Time) (wire.Session, error) {
	const op = "session.Of"
	if accessToken == "" {
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "Log in first.", nil, apperr.Code("token_missing"))
	}
	session, err := verifier.Verify(ctx, accessToken, now)
	switch {
	case errors.Is(err, token.ErrNoKeys):
		return wire.Session{}, apperr.OrUnavailable(op, err)
	case errors.Is(err, token.ErrExpired):
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "The access token has expired.", err, apperr.Code("token_expired"))
	case err != nil:
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "The access token is not valid.", err, apperr.Code("token_invalid"))
	default:
		return session, nil
	}
}

// Check tells whether a session lives: it fails with Unauthenticated where it was ended, with Unavailable where nobody can say.
type Check func(ctx context.Context, id wire.SessionID) error

// CodeEnded tells a client that only logging in again helps.
const CodeEnded = "session_ended"

// Ended is what who comes with a session is told that was ended.
func Ended(op string) error {
	return apperr.E(op, apperr.Unauthenticated, "This session was ended. Log in again.", nil, apperr.Code(CodeEnded))
}

// NewCheck asks the auth service at a URL, which knows the truth.
func NewCheck(auth *url.URL, asking *http.Client) Check {
	const op = "session.Check"
	return func(ctx context.Context, id wire.SessionID) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, auth.JoinPath(wire.PathSession, string(id)).String(), nil)
		if err != nil {
			return apperr.OrUnavailable(op, err)
		}
		response, err := asking.Do(request)
		if err != nil {
			return apperr.OrUnavailable(op, err)
		}
		_ = response.Body.Close() // the status is the answer
		switch response.StatusCode {
		case http.StatusNoContent:
			return nil
		case http.StatusNotFound:
			return Ended(op)
		default:
			return apperr.OrUnavailable(op, fmt.Errorf("auth answered %s", response.Status))
		}
	}
}

// CloseCode is how a socket ends that met err.
func CloseCode(err error) wsconn.Code {
	switch apperr.KindOf(err) {
	case apperr.Unauthenticated, apperr.Forbidden, apperr.NotFound:
		if apperr.CodeOf(err) == CodeEnded {
			return wsconn.Revoked
		}
		return wsconn.Unauthenticated
	case apperr.Invalid, apperr.TooLarge, apperr.Conflict:
		return wsconn.BadFrame
	case apperr.TooMany:
		return wsconn.TooMany
	default:
		return wsconn.Unavailable
	}
}
