package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const sqlSessionLive = `SELECT EXISTS (
	SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
	WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2
	AND u.disabled_at IS NULL AND (u.expires_at IS NULL OR u.expires_at > $2)
)`

// sessionLive is the truth about a session: not ended, and its account neither disabled nor expired.
func (s *store) sessionLive(ctx context.Context, id wire.SessionID, now time.Time) (live bool, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		live, err = sessionLive(ctx, q, id, now)
		return err
	})
	return live, err
}

func sessionLive(ctx context.Context, q sqlstore.Querier, id wire.SessionID, now time.Time) (live bool, err error) {
	if err := q.QueryRow(ctx, sqlSessionLive, id, now).Scan(&live); err != nil {
		return false, fmt.Errorf("find session: %w", err)
	}
	return live, nil
}

const (
	sqlStillSame = `SELECT EXISTS (
	SELECT 1 FROM users WHERE id = $1 AND password_hash = $2
	AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $3)
)`
	sqlReplaceDevice = `UPDATE sessions SET revoked_at = $3, revoked_for = $4
WHERE user_id = $1 AND device_id = $2 AND revoked_at IS NULL RETURNING id`
	sqlInsertSession = `INSERT INTO sessions
(id, user_id, device_id, device_name, address, created_at, last_used_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $6, $7)`
	sqlInsertRefresh = `INSERT INTO refresh_tokens (hash, session_id, created_at) VALUES ($1, $2, $3)`
	sqlKnowAddress   = `INSERT INTO known_addresses (user_id, address, seen_at) VALUES ($1, $2, $3)
ON CONFLICT (user_id, address) DO UPDATE SET seen_at = excluded.seen_at`
)

// openSession writes a new session with its first refresh token, and ends the one the same device had. The account is
// looked at again: a password changed or an account disabled while the old password was being checked wins.
func (s *store) openSession(ctx context.Context, o opening) (replaced []wire.SessionID, err error) {
	now := stamp(o.now)
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var same bool
		if err := tx.QueryRow(ctx, sqlStillSame, o.session.UserID, o.passwordHash, now).Scan(&same); err != nil {
			return fmt.Errorf("look at account: %w", err)
		}
		if !same {
			return wrongCredentials("auth.openSession")
		}
		replaced, err = sessionIDs(tx.Query(ctx, sqlReplaceDevice, o.session.UserID, o.session.DeviceID, now, forReplaced))
		if err != nil {
			return fmt.Errorf("end the device's session: %w", err)
		}
		return insertSession(ctx, tx, o, now)
	})
	return replaced, err
}

func insertSession(ctx context.Context, tx pgx.Tx, o opening, now time.Time) error {
	_, err := tx.Exec(ctx, sqlInsertSession, o.session.SessionID, o.session.UserID, o.session.DeviceID,
		o.deviceName, o.address, now, now.Add(sessionLifetime))
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlInsertRefresh, o.refreshHash, o.session.SessionID, now); err != nil {
		return fmt.Errorf("insert refresh token: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlKnowAddress, o.session.UserID, o.addressClass, now); err != nil {
		return fmt.Errorf("remember address: %w", err)
	}
	return nil
}

// The row of the token is locked, so that of many who bring the same one the first rotates it and the others see that.
const (
	sqlLockRefresh = `SELECT session_id, used_at FROM refresh_tokens WHERE hash = $1 FOR UPDATE`
	sqlFamily      = `SELECT s.device_id, u.id, u.username, u.display_name, u.created_at, u.expires_at,
	s.revoked_at IS NULL AND s.expires_at > $2 AND u.disabled_at IS NULL AND (u.expires_at IS NULL OR u.expires_at > $2),
	EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.hash = $3 AND t.used_at IS NOT NULL)
FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1`
	sqlUseRefresh   = `UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1`
	sqlTouchSession = `UPDATE sessions SET last_used_at = $2, expires_at = $3 WHERE id = $1`
)

// rotate judges a refresh token and does what follows, in one transaction.
func (s *store) rotate(ctx context.Context, hash, successor []byte, now time.Time) (result rotation, err error) {
	now = stamp(now)
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var state tokenState
		result, state, err = lookUp(ctx, tx, hash, successor, now)
		if err != nil {
			return err
		}
		result.verdict = judge(state, now)
		return carryOut(ctx, tx, result, hash, successor, now)
	})
	return result, err
}

func lookUp(ctx context.Context, tx pgx.Tx, hash, successor []byte, now time.Time) (r rotation, state tokenState, err error) {
	err = tx.QueryRow(ctx, sqlLockRefresh, hash).Scan(&r.session.SessionID, &state.usedAt)
	if sqlstore.NoRows(err) {
		return r, tokenState{}, nil
	}
	if err != nil {
		return r, state, fmt.Errorf("find refresh token: %w", err)
	}
	state.known = true
	err = tx.QueryRow(ctx, sqlFamily, r.session.SessionID, now, successor).Scan(
		&r.session.DeviceID, &r.user.ID, &r.user.Username, &r.user.DisplayName, &r.user.CreatedAt, &r.user.ExpiresAt,
		&state.live, &state.successorUsed)
	if err != nil {
		return r, state, fmt.Errorf("find session: %w", err)
	}
	r.session.UserID = r.user.ID
	return r, state, nil
}

func carryOut(ctx context.Context, tx pgx.Tx, r rotation, hash, successor []byte, now time.Time) error {
	switch r.verdict {
	case rotate:
		if _, err := tx.Exec(ctx, sqlUseRefresh, hash, now); err != nil {
			return fmt.Errorf("use refresh token: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlInsertRefresh, successor, r.session.SessionID, now); err != nil {
			return fmt.Errorf("insert refresh token: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlTouchSession, r.session.SessionID, now, now.Add(sessionLifetime)); err != nil {
			return fmt.Errorf("touch session: %w", err)
		}
	case reuse:
		_, err := revoke(ctx, tx, r.session.UserID, r.session.SessionID, forReuse, now)
		return err
	case refuse, repeat:
	}
	return nil
}

const sqlSessionOfRefresh = `SELECT s.id, s.user_id, s.device_id
FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = $1`

// sessionOfRefresh fails with Unauthenticated for a token that is nobody's.
func (s *store) sessionOfRefresh(ctx context.Context, hash []byte) (wire.Session, error) {
	var found wire.Session
	err := s.db.Single(ctx, func(q sqlstore.Querier) error {
		return q.QueryRow(ctx, sqlSessionOfRefresh, hash).Scan(&found.SessionID, &found.UserID, &found.DeviceID)
	})
	if sqlstore.NoRows(err) {
		return wire.Session{}, badRefresh("auth.sessionOfRefresh")
	}
	if err != nil {
		return wire.Session{}, fmt.Errorf("find refresh token: %w", err)
	}
	return found, nil
}

const sqlSessionsOf = `SELECT id, device_id, device_name, address, created_at, last_used_at
FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
ORDER BY last_used_at DESC, id LIMIT 200`

func (s *store) sessionsOf(ctx context.Context, user wire.UserID, now time.Time) (views []wire.SessionView, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlSessionsOf, user, now)
		if err != nil {
			return fmt.Errorf("list sessions: %w", err)
		}
		views, err = pgx.CollectRows(rows, scanSessionView)
		return err
	})
	return views, err
}

func scanSessionView(row pgx.CollectableRow) (v wire.SessionView, err error) {
	err = row.Scan(&v.ID, &v.DeviceID, &v.DeviceName, &v.Address, &v.CreatedAt, &v.LastUsedAt)
	return v, err
}

const sqlRevoke = `UPDATE sessions SET revoked_at = $3, revoked_for = $4
WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id, device_id`

// revoke ends a session of that user with its device's keys, and tells whether there was a live one.
func (s *store) revoke(ctx context.Context, user wire.UserID, id wire.SessionID, reason string, now time.Time) (found bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, err = revoke(ctx, tx, user, id, reason, now)
		return err
	})
	return found, err
}

func revoke(ctx context.Context, tx pgx.Tx, user wire.UserID, id wire.SessionID, reason string, now time.Time) (bool, error) {
	rows, err := tx.Query(ctx, sqlRevoke, id, user, stamp(now), reason)
	gone, err := endSessions(ctx, tx, user, rows, err)
	if err != nil {
		return false, fmt.Errorf("revoke session: %w", err)
	}
	return len(gone) == 1, nil
}

// endSessions gives the sessions that rows say have ended. Their devices' keys go with them; a session that the same
// device's next login replaces is not ended here, and the device keeps its keys.
func endSessions(ctx context.Context, tx pgx.Tx, user wire.UserID, rows pgx.Rows, err error) (gone []wire.SessionID, _ error) {
	if err != nil {
		return nil, err
	}
	var id wire.SessionID
	var device wire.DeviceID
	var devices []wire.DeviceID
	_, err = pgx.ForEachRow(rows, []any{&id, &device}, func() error {
		gone, devices = append(gone, id), append(devices, device)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, keys.Forget(ctx, tx, user, devices)
}

const sqlRevokeAll = `UPDATE sessions SET revoked_at = $3, revoked_for = $4
WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL RETURNING id, device_id`

// noSession is no session's id: keeping it keeps none.
const noSession = wire.SessionID("00000000-0000-0000-0000-000000000000")

func revokeAll(ctx context.Context, tx pgx.Tx, user wire.UserID, but wire.SessionID, reason string, now time.Time) ([]wire.SessionID, error) {
	rows, err := tx.Query(ctx, sqlRevokeAll, user, but, stamp(now), reason)
	gone, err := endSessions(ctx, tx, user, rows, err)
	if err != nil {
		return nil, fmt.Errorf("revoke sessions: %w", err)
	}
	return gone, nil
}
