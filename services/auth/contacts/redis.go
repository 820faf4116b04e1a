package contacts

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

// hints tell other services at once that a relation has changed. Nothing rests on them: SQL is the truth. So a failure
// is a log line.
type hints struct {
	log   *slog.Logger
	redis *redis.Client
}

// changed announces each side whose owner sees it changed, and no other: what the owner cannot see, such as being
// blocked, must not show in a socket's stir either.
func (h *hints) changed(ctx context.Context, c change) {
	var changed []wire.RelationHint
	if c.was.mine.shown() != c.is.mine.shown() {
		changed = append(changed, wire.RelationHint{User: c.me, Other: c.other})
	}
	if c.was.theirs.shown() != c.is.theirs.shown() {
		changed = append(changed, wire.RelationHint{User: c.other, Other: c.me})
	}
	h.publish(ctx, changed)
}

func (h *hints) publish(ctx context.Context, changed []wire.RelationHint) {
	if h.redis == nil || len(changed) == 0 {
		return
	}
	// Whoever asked may hang up; those concerned should hear of it still.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := h.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, hint := range changed {
			pipe.Publish(ctx, wire.RelationChannel, hint.String())
		}
		return nil
	})
	if err != nil {
		h.log.Warn("change of a relation not announced, it holds all the same", "user_id", changed[0].User, "error", err)
	}
}
