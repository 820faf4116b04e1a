package keys

import (
	"context"
	"errors"
	"time"

	"secureconnect/services/internal/sweep"
)

const sweepEvery = 10 * time.Minute

// Sweep removes events and notes that have had their time, and devices whose sessions have run out, until ctx ends.
// Several hosts may do it: each removal happens once.
func (s *Service) Sweep(ctx context.Context) error {
	return sweep.Every(ctx, s.log, sweepEvery, "keys", s.sweepOnce)
}

func (s *Service) sweepOnce(ctx context.Context) error {
	users, err := s.store.sweepDevices(ctx, s.now())
	s.changed(ctx, users...)
	return errors.Join(err, s.store.sweepEvents(ctx, s.now()), s.store.sweepNotes(ctx, s.now()))
}
