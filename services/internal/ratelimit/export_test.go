package ratelimit

// LocalBuckets is how many buckets this process keeps.
func (l *Limiter) LocalBuckets() int {
	l.local.mu.Lock()
	defer l.local.mu.Unlock()
	return len(l.local.full)
}
