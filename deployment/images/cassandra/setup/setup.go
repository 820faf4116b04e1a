package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// pause is between two attempts: a node takes its time to listen, and ten seconds more to make
// its default login.
const pause = 2 * time.Second

// setUntilDone tries until the node is as it should be or ctx ends. A cause is told when it
// changes, not at every attempt.
func setUntilDone(ctx context.Context, r roles) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for last := ""; ; {
		err := set(ctx, r)
		if err == nil {
			fmt.Println("cassandra: roles and keyspace are set")
			return nil
		}
		if cause := err.Error(); cause != last {
			fmt.Fprintln(os.Stderr, "cassandra: not set yet:", cause)
			last = cause
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func set(ctx context.Context, r roles) error {
	if err := ensureAdmin(ctx, r.Admin); err != nil {
		return err
	}
	admin, err := open(ctx, r.Admin)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", r.Admin.Name, err)
	}
	defer admin.Close()
	center, err := dataCenter(ctx, admin)
	if err != nil {
		return err
	}
	statements, err := statements(r.Service, center, rand.Text())
	if err != nil {
		return err
	}
	for _, s := range statements {
		if err := admin.Query(s.cql).ExecContext(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// defaultLogin is the one every new node has; it lives for some seconds here.
var defaultLogin = login{"cassandra", "cassandra"}

func ensureAdmin(ctx context.Context, admin login) error {
	session, err := open(ctx, admin)
	if err == nil {
		session.Close()
		return nil
	}
	first, defaultErr := open(ctx, defaultLogin)
	if defaultErr != nil {
		return fmt.Errorf("log in as %s: %w", admin.Name, err)
	}
	defer first.Close()
	if err := first.Query(cqlAdmin(admin)).ExecContext(ctx); err != nil {
		return fmt.Errorf("make role %s: %w", admin.Name, err)
	}
	return nil
}

const cqlDataCenter = `SELECT data_center FROM system.local`

func dataCenter(ctx context.Context, session *gocql.Session) (string, error) {
	var name string
	if err := session.Query(cqlDataCenter).ScanContext(ctx, &name); err != nil {
		return "", fmt.Errorf("read the name of the data center: %w", err)
	}
	return name, nil
}

// statement says what it is for, since its text may hold a password.
type statement struct{ what, cql string }

func cqlAdmin(admin login) string {
	return `CREATE ROLE IF NOT EXISTS ` + admin.Name +
		` WITH SUPERUSER = true AND LOGIN = true AND PASSWORD = ` + literal(string(admin.Password))
}

// statements are safe to repeat. CQL binds no values in them, so they are quoted.
func statements(service login, center, unguessable string) ([]statement, error) {
	if unguessable == "" {
		return nil, errors.New("no random password for the default login")
	}
	return []statement{
		{"make keyspace", `CREATE KEYSPACE IF NOT EXISTS secureconnect WITH replication = ` +
			`{'class': 'NetworkTopologyStrategy', ` + literal(center) + `: 1}`},
		{"make role", `CREATE ROLE IF NOT EXISTS ` + service.Name + ` WITH SUPERUSER = false AND LOGIN = true AND PASSWORD = ` +
			literal(string(service.Password))},
		{"set password", `ALTER ROLE ` + service.Name + ` WITH PASSWORD = ` + literal(string(service.Password))},
		{"grant the keyspace", `GRANT ALL PERMISSIONS ON KEYSPACE secureconnect TO ` + service.Name},
		{"close the default login", `ALTER ROLE cassandra WITH SUPERUSER = false AND LOGIN = false AND PASSWORD = ` +
			literal(unguessable)},
	}, nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
