package chat

import (
	"context"
	"time"

	"secureconnect/services/internal/sweep"
)

const (
	sweepEvery = 10 * time.Minute
	sweepLimit = 1000
)

// Sweep forgets old records until ctx ends. Several hosts may do it: each is forgotten once.
func (s *Service) Sweep(ctx context.Context) error {
	return sweep.Every(ctx, s.log, sweepEvery, "conversations", s.sweepOnce)
}

// sweepOnce goes in small steps, so that nobody waits for it long.
func (s *Service) sweepOnce(ctx context.Context) error {
	for gone := sweepLimit; gone == sweepLimit; {
		var err error
		if gone, err = s.store.forgetRecords(ctx, sweepLimit); err != nil {
			return err
		}
	}
	return nil
}
