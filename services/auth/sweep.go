package auth

import (
	"context"
	"errors"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/sweep"
)

const sweepEvery = time.Minute

// Sweep removes expired accounts and old tokens until ctx ends. Several hosts may do it: each removal happens once.
func (s *Service) Sweep(ctx context.Context) error {
	return sweep.Every(ctx, s.log, sweepEvery, "accounts", s.sweepOnce)
}

func (s *Service) sweepOnce(ctx context.Context) error {
	gone, err := s.store.removeExpired(ctx, "expiry", s.now())
	s.hints.revoked(ctx, gone...)
	if apperr.Is(err, apperr.NotFound) {
		err = nil // another host was quicker
	}
	return errors.Join(err, s.store.sweep(ctx, s.now()))
}
