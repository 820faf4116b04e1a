// Package ratelimit bounds how often something is done, by token buckets that all hosts share in Redis.
// Without Redis each process counts for itself: limits become looser by the number of hosts, never absent.
package ratelimit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Rule is a bucket's size and how fast it fills: Burst at once, then one every Every.
type Rule struct {
	Burst int
	Every time.Duration
}

// Bucket is one thing that is limited. Key names it among all services: "login:address:192.0.2.7".
type Bucket struct {
	Key  string
	Rule Rule
}

// Verdict is the answer to Take. Wait is how long until asking again may succeed, 0 where it was allowed.
type Verdict struct {
	Allowed bool
	Wait    time.Duration
}

// pauseAfterFailure is how long Redis is not asked after it failed: a dead Redis must not slow every request down.
const pauseAfterFailure = 2 * time.Second

// Limiter is safe for concurrent use.
type Limiter struct {
	redis  *redis.Client
	local  *local
	now    func() time.Time
	asleep atomic.Int64 // unix nanoseconds until which Redis is left alone
}

// New limits with client, or only in this process where client is nil.
func New(client *redis.Client, now func() time.Time) *Limiter {
	return &Limiter{redis: client, local: newLocal(), now: now}
}

// Take removes one token from every bucket, or none from any where one of them is empty.
func (l *Limiter) Take(ctx context.Context, buckets ...Bucket) Verdict {
	if l.reachable() {
		wait, err := l.takeShared(ctx, buckets)
		if err == nil {
			return verdict(wait)
		}
		l.leaveAlone()
	}
	return verdict(l.local.take(l.now(), buckets))
}

// Refund gives back what Take took: the attempt turned out to be a good one.
func (l *Limiter) Refund(ctx context.Context, buckets ...Bucket) {
	l.local.refund(buckets)
	if l.reachable() && l.refundShared(ctx, buckets) != nil {
		l.leaveAlone()
	}
}

func verdict(wait time.Duration) Verdict { return Verdict{Allowed: wait == 0, Wait: wait} }

func (l *Limiter) reachable() bool {
	return l.redis != nil && l.now().UnixNano() >= l.asleep.Load()
}

func (l *Limiter) leaveAlone() { l.asleep.Store(l.now().Add(pauseAfterFailure).UnixNano()) }
