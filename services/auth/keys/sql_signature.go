package keys

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/wire"
)

// signaturesPut is what became of an upload of signatures.
type signaturesPut struct {
	failures map[*signatureUpload]wire.SignatureFailure
	changed  []wire.UserID
}

// The same signature again changes nothing.
const sqlPutSignature = `INSERT INTO key_signatures (user_id, target, signer_id, signer_key, signature) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, target, signer_id, signer_key) DO NOTHING`

// putSignatures judges signatures by the keys that are there, and takes the good ones.
func (s *store) putSignatures(ctx context.Context, caller wire.Session, uploads []*signatureUpload) (result signaturesPut, err error) {
	users := []wire.UserID{caller.UserID}
	for _, upload := range uploads {
		users = append(users, upload.user)
	}
	slices.Sort(users)
	users = slices.Compact(users)
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		result = signaturesPut{}
		d := directory{}
		if _, err := deviceOf(ctx, tx, caller); err != nil {
			return err
		}
		if d.devices, err = devicesOf(ctx, tx, users); err != nil {
			return err
		}
		if d.identities, err = identitiesOf(ctx, tx, users); err != nil {
			return err
		}
		j := d.judge(caller.UserID, uploads)
		result.failures = j.failures
		result.changed, err = insertSignatures(ctx, tx, j.good)
		return err
	})
	return result, err
}

func insertSignatures(ctx context.Context, tx pgx.Tx, good []signature) (changed []wire.UserID, err error) {
	for _, s := range good {
		tag, err := tx.Exec(ctx, sqlPutSignature, s.user, s.target, s.signer, s.key, s.text)
		if err != nil {
			return nil, fmt.Errorf("store signature: %w", err)
		}
		if tag.RowsAffected() == 1 && !slices.Contains(changed, s.user) {
			changed = append(changed, s.user)
		}
	}
	for _, user := range changed {
		if err := markChanged(ctx, tx, user); err != nil {
			return nil, err
		}
	}
	return changed, nil
}
