package chat

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/sqlstore"
)

//go:embed migrations/*.sql
var sqlFiles embed.FS

//go:embed cql/*.cql
var cqlFiles embed.FS

// Migrate brings chat's tables to date in the two stores that the environment names.
func Migrate(ctx context.Context, log *slog.Logger) error {
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
	steps, err := migrate(ctx, log, sql, cql)
	if err != nil {
		return err
	}
	log.Info("tables are up to date", "owner", owner, "steps", steps)
	return nil
}

const owner = "chat"

func migrate(ctx context.Context, log *slog.Logger, sql *sqlstore.Store, cql *cqlstore.Store) (int, error) {
	inSQL, err := sql.Migrate(ctx, log, sqlstore.Migrations{Owner: owner, Files: folder(sqlFiles, "migrations")})
	if err != nil {
		return inSQL, err
	}
	inCQL, err := cql.Migrate(ctx, log, sql, cqlstore.Migrations{Owner: owner, Files: folder(cqlFiles, "cql")})
	return inSQL + inCQL, err
}

func folder(files embed.FS, name string) fs.FS {
	below, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the names are constants of this file
	}
	return below
}
