package keys

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/wire"
)

// uploaded is what became of an upload.
type uploaded struct {
	left    int  // one-time keys, not claimed
	changed bool // the device's own keys are new
}

func (s *store) upload(ctx context.Context, caller wire.Session, u upload, now time.Time) (result uploaded, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		result = uploaded{}
		d, err := deviceOf(ctx, tx, caller)
		if err != nil {
			return err
		}
		key, changed, err := putDeviceKeys(ctx, tx, caller, d, u.device)
		if err != nil {
			return err
		}
		result.changed = changed
		if u.needsDevice() {
			if err := putSigned(ctx, tx, caller, key, u, now); err != nil {
				return err
			}
		}
		if changed {
			if err := markChanged(ctx, tx, caller.UserID); err != nil {
				return err
			}
		}
		result.left, err = countOneTime(ctx, tx, caller)
		return err
	})
	return result, err
}

const sqlPutDeviceKeys = `UPDATE key_devices SET device_keys = $3 WHERE user_id = $1 AND device_id = $2 AND device_keys IS NULL`

// putDeviceKeys stores the keys of a device that has none yet, and gives the key it signs with, if it has one.
func putDeviceKeys(ctx context.Context, tx pgx.Tx, caller wire.Session, d device, uploaded *deviceKeys) (key ed25519.PublicKey, changed bool, err error) {
	if d.keys != nil {
		stored, err := parseSigned([]byte(*d.keys))
		if err != nil {
			return nil, false, fmt.Errorf("read stored device keys: %w", err)
		}
		if uploaded != nil && uploaded.core != stored.core {
			return nil, false, immutable()
		}
		key, err = signingKey(stored, caller.DeviceID)
		return key, false, err
	}
	if uploaded == nil {
		return nil, false, nil
	}
	if _, err := tx.Exec(ctx, sqlPutDeviceKeys, caller.UserID, caller.DeviceID, uploaded.body); err != nil {
		return nil, false, fmt.Errorf("store device keys: %w", err)
	}
	return uploaded.key, true, nil
}

// putSigned stores what the device must have signed.
func putSigned(ctx context.Context, tx pgx.Tx, caller wire.Session, key ed25519.PublicKey, u upload, now time.Time) error {
	if key == nil {
		return noDeviceKeys()
	}
	if err := u.signedBy(caller, key); err != nil {
		return err
	}
	if err := putOneTime(ctx, tx, caller, u.oneTime, now); err != nil {
		return err
	}
	return putFallback(ctx, tx, caller, u.fallback)
}

// A claimed key's row stays as long as its device: the same key uploaded again, by a client that missed the answer,
// must not be handed out twice.
const (
	sqlOtherOneTime = `SELECT count(*) FROM key_one_time k JOIN unnest($3::text[], $4::text[]) AS n (key_id, body) ON k.key_id = n.key_id
WHERE k.user_id = $1 AND k.device_id = $2 AND k.body <> n.body`
	sqlInsertOneTime = `INSERT INTO key_one_time (user_id, device_id, key_id, body, uploaded_at)
SELECT $1::uuid, $2::text, n.key_id, n.body, $5::timestamptz FROM unnest($3::text[], $4::text[]) AS n (key_id, body)
ON CONFLICT (user_id, device_id, key_id) DO NOTHING`
	sqlCountOneTime = `SELECT count(*) FROM key_one_time WHERE user_id = $1 AND device_id = $2 AND claimed_at IS NULL`
)

func putOneTime(ctx context.Context, tx pgx.Tx, caller wire.Session, keys []oneTimeKey, now time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	var ids, bodies []string
	for _, k := range keys {
		ids, bodies = append(ids, k.id), append(bodies, k.body)
	}
	var others int
	if err := tx.QueryRow(ctx, sqlOtherOneTime, caller.UserID, caller.DeviceID, ids, bodies).Scan(&others); err != nil {
		return fmt.Errorf("compare one-time keys: %w", err)
	}
	if others > 0 {
		return keyExists()
	}
	if _, err := tx.Exec(ctx, sqlInsertOneTime, caller.UserID, caller.DeviceID, ids, bodies, stamp(now)); err != nil {
		return fmt.Errorf("store one-time keys: %w", err)
	}
	left, err := countOneTime(ctx, tx, caller)
	if err == nil && left > maxOneTime {
		return tooManyKeys()
	}
	return err
}

func countOneTime(ctx context.Context, tx pgx.Tx, caller wire.Session) (left int, err error) {
	if err := tx.QueryRow(ctx, sqlCountOneTime, caller.UserID, caller.DeviceID).Scan(&left); err != nil {
		return 0, fmt.Errorf("count one-time keys: %w", err)
	}
	return left, nil
}

// The same key again stays used where it was.
const sqlPutFallback = `INSERT INTO key_fallback (user_id, device_id, key_id, body, used) VALUES ($1, $2, $3, $4, false)
ON CONFLICT (user_id, device_id) DO UPDATE SET key_id = excluded.key_id, body = excluded.body, used = false
WHERE key_fallback.key_id <> excluded.key_id OR key_fallback.body <> excluded.body`

func putFallback(ctx context.Context, tx pgx.Tx, caller wire.Session, key *oneTimeKey) error {
	if key == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, sqlPutFallback, caller.UserID, caller.DeviceID, key.id, key.body); err != nil {
		return fmt.Errorf("store fallback key: %w", err)
	}
	return nil
}
