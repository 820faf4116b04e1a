package testkit

import (
	"sync"
	"time"
)

// Clock is the time as a test sets it. It may be read and set by several goroutines.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock stands at the time it is made.
func NewClock() *Clock { return &Clock{now: time.Now()} }

// Now is what a service under test takes for the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
