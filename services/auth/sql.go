package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// store keeps accounts and sessions in SQL. One method is one transaction; kinds are given where the meaning is known,
// everything else is the store's own trouble.
type store struct {
	db *sqlstore.Store
}

// stamp is a time as the store keeps it, so that what is answered now equals what is read later.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func noUser(op string, cause error) error {
	return apperr.E(op, apperr.NotFound, "There is no such user.", cause, apperr.Code("no_such_user"))
}

const sqlAccountForLogin = `SELECT u.id, u.username, u.display_name, u.created_at, u.expires_at, u.password_hash,
	u.disabled_at IS NULL AND (u.expires_at IS NULL OR u.expires_at > $3),
	EXISTS (SELECT 1 FROM known_addresses k WHERE k.user_id = u.id AND k.address = $2)
FROM users u WHERE u.username = $1`

// accountForLogin gives the zero account for a name that nobody has.
func (s *store) accountForLogin(ctx context.Context, username, addressClass string, now time.Time) (account, error) {
	var a account
	err := s.db.Single(ctx, func(q sqlstore.Querier) error {
		return q.QueryRow(ctx, sqlAccountForLogin, username, addressClass, now).Scan(
			&a.user.ID, &a.user.Username, &a.user.DisplayName, &a.user.CreatedAt, &a.user.ExpiresAt,
			&a.passwordHash, &a.active, &a.addressKnown)
	})
	if sqlstore.NoRows(err) {
		return account{}, nil
	}
	if err != nil {
		return account{}, fmt.Errorf("find account: %w", err)
	}
	return a, nil
}

const sqlReplaceHash = `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`

// replaceHash does nothing where the password was changed meanwhile.
func (s *store) replaceHash(ctx context.Context, id wire.UserID, old, replacement string) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		if _, err := q.Exec(ctx, sqlReplaceHash, id, old, replacement); err != nil {
			return fmt.Errorf("replace password hash: %w", err)
		}
		return nil
	})
}

const sqlInviteGood = `SELECT 1 FROM invites WHERE hash = $1 AND uses_left > 0 AND expires_at > $2`

func (s *store) inviteGood(ctx context.Context, invite []byte, now time.Time) error {
	err := s.db.Single(ctx, func(q sqlstore.Querier) error {
		var one int
		return q.QueryRow(ctx, sqlInviteGood, invite, now).Scan(&one)
	})
	if sqlstore.NoRows(err) {
		return badInvite(nil)
	}
	if err != nil {
		return fmt.Errorf("find invite: %w", err)
	}
	return nil
}

func badInvite(cause error) error {
	return apperr.E("auth.invite", apperr.Forbidden, "You need a valid invite to register.", cause, apperr.Code("invite_invalid"))
}

const (
	sqlUseInvite = `UPDATE invites SET uses_left = uses_left - 1
WHERE hash = $1 AND uses_left > 0 AND expires_at > $2`
	sqlInsertUser = `INSERT INTO users (id, username, display_name, password_hash, expires_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)`
)

// register uses the invite up, where there is one, and makes the account: both or neither.
func (s *store) register(ctx context.Context, user wire.User, hash string, invite []byte) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if invite != nil {
			tag, err := tx.Exec(ctx, sqlUseInvite, invite, user.CreatedAt)
			if err != nil {
				return fmt.Errorf("use invite: %w", err)
			}
			if tag.RowsAffected() == 0 {
				return badInvite(nil)
			}
		}
		return insertUser(ctx, tx, user, hash)
	})
}

func insertUser(ctx context.Context, tx pgx.Tx, user wire.User, hash string) error {
	_, err := tx.Exec(ctx, sqlInsertUser, user.ID, user.Username, user.DisplayName, hash, user.ExpiresAt, user.CreatedAt)
	if sqlstore.UniqueViolation(err) {
		return apperr.E("auth.insertUser", apperr.Conflict, "That username is taken.", err, apperr.Code("username_taken"))
	}
	if err != nil {
		return fmt.Errorf("insert user: %w", err)
	}
	return nil
}

const sqlUser = `SELECT id, username, display_name, created_at, expires_at, password_hash FROM users WHERE id = $1`

func (s *store) user(ctx context.Context, id wire.UserID) (wire.User, error) {
	user, _, err := s.userWithHash(ctx, id)
	return user, err
}

func (s *store) userWithHash(ctx context.Context, id wire.UserID) (user wire.User, hash string, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		user, hash, err = scanUser(q.QueryRow(ctx, sqlUser, id))
		return err
	})
	return user, hash, err
}

// scanUser gives NotFound for no row.
func scanUser(row pgx.Row) (user wire.User, hash string, err error) {
	err = row.Scan(&user.ID, &user.Username, &user.DisplayName, &user.CreatedAt, &user.ExpiresAt, &hash)
	if sqlstore.NoRows(err) {
		return wire.User{}, "", noUser("auth.user", err)
	}
	if err != nil {
		return wire.User{}, "", fmt.Errorf("find user: %w", err)
	}
	return user, hash, nil
}

const sqlRename = `UPDATE users SET display_name = $2, updated_at = $3 WHERE id = $1
RETURNING id, username, display_name, created_at, expires_at, password_hash`

func (s *store) rename(ctx context.Context, id wire.UserID, name string, now time.Time) (user wire.User, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		user, _, err = scanUser(q.QueryRow(ctx, sqlRename, id, name, now))
		return err
	})
	return user, err
}

// #nosec G101 -- a statement
const sqlChangePassword = `UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2`

// changePassword sets a new hash in place of old and ends all sessions but the caller's. Who was overtaken by another
// change is told by Conflict; whose own session has ended meanwhile, by Unauthenticated.
func (s *store) changePassword(ctx context.Context, caller wire.Session, old, replacement string, now time.Time) (gone []wire.SessionID, err error) {
	const op = "auth.changePassword"
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		live, err := sessionLive(ctx, tx, caller.SessionID, now)
		if err != nil {
			return err
		}
		if !live {
			return ended(op)
		}
		tag, err := tx.Exec(ctx, sqlChangePassword, caller.UserID, old, replacement, now)
		if err != nil {
			return fmt.Errorf("change password: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return apperr.E(op, apperr.Conflict, "The password was changed meanwhile.", nil, apperr.Code("password_changed"))
		}
		gone, err = revokeAll(ctx, tx, caller.UserID, caller.SessionID, forPassword, now)
		return err
	})
	return gone, err
}

const (
	sqlLiveSessionIDs = `SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL`
	sqlDeleteUser     = `DELETE FROM users WHERE id = $1`
)

// removeUser deletes the account; sessions, tokens, known addresses and public keys go with it.
func (s *store) removeUser(ctx context.Context, id wire.UserID) (gone []wire.SessionID, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		gone, err = deleteUser(ctx, tx, id)
		return err
	})
	return gone, err
}

func deleteUser(ctx context.Context, tx pgx.Tx, id wire.UserID) ([]wire.SessionID, error) {
	gone, err := sessionIDs(tx.Query(ctx, sqlLiveSessionIDs, id))
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	if err := keys.ForgetUser(ctx, tx, id); err != nil {
		return nil, err
	}
	tag, err := tx.Exec(ctx, sqlDeleteUser, id)
	if err != nil {
		return nil, fmt.Errorf("delete user: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil, noUser("auth.deleteUser", nil)
	}
	return gone, nil
}

func sessionIDs(rows pgx.Rows, err error) ([]wire.SessionID, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[wire.SessionID])
}

const sqlTablesThere = `SELECT count(*) FROM (SELECT id FROM users LIMIT 1) AS one`

// ready fails while the migrations have not run.
func (s *store) ready(ctx context.Context) error { return s.db.Holds(ctx, sqlTablesThere) }
