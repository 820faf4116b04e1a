package sqlstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Migrations are one service's numbered SQL files, 0001_name.sql and on, in one directory of Files.
// Each holds one statement that may be run again (IF NOT EXISTS …): who dies between the statement and the note of
// it leaves the statement to the next one. They only go forward, and the previous version still runs after each.
type Migrations struct {
	Owner string
	Files fs.FS
}

type migration struct {
	version  int
	name     string
	sql      string
	checksum string
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
	lease := &lease{store: s, holder: rand.Text(), lasts: leaseTime}
	held, release, err := lease.take(ctx)
	if err != nil {
		return 0, fmt.Errorf("take the migration lease: %w", err)
	}
	defer release()
	steps := 0
	for _, migrations := range all {
		n, err := s.migrateOwner(held, log, migrations)
		steps += n
		if err != nil {
			return steps, fmt.Errorf("migrate %s: %w", migrations.Owner, errors.Join(err, context.Cause(held)))
		}
	}
	return steps, nil
}

func (s *Store) migrateOwner(ctx context.Context, log *slog.Logger, migrations Migrations) (int, error) {
	wanted, err := migrations.read()
	if err != nil {
		return 0, err
	}
	applied, err := s.applied(ctx, migrations.Owner)
	if err != nil {
		return 0, err
	}
	steps := 0
	for _, m := range wanted {
		known, done := applied[m.version]
		switch {
		case done && known != m.checksum:
			return steps, fmt.Errorf("migration %04d_%s is not the one that was applied: a migration never changes", m.version, m.name)
		case done:
			continue
		}
		if err := s.apply(ctx, migrations.Owner, m); err != nil {
			return steps, fmt.Errorf("migration %04d_%s: %w", m.version, m.name, err)
		}
		log.Info("migrated", "owner", migrations.Owner, "version", m.version, "name", m.name)
		steps++
	}
	return steps, nil
}

func (s *Store) apply(ctx context.Context, owner string, m migration) error {
	if err := s.define(ctx, m.sql); err != nil {
		return err
	}
	return s.Single(ctx, func(q Querier) error {
		if _, err := q.Exec(ctx, sqlInsertApplied, owner, m.version, m.name, m.checksum); err != nil {
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
	case codeSerialization, codeDeadlock, codeUniqueViolation, "42P07", "42701": // duplicate table, duplicate column
		return true
	case "XX000": // "tuple concurrently updated"
		return true
	default:
		return false
	}
}

var migrationName = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.sql$`)

// read gives the migrations in order, and refuses a gap, a twin or a stray file.
func (m Migrations) read() ([]migration, error) {
	entries, err := fs.ReadDir(m.Files, ".")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var found []migration
	for _, entry := range entries {
		parts := migrationName.FindStringSubmatch(entry.Name())
		if parts == nil {
			return nil, fmt.Errorf("%s is not called like a migration (0001_name.sql)", entry.Name())
		}
		content, err := fs.ReadFile(m.Files, entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		version, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", entry.Name(), err)
		}
		sum := sha256.Sum256(content)
		found = append(found, migration{version: version, name: parts[2], sql: string(content), checksum: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(found, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	for i, m := range found {
		if m.version != i+1 {
			return nil, fmt.Errorf("migration %04d is missing or there twice", i+1)
		}
	}
	return found, nil
}
