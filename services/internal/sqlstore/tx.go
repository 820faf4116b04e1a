package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"secureconnect/services/internal/apperr"
)

const (
	codeSerialization    = "40001"
	codeDeadlock         = "40P01"
	codeCommitUnknown    = "40003"
	codeUniqueViolation  = "23505"
	codeForeignKey       = "23503"
	retryBudget          = 20 * time.Second
	firstPause, maxPause = 2 * time.Millisecond, 250 * time.Millisecond
)

// ErrCommitUnknown is a connection lost while committing: the work is done or it is not. Ask before doing it again.
var ErrCommitUnknown = errors.New("lost the connection while committing")

// InTx runs work in one SERIALIZABLE transaction and commits it. Where the store asks for a retry (SQLSTATE 40001, or
// a deadlock), work runs again from the start, in a new transaction; so it has no side effects and sets all it hands
// out anew. It is BEGIN … COMMIT and never a savepoint: on PostgreSQL a released savepoint commits nothing.
// When retrying takes too long it fails with Unavailable.
func (s *Store) InTx(ctx context.Context, work func(ctx context.Context, tx pgx.Tx) error) error {
	return again(ctx, func() error { return s.try(ctx, work) })
}

// Single runs work, which sends one statement, and runs it again where the store asks for that: at SERIALIZABLE even a
// lone SELECT may be told to retry. It may be a batch, whose statements are then right in one transaction (PostgreSQL)
// and each by itself (CockroachDB), and when those that were committed run again.
func (s *Store) Single(ctx context.Context, work func(q Querier) error) error {
	return again(ctx, func() error { return work(s.Pool) })
}

// Holds fails where a statement that answers one number cannot be answered: the tables it names are not there, or nobody answers.
func (s *Store) Holds(ctx context.Context, statement string) error {
	return s.Single(ctx, func(q Querier) error {
		var n int
		if err := q.QueryRow(ctx, statement).Scan(&n); err != nil {
			return fmt.Errorf("look at the tables: %w", err)
		}
		return nil
	})
}

func again(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(retryBudget)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := try()
		if !retryable(err) {
			return err
		}
		if time.Now().After(deadline) {
			return apperr.E("sqlstore", apperr.Unavailable, "The system is busy. Try again.", err,
				apperr.RetryAfter(time.Second))
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil { //nolint:gosec // jitter needs no secrecy
			return err
		}
	}
}

func (s *Store) try(ctx context.Context, work func(context.Context, pgx.Tx) error) error {
	tx, err := s.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After Commit this does nothing. It outlives ctx, or the connection would be thrown away.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := work(ctx, tx); err != nil {
		return err
	}
	return commit(ctx, tx)
}

// commit tells "not committed" from "not known".
func commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		// work swallowed an error: the store has rolled back, whatever work believes.
		return fmt.Errorf("commit: %w", err)
	case errors.As(err, &answer) && answer.Code != codeCommitUnknown:
		return fmt.Errorf("commit: %w", err)
	default:
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
}

func retryable(err error) bool {
	if errors.Is(err, ErrCommitUnknown) {
		return false
	}
	code := sqlState(err)
	return code == codeSerialization || code == codeDeadlock
}

// UniqueViolation reports whether err is an insert that met an existing key.
func UniqueViolation(err error) bool { return sqlState(err) == codeUniqueViolation }

// ForeignKeyViolation reports whether err is a row that names another which is not there.
func ForeignKeyViolation(err error) bool { return sqlState(err) == codeForeignKey }

// NoRows reports whether err is a query that found nothing.
func NoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func sqlState(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
