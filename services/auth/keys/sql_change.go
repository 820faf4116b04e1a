package keys

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// Every change of a user's public keys takes the next number of one row, and keeps that row's lock until it commits.
// So nobody has number n+1 before n is committed or given back: who reads head n sees all changes up to n, there is no
// hole that a slower writer could fill afterwards, and a reader may remember n as "everything until here".
// A user has one row, of the latest change: an earlier one says nothing more.
const (
	sqlNextChange = `INSERT INTO key_change_head (id, number) VALUES (1, 1)
ON CONFLICT (id) DO UPDATE SET number = key_change_head.number + 1 RETURNING number`
	sqlPutChange = `INSERT INTO key_changes (user_id, number, gone, changed_at) VALUES ($1, $2, $3, now())
ON CONFLICT (user_id) DO UPDATE SET number = excluded.number, gone = excluded.gone, changed_at = excluded.changed_at`
)

func markChanged(ctx context.Context, tx pgx.Tx, user wire.UserID) error {
	return putChange(ctx, tx, user, false)
}

func putChange(ctx context.Context, tx pgx.Tx, user wire.UserID, gone bool) error {
	var number int64
	if err := tx.QueryRow(ctx, sqlNextChange).Scan(&number); err != nil {
		return fmt.Errorf("number a change: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlPutChange, user, number, gone); err != nil {
		return fmt.Errorf("note a change: %w", err)
	}
	return nil
}

const (
	sqlForgetDevices = `DELETE FROM key_devices WHERE user_id = $1 AND device_id = ANY($2::text[]) RETURNING device_keys IS NOT NULL`
	// #nosec G101 -- a statement
	sqlForgetSignatures = `DELETE FROM key_signatures WHERE user_id = $1 AND (target = ANY($2::text[]) OR signer_id = $1 AND signer_key = ANY($3::text[]))`
)

// Forget removes the keys and queues of devices whose sessions end, in the transaction that ends them. Others see the
// user changed. A device that lives on in another session is not to be among them.
func Forget(ctx context.Context, tx pgx.Tx, user wire.UserID, devices []wire.DeviceID) error {
	if len(devices) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, sqlForgetDevices, user, devices)
	if err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	for _, hadKeys := range known {
		if hadKeys {
			return forgetSigned(ctx, tx, user, devices)
		}
	}
	return nil
}

func forgetSigned(ctx context.Context, tx pgx.Tx, user wire.UserID, devices []wire.DeviceID) error {
	var targets, signers []string
	for _, device := range devices {
		targets, signers = append(targets, deviceTarget(device)), append(signers, ed25519Prefix+string(device))
	}
	if _, err := tx.Exec(ctx, sqlForgetSignatures, user, targets, signers); err != nil {
		return fmt.Errorf("forget the devices' signatures: %w", err)
	}
	return markChanged(ctx, tx, user)
}

const sqlChangedBefore = `SELECT EXISTS (SELECT 1 FROM key_changes WHERE user_id = $1)`

// ForgetUser tells those who track a user that the account is going, in the transaction that deletes it. All else the
// account had here goes with its row.
func ForgetUser(ctx context.Context, tx pgx.Tx, user wire.UserID) error {
	var known bool
	if err := tx.QueryRow(ctx, sqlChangedBefore, user).Scan(&known); err != nil {
		return fmt.Errorf("find changes: %w", err)
	}
	if !known {
		return nil
	}
	return putChange(ctx, tx, user, true)
}

// maxTracked bounds the users that one user has asked for.
const maxTracked = 20_000

const (
	sqlTrack = `INSERT INTO key_tracking (user_id, tracked_id) SELECT $1::uuid, id FROM users WHERE id = ANY($2::uuid[])
ON CONFLICT (user_id, tracked_id) DO NOTHING`
	sqlCountTracked = `SELECT count(*) FROM key_tracking WHERE user_id = $1`
	sqlTrackers     = `SELECT DISTINCT user_id FROM key_tracking WHERE tracked_id = ANY($1::uuid[]) LIMIT 5000`
)

// track lets the caller see the changes of users from now on.
func (s *store) track(ctx context.Context, caller wire.UserID, users []wire.UserID) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlTrack, caller, users)
		if err != nil {
			return fmt.Errorf("track users: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		var n int
		if err := tx.QueryRow(ctx, sqlCountTracked, caller).Scan(&n); err != nil {
			return fmt.Errorf("count tracked users: %w", err)
		}
		if n > maxTracked {
			return tooManyTracked()
		}
		return nil
	})
}

// trackers are those who wait for changes of users. Beyond 5000 some learn of it at their next poll.
func (s *store) trackers(ctx context.Context, users []wire.UserID) (concerned []wire.UserID, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlTrackers, users)
		if err != nil {
			return fmt.Errorf("list trackers: %w", err)
		}
		concerned, err = pgx.CollectRows(rows, pgx.RowTo[wire.UserID])
		return err
	})
	return concerned, err
}
