package ratelimit_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/testkit"
)

// Slow enough to fill nothing during a test.
var slow = ratelimit.Rule{Burst: 3, Every: time.Hour}

func bucket(key string) ratelimit.Bucket { return ratelimit.Bucket{Key: key, Rule: slow} }

func TestLimiter(t *testing.T) {
	for where, limiter := range map[string]*ratelimit.Limiter{
		"shared": ratelimit.New(testkit.Redis(t), time.Now),
		"local":  ratelimit.New(nil, time.Now),
	} {
		ctx := t.Context()
		t.Run(where+"/burst_then_wait", func(t *testing.T) {
			for range slow.Burst {
				if !limiter.Take(ctx, bucket("a")).Allowed {
					t.Fatal("refused within the burst")
				}
			}
			refused := limiter.Take(ctx, bucket("a"))
			if refused.Allowed || refused.Wait <= 0 || refused.Wait > slow.Every {
				t.Errorf("got %+v", refused)
			}
			if !limiter.Take(ctx, bucket("b")).Allowed {
				t.Error("another key is refused too")
			}
		})
		t.Run(where+"/refund_gives_back", func(t *testing.T) {
			for range 10 * slow.Burst {
				if !limiter.Take(ctx, bucket("c")).Allowed {
					t.Fatal("refused although all was given back")
				}
				limiter.Refund(ctx, bucket("c"))
			}
		})
		t.Run(where+"/all_buckets_or_none", func(t *testing.T) {
			for range slow.Burst {
				limiter.Take(ctx, bucket("empty"))
			}
			for range 10 {
				if limiter.Take(ctx, bucket("other"), bucket("empty")).Allowed {
					t.Fatal("allowed with an empty bucket")
				}
			}
			if !limiter.Take(ctx, bucket("other")).Allowed {
				t.Error("refused attempts emptied the other bucket")
			}
		})
		t.Run(where+"/it_fills_again", func(t *testing.T) {
			quick := ratelimit.Bucket{Key: "quick", Rule: ratelimit.Rule{Burst: 1, Every: 50 * time.Millisecond}}
			limiter.Take(ctx, quick)
			testkit.Eventually(t, 5*time.Second, "a token", func() bool { return limiter.Take(ctx, quick).Allowed })
		})
		t.Run(where+"/many_at_once_get_no_more", func(t *testing.T) {
			var allowed atomic.Int64
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if limiter.Take(ctx, bucket("rush")).Allowed {
						allowed.Add(1)
					}
				})
			}
			all.Wait()
			if allowed.Load() != int64(slow.Burst) {
				t.Errorf("%d were allowed, want %d", allowed.Load(), slow.Burst)
			}
		})
	}
}

func TestLimiterWithoutRedisStillLimits(t *testing.T) {
	settings := testkit.RedisConfig(t)
	line := testkit.NewLine(t, settings.Address)
	settings.Address = line.Address()
	client := redisstore.Open(settings)
	t.Cleanup(func() { _ = client.Close() })
	limiter := ratelimit.New(client, time.Now)

	limiter.Take(t.Context(), bucket("a"))
	line.Cut()
	start := time.Now()
	allowed := 0
	for range 100 {
		if limiter.Take(t.Context(), bucket("a")).Allowed {
			allowed++
		}
	}
	if allowed != slow.Burst {
		t.Errorf("%d allowed without Redis, want %d", allowed, slow.Burst)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a dead Redis held 100 requests up for %s", took)
	}
}

func TestLocalBucketsAreBounded(t *testing.T) {
	limiter := ratelimit.New(nil, time.Now)
	for i := range 120_000 {
		if !limiter.Take(t.Context(), bucket(strconv.Itoa(i))).Allowed {
			t.Fatal("a new key is refused")
		}
	}
	if n := limiter.LocalBuckets(); n > 50_000 {
		t.Errorf("%d buckets are kept", n)
	}
}
