package video

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

// hints tell devices that calls have news. They may be lost: who was not told asks after a while.
type hints struct {
	log   *slog.Logger
	redis *redis.Client // nil: nobody is told
}

// hintTime bounds the wait for a Redis that does not answer: a person waits for the call.
const hintTime = 500 * time.Millisecond

func (h *hints) calls(ctx context.Context, users []wire.UserID) {
	if h.redis == nil || len(users) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hintTime)
	defer cancel()
	var payload strings.Builder
	for i, user := range users {
		if i > 0 {
			payload.WriteByte(' ')
		}
		payload.WriteString(string(user))
	}
	if err := h.redis.Publish(ctx, wire.CallsChannel, payload.String()).Err(); err != nil {
		h.log.Warn("devices are not told of a call, they find out by themselves", "op", "video.hint", "error", err)
	}
}
