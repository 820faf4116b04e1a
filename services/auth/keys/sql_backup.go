package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// The row of a deleted backup stays, so that its number is not given again.
const (
	sqlBackupNumbers = `SELECT COALESCE(MAX(version), 0), count(*) FILTER (WHERE deleted_at IS NULL) FROM key_backups WHERE user_id = $1`
	sqlInsertBackup  = `INSERT INTO key_backups (user_id, version, algorithm, auth_data, etag, count) VALUES ($1, $2, $3, $4, 0, 0)`
)

func (s *store) newBackup(ctx context.Context, user wire.UserID, algorithm, authData string) (version int64, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var live int
		if err := tx.QueryRow(ctx, sqlBackupNumbers, user).Scan(&version, &live); err != nil {
			return fmt.Errorf("number a backup: %w", err)
		}
		if live >= maxBackups {
			return tooManyBackups()
		}
		version++
		if _, err := tx.Exec(ctx, sqlInsertBackup, user, version, algorithm, authData); err != nil {
			return fmt.Errorf("insert backup: %w", err)
		}
		return nil
	})
	return version, err
}

const sqlBackup = `SELECT version, algorithm, auth_data, etag, count FROM key_backups
WHERE user_id = $1 AND deleted_at IS NULL AND (version = $2 OR $2 = 0) ORDER BY version DESC LIMIT 1`

// backup is that version, or the current one for 0.
func (s *store) backup(ctx context.Context, user wire.UserID, version int64) (state wire.BackupState, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		state, err = scanBackup(q.QueryRow(ctx, sqlBackup, user, version))
		return err
	})
	return state, err
}

func scanBackup(row pgx.Row) (state wire.BackupState, err error) {
	var version, etag int64
	var authData string
	err = row.Scan(&version, &state.Algorithm, &authData, &etag, &state.Count)
	if sqlstore.NoRows(err) {
		return state, noBackup(err)
	}
	if err != nil {
		return state, fmt.Errorf("find backup: %w", err)
	}
	state.Version, state.ETag, state.AuthData = strconv.FormatInt(version, 10), strconv.FormatInt(etag, 10), json.RawMessage(authData)
	return state, nil
}

const (
	sqlDeleteBackup     = `UPDATE key_backups SET deleted_at = now(), auth_data = '{}' WHERE user_id = $1 AND version = $2 AND deleted_at IS NULL`
	sqlDeleteBackupKeys = `DELETE FROM key_backup_keys WHERE user_id = $1 AND version = $2`
)

func (s *store) removeBackup(ctx context.Context, user wire.UserID, version int64) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlDeleteBackup, user, version)
		if err != nil {
			return fmt.Errorf("delete backup: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return noBackup(nil)
		}
		if _, err := tx.Exec(ctx, sqlDeleteBackupKeys, user, version); err != nil {
			return fmt.Errorf("delete backup keys: %w", err)
		}
		return nil
	})
}

const (
	sqlPutBackupKeys = `INSERT INTO key_backup_keys AS k
(user_id, version, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
SELECT $1::uuid, $2::bigint, n.room_id, n.session_id, n.first_message_index, n.forwarded_count, n.is_verified, n.session_data
FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bool[], $8::text[])
AS n (room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE SET
	first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
	is_verified = excluded.is_verified, session_data = excluded.session_data
WHERE (excluded.is_verified AND NOT k.is_verified)
OR (excluded.is_verified = k.is_verified AND (excluded.first_message_index < k.first_message_index
	OR (excluded.first_message_index = k.first_message_index AND excluded.forwarded_count < k.forwarded_count)))`
	sqlCountBackup = `SELECT count(*) FROM key_backup_keys WHERE user_id = $1 AND version = $2`
	sqlTouchBackup = `UPDATE key_backups SET etag = etag + 1, count = $3 WHERE user_id = $1 AND version = $2
RETURNING version, algorithm, auth_data, etag, count`
)

func (s *store) putBackup(ctx context.Context, user wire.UserID, version int64, rows []backupRow) (stored wire.BackupStored, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		current, err := scanBackup(tx.QueryRow(ctx, sqlBackup, user, 0))
		if err != nil {
			return err
		}
		if current.Version != strconv.FormatInt(version, 10) {
			return otherBackup()
		}
		changed, err := putBackupKeys(ctx, tx, user, version, rows)
		if err == nil && changed {
			current, err = touchBackup(ctx, tx, user, version)
		}
		stored = wire.BackupStored{Count: current.Count, ETag: current.ETag}
		return err
	})
	return stored, err
}

func putBackupKeys(ctx context.Context, tx pgx.Tx, user wire.UserID, version int64, rows []backupRow) (changed bool, err error) {
	var rooms, sessions, data []string
	var indexes, forwards []int64
	var verified []bool
	for _, row := range rows {
		rooms, sessions, data = append(rooms, row.room), append(sessions, row.session), append(data, string(row.key.SessionData))
		indexes, forwards = append(indexes, row.key.FirstMessageIndex), append(forwards, row.key.ForwardedCount)
		verified = append(verified, row.key.IsVerified)
	}
	tag, err := tx.Exec(ctx, sqlPutBackupKeys, user, version, rooms, sessions, indexes, forwards, verified, data)
	if err != nil {
		return false, fmt.Errorf("store backup keys: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

func touchBackup(ctx context.Context, tx pgx.Tx, user wire.UserID, version int64) (wire.BackupState, error) {
	var n int
	if err := tx.QueryRow(ctx, sqlCountBackup, user, version).Scan(&n); err != nil {
		return wire.BackupState{}, fmt.Errorf("count backup keys: %w", err)
	}
	if n > maxBackupKeys {
		return wire.BackupState{}, backupFull()
	}
	return scanBackup(tx.QueryRow(ctx, sqlTouchBackup, user, version, n))
}

const sqlBackupPage = `SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data FROM key_backup_keys
WHERE user_id = $1 AND version = $2 AND (room_id = $3 OR $3 = '') AND (session_id = $4 OR $4 = '') AND (room_id, session_id) > ($5, $6)
ORDER BY room_id, session_id LIMIT $7`

func (s *store) backupPage(ctx context.Context, user wire.UserID, version int64, room, session string, after backupRow) (page []backupRow, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlBackupPage, user, version, room, session, after.room, after.session, backupPage)
		if err != nil {
			return fmt.Errorf("read backup: %w", err)
		}
		page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r backupRow, err error) {
			var data string
			err = row.Scan(&r.room, &r.session, &r.key.FirstMessageIndex, &r.key.ForwardedCount, &r.key.IsVerified, &data)
			r.key.SessionData = json.RawMessage(data)
			return r, err
		})
		return err
	})
	return page, err
}
