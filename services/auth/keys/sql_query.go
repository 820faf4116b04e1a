package keys

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/wire"
)

const (
	sqlDevicesOf    = `SELECT user_id, device_id, device_keys FROM key_devices WHERE user_id = ANY($1::uuid[]) AND device_keys IS NOT NULL`
	sqlIdentitiesOf = `SELECT user_id, usage, public_key, body FROM key_identities WHERE user_id = ANY($1::uuid[])`
	sqlSignaturesOf = `SELECT user_id, target, signer_id, signer_key, signature FROM key_signatures
WHERE user_id = ANY($1::uuid[]) AND (signer_id = user_id OR signer_id = $2)`
)

// directory is what caller may see of users.
func (s *store) directory(ctx context.Context, caller wire.UserID, users []wire.UserID) (d directory, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if d.devices, err = devicesOf(ctx, tx, users); err != nil {
			return err
		}
		if d.identities, err = identitiesOf(ctx, tx, users); err != nil {
			return err
		}
		d.signatures, err = signaturesOf(ctx, tx, caller, users)
		return err
	})
	return d, err
}

func devicesOf(ctx context.Context, tx pgx.Tx, users []wire.UserID) (map[place]signed, error) {
	rows, err := tx.Query(ctx, sqlDevicesOf, users)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	devices := map[place]signed{}
	var p place
	var body string
	_, err = pgx.ForEachRow(rows, []any{&p.user, &p.device, &body}, func() error {
		devices[p], err = parseSigned([]byte(body))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	return devices, nil
}

func identitiesOf(ctx context.Context, tx pgx.Tx, users []wire.UserID) (map[wire.UserID]identity, error) {
	rows, err := tx.Query(ctx, sqlIdentitiesOf, users)
	if err != nil {
		return nil, fmt.Errorf("list identities: %w", err)
	}
	identities := map[wire.UserID]identity{}
	var user wire.UserID
	var key identityKey
	_, err = pgx.ForEachRow(rows, []any{&user, &key.usage, &key.public, &key.body}, func() error {
		key.signed, err = parseSigned([]byte(key.body))
		if identities[user] == nil {
			identities[user] = identity{}
		}
		identities[user][key.usage] = key
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	return identities, nil
}

func signaturesOf(ctx context.Context, tx pgx.Tx, caller wire.UserID, users []wire.UserID) ([]signature, error) {
	rows, err := tx.Query(ctx, sqlSignaturesOf, users, caller)
	if err != nil {
		return nil, fmt.Errorf("list signatures: %w", err)
	}
	signatures, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s signature, err error) {
		err = row.Scan(&s.user, &s.target, &s.signer, &s.key, &s.text)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	return signatures, nil
}
