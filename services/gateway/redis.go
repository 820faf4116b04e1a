package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

// revocations are hints that a session was ended: faster than asking auth, and never the last word.
// Without Redis there are none, and services find out from SQL.
type revocations struct {
	redis  *redis.Client
	log    *slog.Logger
	asleep atomic.Int64 // unix nanoseconds until which Redis is left alone
}

// pauseAfterFailure is how long Redis is not asked after it failed: a dead Redis must not slow every request down.
const pauseAfterFailure = 2 * time.Second

func newRevocations(client *redis.Client, log *slog.Logger) *revocations {
	return &revocations{redis: client, log: log}
}

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

// listen hands every session that ends to ended, until ctx does. Hints lost on the way are found by the sockets' own re-check.
func (r *revocations) listen(ctx context.Context, ended func(wire.SessionID)) error {
	for ctx.Err() == nil {
		if err := r.subscribe(ctx, ended); err != nil && ctx.Err() == nil {
			r.log.Warn("revocation hints are away", "op", "gateway.listen", "error", err)
		}
		wait(ctx, pauseAfterFailure)
	}
	return nil
}

// subscribe reads in a loop of our own: the client's channel drops messages when it is full.
func (r *revocations) subscribe(ctx context.Context, ended func(wire.SessionID)) error {
	subscription := r.redis.Subscribe(ctx, wire.RevokedChannel)
	// ReceiveMessage waits in a read that ctx does not wake; closing does.
	stop := context.AfterFunc(ctx, func() { _ = subscription.Close() })
	defer func() {
		stop()
		_ = subscription.Close() // closed twice is no harm
	}()
	for {
		message, err := subscription.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		if id, err := wire.ParseSessionID(message.Payload); err == nil {
			ended(id)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
