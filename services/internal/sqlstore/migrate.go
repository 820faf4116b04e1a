package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/migration"
)

// Migrations are one service's numbered SQL files, 0001_name.sql and on, in one directory of Files.
// Each holds one statement that may be run again (IF NOT EXISTS …): who dies between the statement and the note of
// it leaves the statement to the next one. They only go forward, and the previous version still runs after each.
type Migrations struct {
	Owner string
	Files fs.FS
}

const (
	sqlCreateLease = `CREATE TABLE IF NOT EXISTS schema_lease (
	name text PRIMARY KEY,
	holder text NOT NULL,
	expires_at timestamptz NOT NULL
)`
	sqlCreateApplied = `CREATE TABLE IF NOT EXISTS schema_migrations (
	owner text NOT NULL,
	version int NOT NULL,
	name text NOT NULL,
	checksum text NOT NULL,
	applied_at timestamptz NOT NULL,
	PRIMARY KEY (owner, version)
)`
	sqlListApplied   = `SELECT version, checksum FROM schema_migrations WHERE owner = $1`
	sqlInsertApplied = `INSERT INTO schema_migrations (owner, version, name, checksum, applied_at)
VALUES ($1, $2, $3, $4, now()) ON CONFLICT (owner, version) DO NOTHING`
)

// Migrate brings the schemas of all owners to date and reports how many steps it took. Any number of processes may
// call it at once: one works at a time, the others wait for its lease; a dead one's lease runs out.
func (s *Store) Migrate(ctx context.Context, log *slog.Logger, all ...Migrations) (int, error) {
	return s.migrate(ctx, log, leaseTime, all)
}

func (s *Store) migrate(ctx context.Context, log *slog.Logger, leaseTime time.Duration, all []Migrations) (int, error) {
	for _, statement := range []string{sqlCreateLease, sqlCreateApplied} {
		if err := s.define(ctx, statement); err != nil {
			return 0, fmt.Errorf("prepare migrations: %w", err)
		}
	}
	steps := 0
	err := s.alone(ctx, leaseTime, func(held context.Context) error {
		for _, migrations := range all {
			n, err := s.migrateOwner(held, log, migrations)
			steps += n
			if err != nil {
				return fmt.Errorf("migrate %s: %w", migrations.Owner, errors.Join(err, context.Cause(held)))
			}
		}
		return nil
	})
	return steps, err
}

// Alone runs work while this process holds the migration lease: for the schema of another store, which has none of its
// own. The context it gives ends when the lease is lost. The tables of migrations must be there, so Migrate first.
func (s *Store) Alone(ctx context.Context, work func(held context.Context) error) error {
	return s.alone(ctx, leaseTime, work)
}

func (s *Store) alone(ctx context.Context, leaseTime time.Duration, work func(held context.Context) error) error {
	lease := &lease{store: s, holder: rand.Text(), lasts: leaseTime}
	held, release, err := lease.take(ctx)
	if err != nil {
		return fmt.Errorf("take the migration lease: %w", err)
	}
	defer release()
	return work(held)
}

func (s *Store) migrateOwner(ctx context.Context, log *slog.Logger, migrations Migrations) (int, error) {
	applied, err := s.applied(ctx, migrations.Owner)
	if err != nil {
		return 0, err
	}
	pending, err := migration.Pending(migrations.Files, ".sql", applied)
	if err != nil {
		return 0, err
	}
	steps := 0
	for _, m := range pending {
		if err := s.apply(ctx, migrations.Owner, m); err != nil {
			return steps, fmt.Errorf("migration %s: %w", m, err)
		}
		log.Info("migrated", "owner", migrations.Owner, "version", m.Version, "name", m.Name)
		steps++
	}
	return steps, nil
}

func (s *Store) apply(ctx context.Context, owner string, m migration.Step) error {
	if err := s.define(ctx, m.Statement); err != nil {
		return err
	}
	return s.Single(ctx, func(q Querier) error {
		if _, err := q.Exec(ctx, sqlInsertApplied, owner, m.Version, m.Name, m.Checksum); err != nil {
			return fmt.Errorf("note that it was applied: %w", err)
		}
		return nil
	})
}

// applied gives the checksums of what was applied, by version.
func (s *Store) applied(ctx context.Context, owner string) (map[int]string, error) {
	applied := map[int]string{}
	err := s.Single(ctx, func(q Querier) error {
		clear(applied)
		rows, err := q.Query(ctx, sqlListApplied, owner)
		if err != nil {
			return fmt.Errorf("list applied migrations: %w", err)
		}
		var version int
		var checksum string
		_, err = pgx.ForEachRow(rows, []any{&version, &checksum}, func() error {
			applied[version] = checksum
			return nil
		})
		return err
	})
	return applied, err
}

const defineTries = 20

// define runs one statement of DDL outside a transaction, as CockroachDB wants it. On PostgreSQL, IF NOT EXISTS still
// fails for the later of two that run together, so that one looks again.
func (s *Store) define(ctx context.Context, statement string) error {
	var err error
	for range defineTries {
		if _, err = s.Exec(ctx, statement); !overtaken(err) {
			return err
		}
		if err := sleep(ctx, maxPause); err != nil {
			return err
		}
	}
	return err
}

func overtaken(err error) bool {
	switch sqlState(err) {
	case codeSerialization, codeDeadlock, codeUniqueViolation, "42P07", "42701", "42710": // duplicate table, column, object (a table's type)
		return true
	case "XX000": // "tuple concurrently updated"
		return true
	default:
		return false
	}
}
