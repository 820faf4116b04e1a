package keys

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/wire"
)

const (
	// A waiting sync holds a connection from the gateway, which has 512 for all of auth. Beyond these bounds a sync is
	// answered at once, and its client comes back when it likes.
	maxWaiting     = 256
	maxWaitingUser = 8

	pauseAfterFailure = 2 * time.Second
)

// hints wake syncs that wait, on this host and by Redis on the others. Nothing rests on them: whoever waits also looks
// by itself.
type hints struct {
	log   *slog.Logger
	redis *redis.Client

	stopped chan struct{} // closed when nobody is to wait any more
	stop    func()

	mu      sync.Mutex
	waiting map[wire.UserID]map[chan struct{}]bool
	count   int
}

func newHints(log *slog.Logger, client *redis.Client) *hints {
	stopped := make(chan struct{})
	return &hints{
		log: log, redis: client, stopped: stopped, stop: sync.OnceFunc(func() { close(stopped) }),
		waiting: map[wire.UserID]map[chan struct{}]bool{},
	}
}

func (h *hints) publish(ctx context.Context, users []wire.UserID) {
	h.wake(users...)
	if h.redis == nil {
		return
	}
	// Whoever asked may hang up; those concerned should hear of it still.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, err := h.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, user := range users {
			pipe.Publish(ctx, wire.KeysChannel, string(user))
		}
		return nil
	})
	if err != nil {
		h.log.Warn("news of keys not announced, other hosts find it by themselves", "users", len(users), "error", err)
	}
}

// listen wakes the syncs of this host until ctx ends.
func (h *hints) listen(ctx context.Context) error {
	for h.redis != nil && ctx.Err() == nil {
		if err := h.subscribe(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("hints of keys are away", "op", "keys.listen", "error", err)
		}
		pause(ctx, pauseAfterFailure)
	}
	<-ctx.Done()
	return nil
}

// subscribe reads in a loop of our own: the client's channel drops messages when it is full.
func (h *hints) subscribe(ctx context.Context) error {
	subscription := h.redis.Subscribe(ctx, wire.KeysChannel)
	// ReceiveMessage waits in a read that ctx does not wake; closing does.
	stop := context.AfterFunc(ctx, func() { _ = subscription.Close() })
	defer func() {
		stop()
		_ = subscription.Close() // closed twice is no harm
	}()
	for {
		message, err := subscription.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		h.wake(wire.UserID(message.Payload))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wake never waits: a sync that was woken already looks anyway.
func (h *hints) wake(users ...wire.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, user := range users {
		for woken := range h.waiting[user] {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	}
}

// watch is one sync's wait.
type watch struct {
	hints *hints
	user  wire.UserID
	woken chan struct{} // nil: there is no waiting
	until time.Time
}

// watch registers before the sync first looks, so that nothing comes between. There is none to be had for no time, or
// where too many wait.
func (h *hints) watch(user wire.UserID, wait time.Duration) *watch {
	w := &watch{hints: h, user: user, until: time.Now().Add(wait)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if wait <= 0 || h.count >= maxWaiting || len(h.waiting[user]) >= maxWaitingUser {
		return w
	}
	w.woken = make(chan struct{}, 1)
	if h.waiting[user] == nil {
		h.waiting[user] = map[chan struct{}]bool{}
	}
	h.waiting[user][w.woken] = true
	h.count++
	return w
}

func (w *watch) stop() {
	if w.woken == nil {
		return
	}
	w.hints.mu.Lock()
	defer w.hints.mu.Unlock()
	delete(w.hints.waiting[w.user], w.woken)
	if len(w.hints.waiting[w.user]) == 0 {
		delete(w.hints.waiting, w.user)
	}
	w.hints.count--
}

// next waits until it is time to look again, and reports false when it is time to answer.
func (w *watch) next(ctx context.Context, poll time.Duration) bool {
	left := time.Until(w.until)
	if w.woken == nil || left <= 0 {
		return false
	}
	timer := time.NewTimer(min(left, poll))
	defer timer.Stop()
	select {
	case <-w.woken:
	case <-timer.C:
	case <-w.hints.stopped:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}
