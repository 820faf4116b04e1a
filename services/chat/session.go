package chat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// Sessions tells whether a session lives: it fails with Unauthenticated where it was ended, with Unavailable where nobody can say.
type Sessions func(ctx context.Context, id wire.SessionID) error

// codeSessionEnded tells a client that only logging in again helps.
const codeSessionEnded = "session_ended"

var errSessionEnded = errors.New("auth knows no such live session")

// NewSessions asks the auth service at a URL, which knows the truth.
func NewSessions(auth *url.URL, asking *http.Client) Sessions {
	const op = "chat.checkSession"
	return func(ctx context.Context, id wire.SessionID) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, auth.JoinPath(wire.PathSession, string(id)).String(), nil)
		if err != nil {
			return unavailable(op, err)
		}
		response, err := asking.Do(request)
		if err != nil {
			return unavailable(op, err)
		}
		_ = response.Body.Close() // the status is the answer
		switch response.StatusCode {
		case http.StatusNoContent:
			return nil
		case http.StatusNotFound:
			return apperr.E(op, apperr.Unauthenticated, "This session was ended. Log in again.", errSessionEnded, apperr.Code(codeSessionEnded))
		default:
			return unavailable(op, fmt.Errorf("auth answered %s", response.Status))
		}
	}
}
