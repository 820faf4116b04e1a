package video

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/sweep"
)

const (
	ringSweep   = time.Second
	orphanSweep = 5 * time.Second
	logSweep    = 10 * time.Second
	forgetSweep = 10 * time.Minute

	sweepLimit = 200
)

// Sweep does what time does to calls until ctx ends: they cease to ring, end where nobody is, are logged and forgotten. Several hosts may
// do it: each thing is done once.
func (s *Service) Sweep(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []struct {
		every time.Duration
		what  string
		once  func(context.Context) error
	}{
		{ringSweep, "calls that ring", s.sweepRinging},
		{orphanSweep, "calls that nobody is connected to", s.sweepAbandoned},
		{forgetSweep, "calls of before", s.sweepOld},
	} {
		group.Go(func() error { return sweep.Every(ctx, s.log, part.every, part.what, part.once) })
	}
	group.Go(func() error { return s.keepLogging(ctx) })
	return group.Wait()
}

func (s *Service) sweepRinging(ctx context.Context) error {
	return s.changeWhere(ctx, (*stored).ceaseRinging, "ring too long", sqlRingingTooLong, ringTime.Seconds(), sweepLimit)
}

func (s *Service) sweepAbandoned(ctx context.Context) error {
	if err := s.store.markOrphans(ctx); err != nil {
		return err
	}
	return s.changeWhere(ctx, (*stored).abandon, "nobody is connected to", sqlAbandoned, emptyTime.Seconds(), testTime.Seconds(), sweepLimit)
}

func (s *Service) changeWhere(ctx context.Context, decide func(*stored, time.Time), what, statement string, arguments ...any) error {
	ids, err := s.store.callsWhere(ctx, what, statement, arguments...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		call, changed, err := s.store.change(ctx, id, decide)
		if err != nil {
			return err
		}
		if changed {
			s.changed(ctx, call)
		}
	}
	return nil
}

func (s *Service) sweepOld(ctx context.Context) error {
	for gone := sweepLimit; gone == sweepLimit; {
		var err error
		if gone, err = s.store.forget(ctx, keptTime, sweepLimit); err != nil {
			return err
		}
	}
	return nil
}

// keepLogging logs at once what this host ended, and now and then what another one had no time to log.
func (s *Service) keepLogging(ctx context.Context) error {
	ticker := time.NewTicker(logSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.unlogged:
		case <-ticker.C:
		}
		if err := s.logEnded(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("calls not logged, next time then", "op", "video.log", "error", err)
		}
	}
}
