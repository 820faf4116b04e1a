package keys

import (
	"embed"
	"io/fs"

	"secureconnect/services/internal/sqlstore"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations are the directory's tables. They stand on auth's, so they come after those.
func Migrations() sqlstore.Migrations {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a constant of this file
	}
	return sqlstore.Migrations{Owner: "keys", Files: files}
}
