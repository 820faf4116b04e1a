package video

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// maxCallers bounds chat's answer: a thousand ids, or a problem.
const maxCallers = 64 << 10

// NewCallers asks the chat service at a URL.
func NewCallers(chat *url.URL, asking *http.Client) Callers {
	const op = "video.Callers"
	return func(ctx context.Context, id wire.ConversationID, user wire.UserID) (wire.Callers, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, chat.JoinPath(wire.PathCallers, string(id), string(user)).String(), nil)
		if err != nil {
			return wire.Callers{}, apperr.OrUnavailable(op, err)
		}
		response, err := asking.Do(request)
		if err != nil {
			return wire.Callers{}, apperr.OrUnavailable(op, err)
		}
		defer func() { _ = response.Body.Close() }() // read to its end or given up
		content, err := io.ReadAll(io.LimitReader(response.Body, maxCallers))
		if err != nil {
			return wire.Callers{}, apperr.OrUnavailable(op, err)
		}
		return callersIn(op, response.StatusCode, content)
	}
}

// callersIn reads chat's answer. What it refuses, we refuse in its words.
func callersIn(op string, status int, content []byte) (callers wire.Callers, err error) {
	kinds := map[int]apperr.Kind{http.StatusNotFound: apperr.NotFound, http.StatusForbidden: apperr.Forbidden}
	if kind, refused := kinds[status]; refused {
		var problem wire.Problem
		if err := json.Unmarshal(content, &problem); err == nil && problem.Code != "" {
			return wire.Callers{}, apperr.E(op, kind, problem.Detail, nil, apperr.Code(problem.Code))
		}
	}
	if status != http.StatusOK {
		return wire.Callers{}, apperr.OrUnavailable(op, fmt.Errorf("chat answered %d", status))
	}
	if err := json.Unmarshal(content, &callers); err != nil {
		return wire.Callers{}, apperr.OrUnavailable(op, fmt.Errorf("read chat's answer: %w", err))
	}
	return callers, nil
}
