package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

// revocations are hints that a session was ended: faster than asking auth, and never the last word.
// Without Redis there are none, and services find out from SQL.
type revocations struct {
	redis  *redis.Client
	asleep atomic.Int64 // unix nanoseconds until which Redis is left alone
}

// pauseAfterFailure is how long Redis is not asked after it failed: a dead Redis must not slow every request down.
const pauseAfterFailure = 2 * time.Second

func newRevocations(client *redis.Client) *revocations { return &revocations{redis: client} }

// has reports whether the session is known to have been ended.
func (r *revocations) has(ctx context.Context, id wire.SessionID) bool {
	now := time.Now()
	if now.UnixNano() < r.asleep.Load() {
		return false
	}
	found, err := r.redis.Exists(ctx, wire.RevokedPrefix+string(id)).Result()
	if err != nil && !errors.Is(err, context.Canceled) {
		r.asleep.Store(now.Add(pauseAfterFailure).UnixNano())
	}
	return found > 0
}
