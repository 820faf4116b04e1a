package keys

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// What has had its day, a bounded piece at a time so that no transaction grows long.
const (
	sqlLostDevices = `SELECT user_id, device_id FROM key_devices d WHERE NOT EXISTS (
	SELECT 1 FROM sessions s WHERE s.user_id = d.user_id AND s.device_id = d.device_id AND s.revoked_at IS NULL AND s.expires_at > $1
) LIMIT 100`
	sqlExpiredEvents = `SELECT user_id, device_id, MAX(number) FROM key_inbox WHERE queued_at < $1 GROUP BY user_id, device_id LIMIT 100`
	sqlSweepSent     = `DELETE FROM key_sent WHERE (user_id, device_id, txn) IN (
	SELECT user_id, device_id, txn FROM key_sent WHERE sent_at < $1 LIMIT 1000)`
	sqlSweepTracking = `DELETE FROM key_tracking WHERE (user_id, tracked_id) IN (
	SELECT t.user_id, t.tracked_id FROM key_tracking t JOIN key_changes c ON c.user_id = t.tracked_id
	WHERE c.gone AND c.changed_at < $1 LIMIT 1000)`
	sqlSweepGone = `DELETE FROM key_changes c WHERE c.gone AND c.changed_at < $1
AND NOT EXISTS (SELECT 1 FROM key_tracking t WHERE t.tracked_id = c.user_id)`
)

// sweepDevices forgets devices without a live session: those whose session ran out.
func (s *store) sweepDevices(ctx context.Context, now time.Time) (users []wire.UserID, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		lost, err := places(tx.Query(ctx, sqlLostDevices, now))
		if err != nil {
			return fmt.Errorf("find devices without a session: %w", err)
		}
		sortPlaces(lost)
		users = usersOf(lost)
		for _, p := range lost {
			if err := Forget(ctx, tx, p.user, []wire.DeviceID{p.device}); err != nil {
				return err
			}
		}
		return nil
	})
	return users, err
}

// sweepEvents drops events that waited too long. They are the first of their queues.
func (s *store) sweepEvents(ctx context.Context, now time.Time) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlExpiredEvents, stamp(now.Add(-queuedFor)))
		if err != nil {
			return fmt.Errorf("find expired events: %w", err)
		}
		last := map[place]int64{}
		var p place
		var number int64
		_, err = pgx.ForEachRow(rows, []any{&p.user, &p.device, &number}, func() error {
			last[p] = number
			return nil
		})
		if err != nil {
			return fmt.Errorf("find expired events: %w", err)
		}
		for p, number := range last {
			if err := dropEvents(ctx, tx, p, number); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepNotes drops transaction ids that nobody repeats any more, and deleted accounts that everybody has heard of.
func (s *store) sweepNotes(ctx context.Context, now time.Time) error {
	for _, statement := range []string{sqlSweepSent, sqlSweepTracking, sqlSweepGone} {
		err := s.db.Single(ctx, func(q sqlstore.Querier) error {
			_, err := q.Exec(ctx, statement, now.Add(-queuedFor))
			return err
		})
		if err != nil {
			return fmt.Errorf("sweep notes: %w", err)
		}
	}
	return nil
}
