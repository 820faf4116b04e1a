package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/wire"
)

// delivered is what became of a delivery: nothing where it was done before.
type delivered struct {
	queued []place
	full   []place
}

// A queue's numbers come from its device's row, which stays locked until the transaction commits: so they are in the
// order of commits and without holes, and a reader that has seen one misses none before it.
const (
	sqlInsertSent = `INSERT INTO key_sent (user_id, device_id, txn, sent_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, device_id, txn) DO NOTHING`
	sqlDevicesThere = `SELECT user_id, device_id FROM key_devices WHERE user_id = ANY($1::uuid[])`
	sqlNextNumbers  = `UPDATE key_devices AS d SET inbox_head = d.inbox_head + 1
FROM unnest($1::uuid[], $2::text[]) AS t (user_id, device_id)
WHERE d.user_id = t.user_id AND d.device_id = t.device_id AND d.inbox_head - d.inbox_gone < $3
RETURNING d.user_id, d.device_id, d.inbox_head`
	sqlInsertEvents = `INSERT INTO key_inbox (user_id, device_id, number, sender_id, type, content, queued_at)
SELECT t.user_id, t.device_id, t.number, $5::uuid, $6::text, t.content, $7::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[]) AS t (user_id, device_id, number, content)`
)

func (s *store) deliver(ctx context.Context, caller wire.Session, d delivery, now time.Time) (result delivered, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		result = delivered{}
		if _, err := deviceOf(ctx, tx, caller); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlInsertSent, caller.UserID, caller.DeviceID, d.txn, stamp(now))
		if err != nil {
			return fmt.Errorf("note the request: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		there, err := places(tx.Query(ctx, sqlDevicesThere, d.users()))
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		result, err = enqueue(ctx, tx, caller.UserID, d, d.addressed(there), now)
		return err
	})
	return result, err
}

func places(rows pgx.Rows, err error) ([]place, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p place, err error) {
		err = row.Scan(&p.user, &p.device)
		return p, err
	})
}

func enqueue(ctx context.Context, tx pgx.Tx, sender wire.UserID, d delivery, to []place, now time.Time) (result delivered, err error) {
	if len(to) == 0 {
		return result, nil
	}
	numbers, err := nextNumbers(ctx, tx, to)
	if err != nil {
		return result, err
	}
	var inOrder []int64
	var contents []string
	for _, p := range to {
		number, taken := numbers[p]
		if !taken {
			result.full = append(result.full, p)
			continue
		}
		result.queued = append(result.queued, p)
		inOrder, contents = append(inOrder, number), append(contents, d.contentFor(p))
	}
	users, devices := columns(result.queued)
	if _, err := tx.Exec(ctx, sqlInsertEvents, users, devices, inOrder, contents, sender, d.kind, stamp(now)); err != nil {
		return delivered{}, fmt.Errorf("queue events: %w", err)
	}
	return result, nil
}

// nextNumbers are those of the queues that are not full.
func nextNumbers(ctx context.Context, tx pgx.Tx, to []place) (map[place]int64, error) {
	users, devices := columns(to)
	rows, err := tx.Query(ctx, sqlNextNumbers, users, devices, maxQueued)
	if err != nil {
		return nil, fmt.Errorf("number events: %w", err)
	}
	numbers := map[place]int64{}
	var p place
	var number int64
	_, err = pgx.ForEachRow(rows, []any{&p.user, &p.device, &number}, func() error {
		numbers[p] = number
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("number events: %w", err)
	}
	return numbers, nil
}

const sqlInbox = `SELECT number, sender_id, type, content FROM key_inbox
WHERE user_id = $1 AND device_id = $2 AND number > $3 ORDER BY number LIMIT $4`

// inboxAfter is the next page of a device's queue, and the number of its last event.
func inboxAfter(ctx context.Context, tx pgx.Tx, caller wire.Session, after int64) (events []wire.DeviceEvent, last int64, err error) {
	rows, err := tx.Query(ctx, sqlInbox, caller.UserID, caller.DeviceID, after, pageEvents)
	if err != nil {
		return nil, 0, fmt.Errorf("read queue: %w", err)
	}
	defer rows.Close()
	events, last = []wire.DeviceEvent{}, after
	for size := 0; size < pageBytes && rows.Next(); {
		var sender wire.UserID
		var event wire.DeviceEvent
		var content string
		if err := rows.Scan(&last, &sender, &event.Type, &content); err != nil {
			return nil, 0, fmt.Errorf("read queue: %w", err)
		}
		event.Sender, event.Content = sender.MatrixID(), json.RawMessage(content)
		events = append(events, event)
		size += len(content)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("read queue: %w", err)
	}
	return events, last, nil
}
