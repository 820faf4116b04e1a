package keys

import (
	"context"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/wire"
)

// Without Redis each host counts for itself: the limits become looser by the number of hosts.
var (
	// ruleClaims is for all claims of one user. A program claims once for each message to devices it has not met.
	ruleClaims = ratelimit.Rule{Burst: 60, Every: 2 * time.Second}

	// rulePair is for one-time keys of one device to one user: that user's devices need one each, once. A hundred keys
	// last an hour and a half against it, and their owner makes more meanwhile.
	rulePair = ratelimit.Rule{Burst: 12, Every: time.Minute}

	// ruleSend is for to-device requests of one user.
	ruleSend = ratelimit.Rule{Burst: 240, Every: 250 * time.Millisecond}
)

type throttle struct {
	limiter *ratelimit.Limiter
}

func (t *throttle) claim(ctx context.Context, caller wire.UserID) error {
	return t.take(ctx, ratelimit.Bucket{Key: "keys:claim:" + string(caller), Rule: ruleClaims})
}

func (t *throttle) send(ctx context.Context, caller wire.UserID) error {
	return t.take(ctx, ratelimit.Bucket{Key: "keys:send:" + string(caller), Rule: ruleSend})
}

func (t *throttle) take(ctx context.Context, bucket ratelimit.Bucket) error {
	verdict := t.limiter.Take(ctx, bucket)
	if verdict.Allowed {
		return nil
	}
	return apperr.E("keys.throttle", apperr.TooMany, "Too many requests. Wait a moment.", nil, apperr.RetryAfter(max(verdict.Wait, time.Second)))
}

// oneTime are those of asked that still give the caller one-time keys.
func (t *throttle) oneTime(ctx context.Context, caller wire.UserID, asked []place) (allowed []place) {
	buckets := make([]ratelimit.Bucket, 0, len(asked))
	for _, p := range asked {
		key := "keys:pair:" + string(caller) + ":" + string(p.user) + ":" + string(p.device)
		buckets = append(buckets, ratelimit.Bucket{Key: key, Rule: rulePair})
	}
	if len(asked) == 0 || t.limiter.Take(ctx, buckets...).Allowed {
		return asked // nearly always, and in one question
	}
	for i, bucket := range buckets {
		if t.limiter.Take(ctx, bucket).Allowed {
			allowed = append(allowed, asked[i])
		}
	}
	return allowed
}
