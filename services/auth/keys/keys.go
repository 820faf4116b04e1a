// Package keys is the directory of devices' public keys and the queues between devices: what end-to-end encryption
// needs of a server. Bodies have the shapes of the Matrix client-server specification, "End-to-end encryption" and
// "Send-to-device messaging". It sees public keys and ciphertext only. It refuses what is plainly wrong as a service to
// honest clients, and none of them takes its word for anybody's keys.
package keys

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// Passwords asks for the caller's password once more: Forbidden where it is wrong, TooMany after many tries.
type Passwords interface {
	ConfirmPassword(ctx context.Context, caller wire.Session, password config.Secret) error
}

// Service is the rules of the directory. Each method acts for the caller's own user and device.
type Service struct {
	log       *slog.Logger
	store     *store
	throttle  *throttle
	hints     *hints
	passwords Passwords
	queued    func(context.Context, []wire.UserID)
	now       func() time.Time
	pollEvery time.Duration
}

// Parts are what a Service is made of. Redis, Queued and Now may be nil.
type Parts struct {
	Log       *slog.Logger
	SQL       *sqlstore.Store
	Redis     *redis.Client
	Passwords Passwords
	// Queued is called, after they are committed, with the users for whom something new is to be synced.
	Queued func(context.Context, []wire.UserID)
	Now    func() time.Time
}

// New puts a Service together.
func New(parts Parts) *Service {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	return &Service{
		log:       parts.Log,
		store:     &store{db: parts.SQL},
		throttle:  &throttle{limiter: ratelimit.New(parts.Redis, parts.Now)},
		hints:     newHints(parts.Log, parts.Redis),
		passwords: parts.Passwords,
		queued:    parts.Queued,
		now:       parts.Now,
		pollEvery: pollEvery,
	}
}

// Ready fails while the store cannot answer or its migrations have not run.
func (s *Service) Ready(ctx context.Context) error { return s.store.ready(ctx) }

// Run does what is to be done beside answering requests, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Sweep(running) })
	group.Go(func() error { return s.Listen(running) })
	return group.Wait()
}

// Listen hears hints of other hosts until ctx ends, so that waiting syncs answer at once.
func (s *Service) Listen(ctx context.Context) error { return s.hints.listen(ctx) }

// Stop answers the syncs that wait.
func (s *Service) Stop(context.Context) { s.hints.stop() }

// changed tells those who track users, and the users' own devices.
func (s *Service) changed(ctx context.Context, users ...wire.UserID) {
	if len(users) == 0 {
		return
	}
	concerned, err := s.store.trackers(ctx, users)
	if err != nil {
		s.log.Warn("changed keys not announced, they are seen at the next sync", "error", err)
	}
	s.wake(ctx, append(concerned, users...))
}

func (s *Service) wake(ctx context.Context, users []wire.UserID) {
	if len(users) == 0 {
		return
	}
	s.hints.publish(ctx, users)
	if s.queued != nil {
		s.queued(ctx, users)
	}
}
