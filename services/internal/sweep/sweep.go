// Package sweep does a service's housekeeping now and then.
package sweep

import (
	"context"
	"log/slog"
	"time"
)

// Every calls once after each interval until ctx ends. A failure is logged as one of what is swept, and the next turn tries again.
func Every(ctx context.Context, log *slog.Logger, interval time.Duration, what string, once func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if ctx.Err() != nil { // select takes either of two that are ready
				return nil
			}
			if err := once(ctx); err != nil && ctx.Err() == nil {
				log.Warn("not swept, next time then", "what", what, "error", err)
			}
		}
	}
}
