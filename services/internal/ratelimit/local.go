package ratelimit

import (
	"sync"
	"time"
)

// maxLocal bounds the memory a flood of keys can take, to some 10 MiB. When it is reached, buckets that are full
// again are dropped; if none is, all are: better to forget once than to refuse everybody or grow for ever.
const maxLocal = 50_000

// local keeps the same buckets as Redis does: the moment at which each will be full again.
type local struct {
	mu   sync.Mutex
	full map[string]time.Time
}

func newLocal() *local { return &local{full: map[string]time.Time{}} }

func (l *local) take(now time.Time, buckets []Bucket) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var wait time.Duration
	for _, bucket := range buckets {
		room := time.Duration(bucket.Rule.Burst) * bucket.Rule.Every
		wait = max(wait, l.nextLocked(now, bucket).Sub(now)-room)
	}
	if wait > 0 {
		return wait
	}
	for _, bucket := range buckets {
		l.full[bucket.Key] = l.nextLocked(now, bucket)
	}
	l.boundLocked(now)
	return 0
}

// nextLocked is when bucket would be full again with one token less.
func (l *local) nextLocked(now time.Time, bucket Bucket) time.Time {
	full := l.full[bucket.Key]
	if full.Before(now) {
		full = now
	}
	return full.Add(bucket.Rule.Every)
}

func (l *local) refund(buckets []Bucket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, bucket := range buckets {
		if full, known := l.full[bucket.Key]; known {
			l.full[bucket.Key] = full.Add(-bucket.Rule.Every)
		}
	}
}

func (l *local) boundLocked(now time.Time) {
	if len(l.full) < maxLocal {
		return
	}
	for key, full := range l.full {
		if full.Before(now) {
			delete(l.full, key)
		}
	}
	if len(l.full) >= maxLocal {
		clear(l.full)
	}
}
