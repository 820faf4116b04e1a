package images

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Progress takes one line for the operator; it is called by one goroutine at a time.
type Progress = func(line string)

// heartbeat is how often a long step says that it is still at work.
const heartbeat = 30 * time.Second

// steps prints what several goroutines do as whole lines.
type steps struct {
	mu  sync.Mutex
	say Progress
	now func() time.Time
}

func newSteps(progress Progress) *steps {
	return &steps{say: progress, now: time.Now}
}

func (s *steps) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say(fmt.Sprintf(format, args...))
}

// do runs work and says when it begins, that it goes on, and how long it took. A failure is the
// caller's to tell.
func (s *steps) do(ctx context.Context, what string, work func() error) error {
	began := s.now()
	s.line("%s …", what)
	stop := s.beat(ctx, what, began)
	err := work()
	stop()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.line("%s: done in %s", what, elapsed(s.now().Sub(began)))
	return nil
}

// beat returns the function that ends it, and that has waited for it when it returns.
func (s *steps) beat(ctx context.Context, what string, began time.Time) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.line("%s: still at it after %s", what, elapsed(s.now().Sub(began)))
			}
		}
	}()
	return func() { cancel(); <-done }
}

func elapsed(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
