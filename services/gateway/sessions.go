package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// sessions asks auth, which knows the truth.
type sessions struct {
	auth   *url.URL
	asking *http.Client
}

func newSessions(auth *url.URL, asking *http.Client) *sessions {
	return &sessions{auth: auth, asking: asking}
}

// codeSessionEnded tells a client that only logging in again helps.
const codeSessionEnded = "session_ended"

var errSessionEnded = errors.New("auth knows no such live session")

// check fails with Unauthenticated where the session was ended, and with Unavailable where nobody can say.
func (s *sessions) check(ctx context.Context, id wire.SessionID) error {
	target := s.auth.JoinPath(wire.PathSession, string(id)).String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return unavailable("gateway.checkSession", err)
	}
	response, err := s.asking.Do(request)
	if err != nil {
		return unavailable("gateway.checkSession", err)
	}
	_ = response.Body.Close() // the status is the answer
	switch response.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return sessionEnded(errSessionEnded)
	default:
		return unavailable("gateway.checkSession", fmt.Errorf("auth answered %s", response.Status))
	}
}

func sessionEnded(cause error) error {
	return apperr.E("gateway.checkSession", apperr.Unauthenticated, "This session was ended. Log in again.", cause, apperr.Code(codeSessionEnded))
}
