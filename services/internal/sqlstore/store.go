// Package sqlstore opens the SQL store, runs transactions again when the store asks for it, and migrates schemas.
// It is right on CockroachDB and on PostgreSQL at SERIALIZABLE, and holds no query of any service.
package sqlstore

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"secureconnect/services/internal/config"
)

// Config says where the store is and who we are there.
type Config struct {
	Host     string
	Port     int
	Name     string
	User     string
	Password config.Secret
	MaxConns int
}

// ReadConfig reads the DB_* settings.
func ReadConfig(r *config.Reader) Config {
	return Config{
		Host:     r.Required("DB_HOST"),
		Port:     r.Port("DB_PORT", 26257),
		Name:     r.Text("DB_NAME", "secureconnect"),
		User:     r.Text("DB_USER", "secureconnect"),
		Password: r.Secret("DB_PASSWORD"),
		MaxConns: r.Int("DB_MAX_CONNS", 10, 2, 1000),
	}
}

// Querier runs single statements, or a batch of them at once: a pool or a transaction.
type Querier interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// Store is a bounded pool of connections. Services use InTx and Single; the pool's own methods do not retry.
type Store struct {
	*pgxpool.Pool
}

// Open prepares the pool. It connects when first used, so that a service starts before its store does.
func Open(ctx context.Context, c Config) (*Store, error) {
	settings, err := pgxpool.ParseConfig(c.address())
	if err != nil {
		// The cause would quote the address.
		return nil, fmt.Errorf("read the address of the SQL store at %s:%d", c.Host, c.Port)
	}
	settings.ConnConfig.Password = c.Password.Reveal()
	return open(ctx, settings, c.MaxConns)
}

// OpenURL opens what a connection URL names: for tests and tools.
func OpenURL(ctx context.Context, address config.Secret, maxConns int) (*Store, error) {
	settings, err := pgxpool.ParseConfig(address.Reveal())
	if err != nil {
		return nil, fmt.Errorf("read the URL of the SQL store: not a connection URL")
	}
	return open(ctx, settings, maxConns)
}

func open(ctx context.Context, settings *pgxpool.Config, maxConns int) (*Store, error) {
	settings.MaxConns = int32(maxConns) //nolint:gosec // bounded by Config and by tests
	settings.MinConns = 0
	settings.MaxConnIdleTime = 5 * time.Minute
	settings.MaxConnLifetime = time.Hour
	settings.MaxConnLifetimeJitter = 10 * time.Minute
	settings.HealthCheckPeriod = time.Minute
	settings.ConnConfig.ConnectTimeout = 5 * time.Second
	settings.ConnConfig.RuntimeParams["application_name"] = "secureconnect"
	// A statement outside InTx is a transaction too, and keeps the same promise; see Single.
	settings.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("open SQL store: %w", err)
	}
	return &Store{Pool: pool}, nil
}

func (c Config) address() string {
	address := url.URL{
		Scheme: "postgres",
		User:   url.User(c.User),
		Host:   net.JoinHostPort(c.Host, strconv.Itoa(c.Port)),
		Path:   "/" + c.Name,
		// Encrypted wherever the server offers it; verification needs certificates that are not deployed yet.
		RawQuery: "sslmode=prefer",
	}
	return address.String()
}

const sqlPing = `SELECT 1`

// Ready asks the store a real question.
func (s *Store) Ready(ctx context.Context) error {
	var one int
	if err := s.QueryRow(ctx, sqlPing).Scan(&one); err != nil {
		return fmt.Errorf("ask the SQL store: %w", err)
	}
	return nil
}
