package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// open connects to this node alone, once.
func open(ctx context.Context, l login) (*gocql.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cluster := gocql.NewCluster(address)
	cluster.Authenticator = gocql.PasswordAuthenticator{Username: l.Name, Password: string(l.Password)}
	cluster.DisableInitialHostLookup = true
	cluster.NumConns = 1
	cluster.ProtoVersion = 5
	cluster.Consistency = gocql.One
	cluster.ConnectTimeout = timeout(ctx)
	cluster.Timeout = timeout(ctx)
	return cluster.CreateSession()
}

func timeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return 10 * time.Second
}

const cqlHealth = `SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = 'secureconnect'`

// health logs in as the service does and is told of its keyspace.
func health(ctx context.Context, r roles) error {
	session, err := open(ctx, r.Service)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", r.Service.Name, err)
	}
	defer session.Close()
	var name string
	err = session.Query(cqlHealth).ScanContext(ctx, &name)
	if errors.Is(err, gocql.ErrNotFound) {
		return errors.New("the keyspace is not made yet")
	}
	if err != nil {
		return fmt.Errorf("ask for the keyspace: %w", err)
	}
	return nil
}
