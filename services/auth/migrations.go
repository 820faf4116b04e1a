package auth

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"

	"secureconnect/services/auth/contacts"
	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/sqlstore"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrate brings auth's tables, and then those of its packages, to date in the store that the environment names.
func Migrate(ctx context.Context, log *slog.Logger) error {
	environment := config.FromEnvironment()
	settings := sqlstore.ReadConfig(environment)
	if err := environment.Err(); err != nil {
		return err
	}
	settings.MaxConns = 2 // one works, one keeps the lease
	store, err := sqlstore.Open(ctx, settings)
	if err != nil {
		return err
	}
	defer store.Close()
	steps, err := store.Migrate(ctx, log, Migrations()...)
	if err != nil {
		return err
	}
	log.Info("tables are up to date", "owner", "auth", "steps", steps)
	return nil
}

// Migrations are auth's tables and then those of its packages, which stand on them.
func Migrations() []sqlstore.Migrations {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a constant of this file
	}
	return []sqlstore.Migrations{{Owner: "auth", Files: files}, contacts.Migrations(), keys.Migrations()}
}
