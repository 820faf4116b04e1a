package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const sqlInsertNote = `INSERT INTO user_audit (id, done_at, done_by, action, username, detail) VALUES ($1, $2, $3, $4, $5, $6)`

// noted does work and writes its audit line, both or neither.
func (s *store) noted(ctx context.Context, n note, work func(ctx context.Context, tx pgx.Tx) error) error {
	id := uuid.NewString()
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := work(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlInsertNote, id, n.at, n.by, n.action, n.username, n.detail); err != nil {
			return fmt.Errorf("write audit: %w", err)
		}
		return nil
	})
}

func (s *store) addUser(ctx context.Context, user wire.User, hash string, n note) error {
	return s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error { return insertUser(ctx, tx, user, hash) })
}

const sqlInsertInvite = `INSERT INTO invites (hash, uses_left, expires_at, created_at) VALUES ($1, $2, $3, $4)`

func (s *store) addInvite(ctx context.Context, hash []byte, uses int, expires time.Time, n note) error {
	return s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlInsertInvite, hash, uses, expires, n.at); err != nil {
			return fmt.Errorf("insert invite: %w", err)
		}
		return nil
	})
}

const (
	sqlDisable = `UPDATE users SET disabled_at = COALESCE(disabled_at, $2), updated_at = $2 WHERE username = $1 RETURNING id`
	sqlEnable  = `UPDATE users SET disabled_at = NULL, updated_at = $2 WHERE username = $1 RETURNING id`
	sqlReset   = `UPDATE users SET password_hash = $3, updated_at = $2 WHERE username = $1 RETURNING id`
	sqlUserID  = `SELECT id FROM users WHERE username = $1`
)

func (s *store) disable(ctx context.Context, n note) (gone []wire.SessionID, err error) {
	err = s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error {
		id, err := userID(tx.QueryRow(ctx, sqlDisable, n.username, n.at))
		if err != nil {
			return err
		}
		gone, err = revokeAll(ctx, tx, id, noSession, forDisabled, n.at)
		return err
	})
	return gone, err
}

func (s *store) enable(ctx context.Context, n note) error {
	return s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error {
		_, err := userID(tx.QueryRow(ctx, sqlEnable, n.username, n.at))
		return err
	})
}

func (s *store) resetPassword(ctx context.Context, hash string, n note) (gone []wire.SessionID, err error) {
	err = s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error {
		id, err := userID(tx.QueryRow(ctx, sqlReset, n.username, n.at, hash))
		if err != nil {
			return err
		}
		gone, err = revokeAll(ctx, tx, id, noSession, forPassword, n.at)
		return err
	})
	return gone, err
}

func (s *store) removeByName(ctx context.Context, n note) (gone []wire.SessionID, err error) {
	err = s.noted(ctx, n, func(ctx context.Context, tx pgx.Tx) error {
		id, err := userID(tx.QueryRow(ctx, sqlUserID, n.username))
		if err != nil {
			return err
		}
		gone, err = deleteUser(ctx, tx, id)
		return err
	})
	return gone, err
}

// userID gives NotFound for no row.
func userID(row pgx.Row) (id wire.UserID, err error) {
	err = row.Scan(&id)
	if sqlstore.NoRows(err) {
		return "", noUser("auth.userID", err)
	}
	if err != nil {
		return "", fmt.Errorf("find user: %w", err)
	}
	return id, nil
}

const sqlListUsers = `SELECT u.id, u.username, u.display_name, u.created_at, u.expires_at, u.disabled_at IS NOT NULL,
	(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.revoked_at IS NULL AND s.expires_at > $1)
FROM users u ORDER BY u.username`

func (s *store) list(ctx context.Context, now time.Time) (users []Listed, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlListUsers, now)
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		users, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Listed, err error) {
			err = row.Scan(&l.ID, &l.Username, &l.DisplayName, &l.CreatedAt, &l.ExpiresAt, &l.Disabled, &l.Sessions)
			return l, err
		})
		return err
	})
	return users, err
}

// What has had its day, a bounded piece at a time so that no transaction grows long.
const (
	sqlExpiredUsers = `SELECT username FROM users WHERE expires_at < $1 ORDER BY expires_at LIMIT 20`
	sqlSweepTokens  = /* #nosec G101 -- a statement */ `DELETE FROM refresh_tokens WHERE hash IN (
	SELECT hash FROM refresh_tokens WHERE used_at < $1 LIMIT 500)`
	sqlSweepSessions = `DELETE FROM sessions WHERE id IN (
	SELECT id FROM sessions WHERE expires_at < $1 LIMIT 200)`
	sqlSweepInvites = `DELETE FROM invites WHERE hash IN (
	SELECT hash FROM invites WHERE expires_at < $1 OR uses_left = 0 LIMIT 200)`
)

// removeExpired deletes accounts whose time is over, and gives the sessions that ended with them.
func (s *store) removeExpired(ctx context.Context, by string, now time.Time) (gone []wire.SessionID, err error) {
	names, err := s.expiredUsers(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		ended, err := s.removeByName(ctx, note{by: by, action: "remove", username: name, detail: "expired", at: stamp(now)})
		if err != nil {
			return gone, err
		}
		gone = append(gone, ended...)
	}
	return gone, nil
}

func (s *store) expiredUsers(ctx context.Context, now time.Time) (names []string, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlExpiredUsers, now)
		if err != nil {
			return fmt.Errorf("list expired users: %w", err)
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return names, err
}

func (s *store) sweep(ctx context.Context, now time.Time) error {
	for statement, before := range map[string]time.Time{
		sqlSweepTokens:   now.Add(-usedKept),
		sqlSweepSessions: now.Add(-24 * time.Hour),
		sqlSweepInvites:  now,
	} {
		err := s.db.Single(ctx, func(q sqlstore.Querier) error {
			_, err := q.Exec(ctx, statement, before)
			return err
		})
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	return nil
}
