package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const sqlWholeView = `SELECT head, passing_since, now() FROM conversations WHERE id = $1`

// wholeView sees a conversation from its first number on. It is for feeds, which know who may see what.
func (s *store) wholeView(ctx context.Context, id wire.ConversationID) (v view, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		v = view{stays: []stay{{from: 1}}}
		return q.QueryRow(ctx, sqlWholeView, id).Scan(&v.head, &v.passingSince, &v.now)
	})
	if err != nil {
		return view{}, fmt.Errorf("look at conversation: %w", err)
	}
	return v, nil
}

const sqlHeads = `SELECT id, head FROM conversations WHERE id = ANY($1::uuid[])`

// heads are the last numbers given in conversations.
func (s *store) heads(ctx context.Context, ids []wire.ConversationID) (heads map[wire.ConversationID]int64, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		heads = map[wire.ConversationID]int64{}
		rows, err := q.Query(ctx, sqlHeads, ids)
		if err != nil {
			return err
		}
		var id wire.ConversationID
		var head int64
		_, err = pgx.ForEachRow(rows, []any{&id, &head}, func() error { heads[id] = head; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at heads: %w", err)
	}
	return heads, nil
}

// membership is where a user's membership of a conversation stands.
type membership struct {
	id      wire.ConversationID
	head    int64
	joined  int64
	settled int64 // nothing up to here is pending
}

const (
	sqlMemberships = `SELECT c.id, c.head, m.joined_seq,
	COALESCE((SELECT min(n.seq) - 1 FROM message_numbers n WHERE n.conversation_id = c.id AND n.state = 'pending'), c.head)
FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
WHERE m.user_id = $1 AND m.left_seq IS NULL AND m.conversation_id >= $2 AND m.conversation_id <= $3 ORDER BY m.conversation_id`
	sqlOnceMember = `SELECT DISTINCT conversation_id FROM conversation_members WHERE user_id = $1 AND conversation_id = ANY($2::uuid[])`
)

// memberships are the conversations among first..last that the user is in.
func (s *store) memberships(ctx context.Context, user wire.UserID, first, last wire.ConversationID) (found []membership, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlMemberships, user, first, last)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m membership, err error) {
			err = row.Scan(&m.id, &m.head, &m.joined, &m.settled)
			return m, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", err)
	}
	return found, nil
}

// onceMember gives those conversations that the user is or was in.
func (s *store) onceMember(ctx context.Context, user wire.UserID, ids []wire.ConversationID) (found []wire.ConversationID, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlOnceMember, user, ids)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowTo[wire.ConversationID])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for memberships: %w", err)
	}
	return found, nil
}

const sqlRecentEvents = `SELECT conversation_id, event FROM message_numbers
WHERE state = 'event' AND created_at > now() - $1 * INTERVAL '1 second' ORDER BY conversation_id, seq`

// recentComers tells who came into which conversation lately.
func (s *store) recentComers(ctx context.Context, since time.Duration, tell func(wire.ConversationID, []wire.UserID)) error {
	type entry struct {
		id    wire.ConversationID
		event string
	}
	var entries []entry
	err := s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlRecentEvents, since.Seconds())
		if err != nil {
			return err
		}
		entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e entry, err error) {
			err = row.Scan(&e.id, &e.event)
			return e, err
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("look for events: %w", err)
	}
	for _, e := range entries {
		event := new(wire.Event)
		if err := json.Unmarshal([]byte(e.event), event); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		tell(e.id, comers([]wire.Item{{Event: event}}))
	}
	return nil
}
