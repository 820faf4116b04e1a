package keys

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const (
	sqlChangeHead  = `SELECT COALESCE(MAX(number), 0) FROM key_change_head WHERE id = 1`
	sqlDropEvents  = `DELETE FROM key_inbox WHERE user_id = $1 AND device_id = $2 AND number <= $3`
	sqlMarkDropped = `UPDATE key_devices SET inbox_gone = $3 WHERE user_id = $1 AND device_id = $2 AND inbox_gone < $3`
)

// acknowledge removes the events that a device has read.
func (s *store) acknowledge(ctx context.Context, caller wire.Session, read position) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		d, err := deviceOf(ctx, tx, caller)
		if err != nil {
			return err
		}
		head, err := changeHead(ctx, tx)
		if err != nil {
			return err
		}
		if err := read.check(d, head); err != nil {
			return err
		}
		if read.inbox <= d.inboxGone {
			return nil
		}
		return dropEvents(ctx, tx, place{caller.UserID, caller.DeviceID}, read.inbox)
	})
}

// dropEvents removes the events up to number, and makes room for as many.
func dropEvents(ctx context.Context, tx pgx.Tx, p place, number int64) error {
	if _, err := tx.Exec(ctx, sqlDropEvents, p.user, p.device, number); err != nil {
		return fmt.Errorf("drop events: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlMarkDropped, p.user, p.device, number); err != nil {
		return fmt.Errorf("drop events: %w", err)
	}
	return nil
}

func changeHead(ctx context.Context, q sqlstore.Querier) (head int64, err error) {
	if err := q.QueryRow(ctx, sqlChangeHead).Scan(&head); err != nil {
		return 0, fmt.Errorf("read the head of changes: %w", err)
	}
	return head, nil
}

// page is what comes after from, all as of one moment.
func (s *store) page(ctx context.Context, caller wire.Session, from position) (page wire.KeysSync, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		d, err := deviceOf(ctx, tx, caller)
		if err != nil {
			return err
		}
		next := position{incarnation: d.incarnation}
		page = wire.KeysSync{}
		if page.ToDevice.Events, next.inbox, err = inboxAfter(ctx, tx, caller, from.inbox); err != nil {
			return err
		}
		if page.DeviceLists, next.changes, err = changesAfter(ctx, tx, caller.UserID, from.changes); err != nil {
			return err
		}
		left, err := countOneTime(ctx, tx, caller)
		if err != nil {
			return err
		}
		page.DeviceOneTimeKeysCount = wire.KeyCounts{algorithm: left}
		page.DeviceUnusedFallbackKeys, err = unusedFallbacks(ctx, tx, caller)
		page.NextBatch = next.String()
		return err
	})
	return page, err
}

const sqlChanges = `SELECT user_id, number, gone FROM key_changes
WHERE number > $2 AND (user_id = $1 OR user_id IN (SELECT tracked_id FROM key_tracking WHERE user_id = $1))
ORDER BY number LIMIT $3`

// changesAfter are the users whose keys changed, and how far the answer reaches: to the head, or to its last entry
// where the page is full.
func changesAfter(ctx context.Context, tx pgx.Tx, caller wire.UserID, after int64) (lists wire.DeviceLists, reached int64, err error) {
	lists = wire.DeviceLists{Changed: []string{}, Left: []string{}}
	head, err := changeHead(ctx, tx)
	if err != nil {
		return lists, 0, err
	}
	if head <= after {
		return lists, after, nil
	}
	rows, err := tx.Query(ctx, sqlChanges, caller, after, pageChanges)
	if err != nil {
		return lists, 0, fmt.Errorf("read changes: %w", err)
	}
	var user wire.UserID
	var last int64
	var gone bool
	_, err = pgx.ForEachRow(rows, []any{&user, &last, &gone}, func() error {
		if gone {
			lists.Left = append(lists.Left, user.MatrixID())
		} else {
			lists.Changed = append(lists.Changed, user.MatrixID())
		}
		return nil
	})
	if err != nil {
		return lists, 0, fmt.Errorf("read changes: %w", err)
	}
	if len(lists.Changed)+len(lists.Left) == pageChanges {
		return lists, last, nil
	}
	return lists, head, nil
}

const sqlUnusedFallbacks = `SELECT count(*) FROM key_fallback WHERE user_id = $1 AND device_id = $2 AND NOT used`

func unusedFallbacks(ctx context.Context, tx pgx.Tx, caller wire.Session) ([]string, error) {
	var n int
	if err := tx.QueryRow(ctx, sqlUnusedFallbacks, caller.UserID, caller.DeviceID).Scan(&n); err != nil {
		return nil, fmt.Errorf("count fallback keys: %w", err)
	}
	if n == 0 {
		return []string{}, nil
	}
	return []string{algorithm}, nil
}
