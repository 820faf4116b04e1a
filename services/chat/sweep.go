package chat

import (
	"context"
	"time"
)

const (
	sweepEvery = 10 * time.Minute
	sweepLimit = 1000
)

// Sweep forgets old records until ctx ends. Several hosts may do it: each is forgotten once.
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
