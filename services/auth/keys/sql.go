package keys

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// store keeps the directory in SQL. One method is one transaction unless it says otherwise.
type store struct {
	db *sqlstore.Store
}

// stamp is a time as the store keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

const sqlTablesThere = `SELECT count(*) FROM (SELECT session_id FROM key_backup_keys LIMIT 1) AS one`

// ready fails while the migrations have not run.
func (s *store) ready(ctx context.Context) error { return s.db.Holds(ctx, sqlTablesThere) }

// device is the directory's row of a device. The incarnation tells it from one that had the same id before.
type device struct {
	incarnation string
	keys        *string
	inboxHead   int64
	inboxGone   int64
}

// A device enters with its first request. Its session is looked at in the same transaction: one that is ending right
// now leaves no device behind. These are the only statements that read auth's tables, beside those of a sweep and of
// tracking.
const (
	sqlDevice = `SELECT incarnation, device_keys, inbox_head, inbox_gone FROM key_devices WHERE user_id = $1 AND device_id = $2`
	// #nosec G101 -- a statement
	sqlEnterDevice = `INSERT INTO key_devices (user_id, device_id, incarnation, inbox_head, inbox_gone, created_at)
SELECT user_id, device_id, $4::text, 0, 0, now() FROM sessions
WHERE id = $3 AND user_id = $1 AND device_id = $2 AND revoked_at IS NULL
RETURNING incarnation, device_keys, inbox_head, inbox_gone`
	sqlCountDevices = `SELECT count(*) FROM key_devices WHERE user_id = $1`
)

// deviceOf gives the caller's device, entered if need be.
func deviceOf(ctx context.Context, tx pgx.Tx, caller wire.Session) (device, error) {
	d, err := scanDevice(tx.QueryRow(ctx, sqlDevice, caller.UserID, caller.DeviceID))
	if !sqlstore.NoRows(err) {
		return d, err
	}
	var n int
	if err := tx.QueryRow(ctx, sqlCountDevices, caller.UserID).Scan(&n); err != nil {
		return device{}, fmt.Errorf("count devices: %w", err)
	}
	if n >= maxDevices {
		return device{}, apperr.E("keys.deviceOf", apperr.Conflict, "You have too many devices. Log out on some.", nil, apperr.Code("too_many_devices"))
	}
	d, err = scanDevice(tx.QueryRow(ctx, sqlEnterDevice, caller.UserID, caller.DeviceID, caller.SessionID, rand.Text()))
	if sqlstore.NoRows(err) {
		return device{}, apperr.E("keys.deviceOf", apperr.Unauthenticated, "The session has ended. Log in again.", nil, apperr.Code("session_ended"))
	}
	return d, err
}

func scanDevice(row pgx.Row) (d device, err error) {
	if err := row.Scan(&d.incarnation, &d.keys, &d.inboxHead, &d.inboxGone); err != nil {
		return device{}, fmt.Errorf("find device: %w", err)
	}
	return d, nil
}

// place is one device among all.
type place struct {
	user   wire.UserID
	device wire.DeviceID
}

// columns are places as the two arrays that a statement unnests.
func columns(places []place) (users []wire.UserID, devices []wire.DeviceID) {
	for _, p := range places {
		users, devices = append(users, p.user), append(devices, p.device)
	}
	return users, devices
}
