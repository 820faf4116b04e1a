package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

// revokedKept outlives every access token of a revoked session.
const revokedKept = 15 * time.Minute

// hints tell the other services at once that sessions have ended. Nothing rests on them: SQL is the truth, access
// tokens end by themselves and sockets are checked. So a failure is a log line.
type hints struct {
	log   *slog.Logger
	redis *redis.Client
}

func (h *hints) revoked(ctx context.Context, sessions ...wire.SessionID) {
	if h.redis == nil || len(sessions) == 0 {
		return
	}
	// Whoever asked may hang up; those concerned should hear of it still.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := h.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, id := range sessions {
			pipe.Set(ctx, wire.RevokedPrefix+string(id), 1, revokedKept)
			pipe.Publish(ctx, wire.RevokedChannel, string(id))
		}
		return nil
	})
	if err != nil {
		h.log.Warn("revocation not announced, it holds all the same", "sessions", len(sessions), "error", err)
	}
}
