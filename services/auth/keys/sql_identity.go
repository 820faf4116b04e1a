package keys

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/wire"
)

const (
	sqlPutIdentity = `INSERT INTO key_identities (user_id, usage, public_key, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, usage) DO UPDATE SET public_key = excluded.public_key, body = excluded.body`
	sqlDropIdentity   = `DELETE FROM key_identities WHERE user_id = $1 AND usage = $2`
	sqlDropSignatures = `DELETE FROM key_signatures WHERE (user_id = $1 AND target = $2) OR (signer_id = $1 AND signer_key = $3)`
)

// putIdentity writes what an upload changes, and tells whether it did. It fails with errReplaces where a key would be
// replaced and nobody confirmed that.
func (s *store) putIdentity(ctx context.Context, caller wire.Session, uploaded identity, confirmed bool) (changed bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		changed = false
		if _, err := deviceOf(ctx, tx, caller); err != nil {
			return err
		}
		me := []wire.UserID{caller.UserID}
		there, err := identitiesOf(ctx, tx, me)
		if err != nil {
			return err
		}
		devices, err := devicesOf(ctx, tx, me)
		if err != nil {
			return err
		}
		r, err := there[caller.UserID].replace(uploaded, caller.UserID, devices)
		if err != nil {
			return err
		}
		if r.replaces && !confirmed {
			return errReplaces
		}
		changed = len(r.put) > 0
		return carryOut(ctx, tx, caller.UserID, r)
	})
	return changed, err
}

func carryOut(ctx context.Context, tx pgx.Tx, user wire.UserID, r replacement) error {
	for _, key := range r.removed {
		if _, err := tx.Exec(ctx, sqlDropIdentity, user, key.usage); err != nil {
			return fmt.Errorf("drop identity key: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlDropSignatures, user, keyTarget(key.public), ed25519Prefix+key.public); err != nil {
			return fmt.Errorf("drop signatures: %w", err)
		}
	}
	for _, key := range r.put {
		if _, err := tx.Exec(ctx, sqlPutIdentity, user, key.usage, key.public, key.body); err != nil {
			return fmt.Errorf("store identity key: %w", err)
		}
	}
	if len(r.put) == 0 {
		return nil
	}
	return markChanged(ctx, tx, user)
}
