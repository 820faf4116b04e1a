package cqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"secureconnect/services/internal/migration"
)

// Migrations are one service's numbered CQL files, 0001_name.cql and on, in one directory of Files. Each holds one
// statement that may be run again (IF NOT EXISTS). They only go forward, and the previous version still runs after each.
type Migrations struct {
	Owner string
	Files fs.FS
}

// Alone keeps other processes from migrating while work runs: sqlstore's lease. Cassandra has none that would not need a
// lightweight transaction, and two nodes that make one table at once make two of it.
type Alone interface {
	Alone(ctx context.Context, work func(held context.Context) error) error
}

const (
	cqlCreateApplied = `CREATE TABLE IF NOT EXISTS schema_migrations (
	owner text, version int, name text, checksum text, applied_at timestamp, PRIMARY KEY (owner, version)
)`
	cqlListApplied   = `SELECT version, checksum FROM schema_migrations WHERE owner = ?`
	cqlInsertApplied = `INSERT INTO schema_migrations (owner, version, name, checksum, applied_at)
VALUES (?, ?, ?, ?, toTimestamp(now()))`
)

// Migrate brings the keyspace to date and reports how many steps it took. After each step it waits until all nodes agree.
func (s *Store) Migrate(ctx context.Context, log *slog.Logger, lease Alone, all ...Migrations) (steps int, err error) {
	err = lease.Alone(ctx, func(held context.Context) error {
		if err := s.define(held, cqlCreateApplied); err != nil {
			return fmt.Errorf("prepare migrations: %w", err)
		}
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

func (s *Store) migrateOwner(ctx context.Context, log *slog.Logger, migrations Migrations) (int, error) {
	applied, err := s.applied(ctx, migrations.Owner)
	if err != nil {
		return 0, err
	}
	pending, err := migration.Pending(migrations.Files, ".cql", applied)
	if err != nil {
		return 0, err
	}
	steps := 0
	for _, m := range pending {
		if err := s.define(ctx, m.Statement); err != nil {
			return steps, fmt.Errorf("migration %s: %w", m, err)
		}
		if err := s.Write(ctx, cqlInsertApplied, migrations.Owner, m.Version, m.Name, m.Checksum); err != nil {
			return steps, fmt.Errorf("note migration %s: %w", m, err)
		}
		log.Info("migrated", "store", "cassandra", "owner", migrations.Owner, "version", m.Version, "name", m.Name)
		steps++
	}
	return steps, nil
}

func (s *Store) applied(ctx context.Context, owner string) (applied map[int]string, err error) {
	err = s.Read(ctx, func() { applied = map[int]string{} }, func(scan func(...any) error) (bool, error) {
		var version int
		var checksum string
		if err := scan(&version, &checksum); err != nil {
			return false, err
		}
		applied[version] = checksum
		return true, nil
	}, cqlListApplied, owner)
	if err != nil {
		return nil, fmt.Errorf("list applied migrations: %w", err)
	}
	return applied, nil
}

// define changes the schema once all nodes agree about what it is, and returns when they agree again.
func (s *Store) define(ctx context.Context, statement string) error {
	return again(ctx, func() error {
		session, err := s.Session(ctx)
		if err != nil {
			return err
		}
		if err := session.AwaitSchemaAgreement(ctx); err != nil {
			return fmt.Errorf("wait for schema agreement: %w", err)
		}
		if err := session.Query(statement).ExecContext(ctx); err != nil {
			return err
		}
		if err := session.AwaitSchemaAgreement(ctx); err != nil {
			return fmt.Errorf("wait for schema agreement: %w", err)
		}
		return nil
	})
}
