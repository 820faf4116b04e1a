package auth

import (
	"context"
	"errors"
	"time"

	"secureconnect/services/internal/apperr"
)

const sweepEvery = time.Minute

// Sweep removes expired accounts and old tokens until ctx ends. Several hosts may do it: each removal happens once.
func (s *Service) Sweep(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.sweepOnce(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("not swept, next time then", "error", err)
			}
		}
	}
}

func (s *Service) sweepOnce(ctx context.Context) error {
	gone, err := s.store.removeExpired(ctx, "expiry", s.now())
	s.hints.revoked(ctx, gone...)
	if apperr.Is(err, apperr.NotFound) {
		err = nil // another host was quicker
	}
	return errors.Join(err, s.store.sweep(ctx, s.now()))
}
