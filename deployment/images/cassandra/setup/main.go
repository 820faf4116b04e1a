// Command cassandra-setup gives a Cassandra node its superuser, its role and its keyspace, and
// takes the default login away. Called as cassandra-health it asks one question as the role.
// It knows this node only, and no table: those belong to the services.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// address is this node's: both programs run in its container.
const address = "127.0.0.1:9042"

const secretsDir = "/run/secrets"

// patience is shorter than the health check's own limit, so that a cause is printed.
const patience = 4 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, filepath.Base(os.Args[0]))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cassandra:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string) error {
	roles, err := readRoles(secretsDir)
	if err != nil {
		return err
	}
	if name == "cassandra-health" {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return health(ctx, roles)
	}
	return setUntilDone(ctx, roles)
}

// roles holds the two logins this node is to have.
// Its fields are exported, since fmt asks no unexported one how it wants to print.
type roles struct{ Admin, Service login }

type login struct {
	Name     string
	Password secret
}

// secret prints as nothing anybody could use.
type secret string

func (secret) String() string   { return "[secret]" }
func (secret) GoString() string { return "[secret]" }

func readRoles(dir string) (roles, error) {
	admin, err := readSecret(filepath.Join(dir, "cassandra_admin_password"))
	if err != nil {
		return roles{}, err
	}
	service, err := readSecret(filepath.Join(dir, "cassandra_password"))
	if err != nil {
		return roles{}, err
	}
	return roles{Admin: login{"admin", admin}, Service: login{"secureconnect", service}}, nil
}

func readSecret(path string) (secret, error) {
	text, err := os.ReadFile(path) // #nosec G304 -- a mounted secret
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	value := strings.TrimSpace(string(text))
	if value == "" {
		return "", fmt.Errorf("read secret: %s is empty", path)
	}
	return secret(value), nil
}
