package ratelimit

import "time"

// Own is a bucket that only its holder takes from, and that costs nothing meanwhile: the moment at which it will be full again. It is not
// safe for concurrent use.
type Own struct{ full time.Time }

// Take gives 0, or how long to wait.
func (o *Own) Take(now time.Time, rule Rule) time.Duration {
	full := o.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(rule.Every)
	if wait := full.Sub(now) - time.Duration(rule.Burst)*rule.Every; wait > 0 {
		return wait
	}
	o.full = full
	return 0
}
