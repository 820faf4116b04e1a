package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
)

const (
	sqlCreateCounter = `CREATE TABLE counter (name text PRIMARY KEY, value int NOT NULL)`
	sqlCreateLedger  = `CREATE TABLE ledger (writer int NOT NULL, step int NOT NULL, PRIMARY KEY (writer, step))`
	sqlInsertCounter = `INSERT INTO counter (name, value) VALUES ('n', 0)`
	sqlReadCounter   = `SELECT value FROM counter WHERE name = 'n'`
	sqlWriteCounter  = `UPDATE counter SET value = $1 WHERE name = 'n'`
	sqlInsertLedger  = `INSERT INTO ledger (writer, step) VALUES ($1, $2)`
	sqlCountLedger   = `SELECT count(*) FROM ledger`
)

func newCounter(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	for _, statement := range []string{sqlCreateCounter, sqlCreateLedger, sqlInsertCounter} {
		if _, err := store.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, store *sqlstore.Store, query string) (n int) {
	t.Helper()
	err := store.Single(t.Context(), func(q sqlstore.Querier) error { return q.QueryRow(t.Context(), query).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// increment reads, then writes what it read plus one: without SERIALIZABLE and retries, updates get lost.
func increment(ctx context.Context, tx pgx.Tx, writer, step int) error {
	var value int
	if err := tx.QueryRow(ctx, sqlReadCounter).Scan(&value); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlWriteCounter, value+1); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, sqlInsertLedger, writer, step)
	return err
}

func TestInTx(t *testing.T) {
	t.Run("32_contending_writers_lose_nothing", func(t *testing.T) {
		store := testkit.Postgres(t)
		newCounter(t, store)
		const writers, steps = 32, 5
		var tries atomic.Int64
		group, ctx := errgroup.WithContext(t.Context())
		for writer := range writers {
			group.Go(func() error {
				for step := range steps {
					err := store.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
						tries.Add(1)
						return increment(ctx, tx, writer, step)
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, store, sqlReadCounter); got != writers*steps {
			t.Errorf("counter is %d, want %d", got, writers*steps)
		}
		if got := read(t, store, sqlCountLedger); got != writers*steps {
			t.Errorf("%d ledger rows, want %d", got, writers*steps)
		}
		if tries.Load() == writers*steps {
			t.Error("nobody ever retried: the writers did not contend")
		}
	})

	t.Run("error_rolls_back", func(t *testing.T) {
		store := testkit.Postgres(t)
		newCounter(t, store)
		want := errors.New("changed my mind")
		err := store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(increment(ctx, tx, 1, 1), want)
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if got := read(t, store, sqlReadCounter); got != 0 {
			t.Errorf("counter is %d after a rollback", got)
		}
	})

	t.Run("swallowed_error_is_no_success", func(t *testing.T) {
		store := testkit.Postgres(t)
		newCounter(t, store)
		err := store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, sqlInsertLedger, 1, 1)
			_, _ = tx.Exec(ctx, sqlInsertLedger, 1, 1)
			return nil
		})
		if !errors.Is(err, pgx.ErrTxCommitRollback) {
			t.Errorf("got %v, want a failed commit", err)
		}
	})

	t.Run("lost_connection_at_commit_is_unknown_and_not_retried", func(t *testing.T) {
		address := testkit.PostgresURL(t)
		newCounter(t, testkit.OpenPostgres(t, address))
		line, through := lineTo(t, address)
		store := testkit.OpenPostgres(t, through)
		tries := 0
		err := store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			tries++
			if err := increment(ctx, tx, 1, 1); err != nil {
				return err
			}
			line.Cut()
			return nil
		})
		if !errors.Is(err, sqlstore.ErrCommitUnknown) || tries != 1 {
			t.Errorf("got %v after %d tries, want an unknown commit after one", err, tries)
		}
		line.Mend()
		testkit.Eventually(t, patience, "the store to be back", func() bool { return store.Ready(t.Context()) == nil })
	})
}

// lineTo gives a line to the server of address, and the address through it.
func lineTo(t *testing.T, address config.Secret) (*testkit.Line, config.Secret) {
	t.Helper()
	parsed, err := url.Parse(address.Reveal())
	if err != nil {
		t.Fatal("the server's address is no URL")
	}
	line := testkit.NewLine(t, parsed.Host)
	through := strings.Replace(address.Reveal(), "@"+parsed.Host, "@"+line.Address(), 1)
	return line, config.NewSecret(through)
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	password := "hunter2-in-the-clear"
	_, err := sqlstore.Open(t.Context(), sqlstore.Config{Host: "bad host\x7f", Port: 1, Name: "n", User: "u", Password: config.NewSecret(password), MaxConns: 2})
	store, _ := sqlstore.Open(t.Context(), sqlstore.Config{Host: "127.0.0.1", Port: 1, Name: "n", User: "u", Password: config.NewSecret(password), MaxConns: 2})
	t.Cleanup(store.Close)
	for _, text := range []string{fmt.Sprint(err), fmt.Sprint(store.Ready(t.Context()))} {
		if strings.Contains(text, password) {
			t.Errorf("the password is in %q", text)
		}
	}
}
