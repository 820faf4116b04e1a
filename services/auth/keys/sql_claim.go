package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Two that choose the same key at the same time cannot both commit: the later one is told to try again, and then finds
// it claimed (SERIALIZABLE; and the condition is looked at again on the row itself).
const (
	sqlClaimOneTime = `UPDATE key_one_time AS k SET claimed_at = $3
FROM unnest($1::uuid[], $2::text[]) AS asked (user_id, device_id)
CROSS JOIN LATERAL (
	SELECT o.key_id FROM key_one_time o
	WHERE o.user_id = asked.user_id AND o.device_id = asked.device_id AND o.claimed_at IS NULL
	ORDER BY o.uploaded_at, o.key_id LIMIT 1
) AS chosen
WHERE k.user_id = asked.user_id AND k.device_id = asked.device_id AND k.key_id = chosen.key_id AND k.claimed_at IS NULL
RETURNING k.user_id, k.device_id, k.key_id, k.body`
	sqlFallbacks = `SELECT f.user_id, f.device_id, f.key_id, f.body FROM key_fallback f
JOIN unnest($1::uuid[], $2::text[]) AS asked (user_id, device_id) ON f.user_id = asked.user_id AND f.device_id = asked.device_id`
	sqlUseFallbacks = `UPDATE key_fallback AS f SET used = true
FROM unnest($1::uuid[], $2::text[]) AS asked (user_id, device_id)
WHERE f.user_id = asked.user_id AND f.device_id = asked.device_id AND NOT f.used`
)

// claim takes a one-time key of each of oneTime, and the fallback key of the rest of asked.
func (s *store) claim(ctx context.Context, oneTime, asked []place, now time.Time) (keys []claimed, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		users, devices := columns(oneTime)
		keys, err = claimedKeys(tx.Query(ctx, sqlClaimOneTime, users, devices, stamp(now)))
		if err != nil {
			return fmt.Errorf("claim one-time keys: %w", err)
		}
		rest := without(asked, keys)
		if len(rest) == 0 {
			return nil
		}
		users, devices = columns(rest)
		fallbacks, err := claimedKeys(tx.Query(ctx, sqlFallbacks, users, devices))
		if err != nil {
			return fmt.Errorf("find fallback keys: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlUseFallbacks, users, devices); err != nil {
			return fmt.Errorf("use fallback keys: %w", err)
		}
		keys = append(keys, fallbacks...)
		return nil
	})
	return keys, err
}

func claimedKeys(rows pgx.Rows, err error) ([]claimed, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claimed, err error) {
		err = row.Scan(&c.user, &c.device, &c.id, &c.body)
		return c, err
	})
}

// without is asked without the devices of keys.
func without(asked []place, keys []claimed) (rest []place) {
	served := map[place]bool{}
	for _, key := range keys {
		served[key.place] = true
	}
	for _, p := range asked {
		if !served[p] {
			rest = append(rest, p)
		}
	}
	return rest
}
