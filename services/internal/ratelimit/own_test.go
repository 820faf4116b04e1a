package ratelimit_test

import (
	"testing"
	"time"

	"secureconnect/services/internal/ratelimit"
)

func TestOwn(t *testing.T) {
	rule := ratelimit.Rule{Burst: 2, Every: time.Second}
	start := time.Unix(1000, 0)
	var own ratelimit.Own
	for i, c := range []struct {
		at   time.Duration
		want time.Duration
	}{
		{0, 0}, {0, 0},
		{0, time.Second}, {500 * time.Millisecond, 500 * time.Millisecond}, // what was refused took nothing
		{time.Second, 0}, {time.Second, time.Second},
		{time.Minute, 0}, {time.Minute, 0}, {time.Minute, time.Second}, // never more than the burst is saved
	} {
		if got := own.Take(start.Add(c.at), rule); got != c.want {
			t.Errorf("take %d after %s: wait %s, want %s", i, c.at, got, c.want)
		}
	}
}
