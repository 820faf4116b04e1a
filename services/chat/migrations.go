package chat

import (
	"embed"

	"secureconnect/services/internal/schema"
)

//go:embed migrations/*.sql
var sqlFiles embed.FS

//go:embed cql/*.cql
var cqlFiles embed.FS

// Schema is chat's tables in both stores.
var Schema = schema.Schema{Owner: "chat", SQL: sqlFiles, CQL: cqlFiles}
