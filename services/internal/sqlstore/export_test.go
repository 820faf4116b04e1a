package sqlstore

import (
	"context"
	"log/slog"
	"time"

	"secureconnect/services/internal/migration"
)

// What the tests of the lease need from inside: testkit imports this package, so they stand outside.

func (s *Store) MigrateWithLease(ctx context.Context, log *slog.Logger, lasts time.Duration, all ...Migrations) (int, error) {
	return s.migrate(ctx, log, lasts, all)
}

func (s *Store) RenewLease(ctx context.Context, holder string, lasts time.Duration) (bool, error) {
	return (&lease{store: s, holder: holder, lasts: lasts}).renew(ctx)
}

func (s *Store) TakeLease(ctx context.Context, holder string, lasts time.Duration) (context.Context, func(), error) {
	return (&lease{store: s, holder: holder, lasts: lasts}).take(ctx)
}

func (m Migrations) Check() error {
	_, err := migration.Pending(m.Files, ".sql", nil)
	return err
}
