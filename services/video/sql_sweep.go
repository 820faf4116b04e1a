package video

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const (
	sqlRingingTooLong = `SELECT c.id FROM calls c
WHERE c.ended_at IS NULL AND c.started_at < now() - $1 * INTERVAL '1 second'
AND EXISTS (SELECT 1 FROM call_members m WHERE m.call_id = c.id AND m.state = 'ringing') LIMIT $2`
	// A test call ends by itself, who else is connected to it or not.
	sqlAbandoned = `SELECT id FROM calls WHERE ended_at IS NULL
AND (empty_since < now() - $1 * INTERVAL '1 second' OR conversation_id IS NULL AND started_at < now() - $2 * INTERVAL '1 second') LIMIT $3`
	sqlUnloggedOf = `SELECT c.id FROM calls c JOIN call_members m ON m.call_id = c.id
WHERE c.logged = false AND c.ended_at IS NOT NULL AND m.user_id = $1 ORDER BY c.ended_at LIMIT $2`
	sqlUnlogged = `SELECT id FROM calls WHERE logged = false AND ended_at IS NOT NULL ORDER BY ended_at LIMIT $1`
)

func (s *store) callsWhere(ctx context.Context, what, statement string, arguments ...any) (found []wire.CallID, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, statement, arguments...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowTo[wire.CallID])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find calls that %s: %w", what, err)
	}
	return found, nil
}

const (
	sqlSetLogged = `UPDATE calls SET logged = true WHERE id = $1`
	sqlForget    = `DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE logged = true AND ended_at < now() - $1 * INTERVAL '1 second' LIMIT $2)`
)

// sqlOrphans: an owner that died could not say that nobody is connected any more; from now on it counts so, until somebody is.
const sqlOrphans = `UPDATE calls SET empty_since = now() WHERE ended_at IS NULL AND empty_since IS NULL AND NOT EXISTS (
	SELECT 1 FROM call_hosts h WHERE h.host = calls.owner_host AND h.epoch = calls.owner_epoch AND h.expires_at > now())`

func (s *store) markOrphans(ctx context.Context) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		if _, err := q.Exec(ctx, sqlOrphans); err != nil {
			return fmt.Errorf("mark calls without an owner: %w", err)
		}
		return nil
	})
}

func (s *store) setLogged(ctx context.Context, id wire.CallID) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		if _, err := q.Exec(ctx, sqlSetLogged, id); err != nil {
			return fmt.Errorf("note that a call is logged: %w", err)
		}
		return nil
	})
}

// forget removes calls that ended long ago, and reports how many.
func (s *store) forget(ctx context.Context, after time.Duration, limit int) (gone int, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		tag, err := q.Exec(ctx, sqlForget, after.Seconds(), limit)
		if err != nil {
			return fmt.Errorf("forget calls: %w", err)
		}
		gone = int(tag.RowsAffected())
		return nil
	})
	return gone, err
}
