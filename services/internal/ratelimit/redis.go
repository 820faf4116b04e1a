package ratelimit

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// takeScript keeps, per bucket, the moment in microseconds at which it will be full again; an absent key is full.
// It reads Redis's own clock, so hosts' clocks do not matter. ARGV: burst, every, burst, every, …
var takeScript = redis.NewScript(`
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local wait = 0
local full = {}
for i, key in ipairs(KEYS) do
  local burst, every = tonumber(ARGV[2*i-1]), tonumber(ARGV[2*i])
  full[i] = math.max(tonumber(redis.call('GET', key) or '0'), now) + every
  wait = math.max(wait, full[i] - now - burst * every)
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', full[i]), 'PX', math.ceil((full[i] - now) / 1000) + 1000)
end
return 0`)

var refundScript = redis.NewScript(`
for i, key in ipairs(KEYS) do
  local full = redis.call('GET', key)
  if full then redis.call('SET', key, string.format('%.0f', tonumber(full) - tonumber(ARGV[2*i])), 'KEEPTTL') end
end
return 0`)

func (l *Limiter) takeShared(ctx context.Context, buckets []Bucket) (time.Duration, error) {
	keys, arguments := scriptInput(buckets)
	wait, err := takeScript.Run(ctx, l.redis, keys, arguments...).Int64()
	return time.Duration(wait) * time.Microsecond, err
}

func (l *Limiter) refundShared(ctx context.Context, buckets []Bucket) error {
	keys, arguments := scriptInput(buckets)
	return refundScript.Run(ctx, l.redis, keys, arguments...).Err()
}

func scriptInput(buckets []Bucket) (keys []string, arguments []any) {
	for _, bucket := range buckets {
		keys = append(keys, "limit:"+bucket.Key)
		arguments = append(arguments, bucket.Rule.Burst, bucket.Rule.Every.Microseconds())
	}
	return keys, arguments
}
