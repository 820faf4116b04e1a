// Package schema brings the tables that a service has in SQL and in Cassandra to date, from the files it embeds.
package schema

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/sqlstore"
)

// Schema is one service's migrations: the folder migrations of SQL, and the folder cql of CQL.
type Schema struct {
	Owner string
	SQL   embed.FS
	CQL   embed.FS
}

// Migrate brings the tables to date in the two stores that the environment names.
func (s Schema) Migrate(ctx context.Context, log *slog.Logger) error {
	environment := config.FromEnvironment()
	sqlSettings, cqlSettings := sqlstore.ReadConfig(environment), cqlstore.ReadConfig(environment)
	if err := environment.Err(); err != nil {
		return err
	}
	sqlSettings.MaxConns = 2 // one works, one keeps the lease
	sql, err := sqlstore.Open(ctx, sqlSettings)
	if err != nil {
		return err
	}
	defer sql.Close()
	cql := cqlstore.Open(cqlSettings)
	defer cql.Close()
	steps, err := s.MigrateIn(ctx, log, sql, cql)
	if err != nil {
		return err
	}
	log.Info("tables are up to date", "owner", s.Owner, "steps", steps)
	return nil
}

// MigrateIn does it in stores that are open, and tells how many steps it took.
func (s Schema) MigrateIn(ctx context.Context, log *slog.Logger, sql *sqlstore.Store, cql *cqlstore.Store) (int, error) {
	inSQL, err := sql.Migrate(ctx, log, sqlstore.Migrations{Owner: s.Owner, Files: folder(s.SQL, "migrations")})
	if err != nil {
		return inSQL, err
	}
	inCQL, err := cql.Migrate(ctx, log, sql, cqlstore.Migrations{Owner: s.Owner, Files: folder(s.CQL, "cql")})
	return inSQL + inCQL, err
}

func folder(files embed.FS, name string) fs.FS {
	below, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the names are constants of this file
	}
	return below
}
