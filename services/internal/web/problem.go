package web

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// Status is the HTTP status of a kind.
func Status(kind apperr.Kind) int {
	switch kind {
	case apperr.Invalid:
		return http.StatusBadRequest
	case apperr.Unauthenticated:
		return http.StatusUnauthorized
	case apperr.Forbidden:
		return http.StatusForbidden
	case apperr.NotFound:
		return http.StatusNotFound
	case apperr.Conflict:
		return http.StatusConflict
	case apperr.TooMany:
		return http.StatusTooManyRequests
	case apperr.TooLarge:
		return http.StatusRequestEntityTooLarge
	case apperr.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// ProblemOf is what a client may know of err. Nothing of its cause is in it.
func ProblemOf(err error) wire.Problem {
	status, code, detail := Status(apperr.KindOf(err)), apperr.CodeOf(err), apperr.TextOf(err)
	var coder echo.HTTPStatusCoder
	var known *apperr.Error
	if !errors.As(err, &known) && errors.As(err, &coder) {
		status = coder.StatusCode()
		code, detail = routerCode(status), ""
	}
	return wire.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail,
	}
}

// routerCode names what echo refuses before a handler runs.
func routerCode(status int) string {
	switch status {
	case http.StatusNotFound:
		return "no_such_route"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return apperr.TooLarge.String()
	default:
		if status < http.StatusInternalServerError {
			return apperr.Invalid.String()
		}
		return apperr.Internal.String()
	}
}

// WriteProblem answers with err's problem document.
func WriteProblem(w http.ResponseWriter, err error) {
	problem := ProblemOf(err)
	header := w.Header()
	problem.RequestID = header.Get(wire.HeaderRequestID)
	header.Set("Content-Type", wire.ProblemMediaType)
	header.Set("Cache-Control", "no-store")
	if wait := apperr.RetryAfterOf(err); wait > 0 {
		header.Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
	}
	if problem.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	body, marshalErr := json.Marshal(problem)
	if marshalErr != nil {
		body = []byte("{}")
	}
	w.WriteHeader(problem.Status)
	_, _ = w.Write(body) // the client is gone, or has it
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// errorHandler answers what the middleware did not see, and nothing that is already on its way.
func errorHandler(c *echo.Context, err error) {
	if response, unwrapErr := echo.UnwrapResponse(c.Response()); unwrapErr == nil && response.Committed {
		return
	}
	WriteProblem(c.Response(), err)
}
