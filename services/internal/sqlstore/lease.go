package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	leaseName = "migrate"
	leaseTime = 30 * time.Second
)

// The store's clock decides, so that hosts need not agree on the time.
const (
	sqlTakeLease = `INSERT INTO schema_lease (name, holder, expires_at)
VALUES ($1, $2, now() + $3 * INTERVAL '1 second')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE schema_lease.expires_at < now() OR schema_lease.holder = excluded.holder`
	sqlDropLease = `DELETE FROM schema_lease WHERE name = $1 AND holder = $2`
)

var errLeaseLost = errors.New("another process took the migration lease over")

// lease is the right to migrate, held by one process at a time.
type lease struct {
	store  *Store
	holder string
	lasts  time.Duration
}

// take waits for the lease and keeps it until release. The context it gives ends when the lease is lost.
func (l *lease) take(ctx context.Context) (held context.Context, release func(), err error) {
	for {
		taken, err := l.renew(ctx)
		if err != nil {
			return nil, nil, err
		}
		if taken {
			break
		}
		if err := sleep(ctx, min(l.lasts/4, time.Second)); err != nil {
			return nil, nil, fmt.Errorf("wait for the process that holds it: %w", err)
		}
	}
	held, cancel := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { l.keep(held, cancel) })
	return held, func() {
		cancel(nil)
		keeping.Wait()
		l.drop(ctx)
	}, nil
}

// keep renews the lease well before it runs out, until held ends.
func (l *lease) keep(held context.Context, lost context.CancelCauseFunc) {
	ticker := time.NewTicker(l.lasts / 4)
	defer ticker.Stop()
	for {
		select {
		case <-held.Done():
			return
		case <-ticker.C:
			taken, err := l.renew(held)
			if err != nil || !taken {
				lost(errors.Join(errLeaseLost, err))
				return
			}
		}
	}
}

func (l *lease) renew(ctx context.Context) (taken bool, err error) {
	err = l.store.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlTakeLease, leaseName, l.holder, l.lasts.Seconds())
		if err != nil {
			return fmt.Errorf("renew lease: %w", err)
		}
		taken = tag.RowsAffected() == 1
		return nil
	})
	return taken, err
}

// drop lets the next one start at once; if it fails, the lease runs out by itself.
func (l *lease) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = l.store.Exec(ctx, sqlDropLease, leaseName, l.holder)
}
