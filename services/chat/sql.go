package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// store keeps conversations, members, numbers and cursors in SQL. One method is one transaction; kinds are given where
// the meaning is known, everything else is the store's own trouble.
type store struct {
	db    *sqlstore.Store
	marks *marks
}

const sqlKind = `SELECT pair FROM conversations WHERE id = $1`

func (s *store) kind(ctx context.Context, id wire.ConversationID) (kind, error) {
	var pair *string
	err := s.db.Single(ctx, func(q sqlstore.Querier) error { return q.QueryRow(ctx, sqlKind, id).Scan(&pair) })
	switch {
	case sqlstore.NoRows(err):
		return kind{}, noConversation("chat.kind")
	case err != nil:
		return kind{}, fmt.Errorf("find conversation: %w", err)
	case pair == nil:
		return kind{}, nil
	default:
		return pairOf(*pair), nil
	}
}

// pairKey is the same for both of two users.
func pairKey(a, b wire.UserID) string { return string(min(a, b)) + " " + string(max(a, b)) }

func pairOf(key string) kind {
	a, b, _ := strings.Cut(key, " ")
	return kind{direct: true, pair: [2]wire.UserID{wire.UserID(a), wire.UserID(b)}}
}

const sqlView = `SELECT c.head, c.passing_since, now(), m.joined_seq, m.left_seq, m.role
FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = $1 AND m.user_id = $2 ORDER BY m.joined_seq`

// view fails with NotFound for who was never in the conversation.
func (s *store) view(ctx context.Context, id wire.ConversationID, user wire.UserID) (v view, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		v = view{}
		rows, err := q.Query(ctx, sqlView, id, user)
		if err != nil {
			return err
		}
		for rows.Next() {
			var one stay
			var role string
			if err := rows.Scan(&v.head, &v.passingSince, &v.now, &one.from, &one.through, &role); err != nil {
				return err
			}
			v.stays = append(v.stays, one)
			if one.through == nil {
				v.role = role
			}
		}
		return rows.Err()
	})
	if err != nil {
		return view{}, fmt.Errorf("find membership: %w", err)
	}
	if len(v.stays) == 0 {
		return view{}, noConversation("chat.view")
	}
	return v, nil
}

const (
	sqlInsertConversation = `INSERT INTO conversations (id, kind, name, head, life_seconds, pair, created_by, client_id, created_at)
VALUES ($1, $2, $3, 1, 0, $4, $5, $6, date_trunc('milliseconds', now())) ON CONFLICT DO NOTHING RETURNING created_at`
	sqlInsertMembers = `INSERT INTO conversation_members (conversation_id, user_id, joined_seq, role)
SELECT $1, a.member, $2, $4 FROM unnest($3::uuid[]) AS a (member)`
	sqlInsertEvent = `INSERT INTO message_numbers (conversation_id, seq, state, sender_user, sender_device, life_seconds, event, created_at)
VALUES ($1, $2, 'event', $3, '', 0, $4, date_trunc('milliseconds', now())) RETURNING created_at`
	sqlByPair     = `SELECT id FROM conversations WHERE pair = $1`
	sqlByClientID = `SELECT id FROM conversations WHERE created_by = $1 AND client_id = $2`
)

// founding is a conversation to be made.
type founding struct {
	id       wire.ConversationID
	kind     string
	name     string
	by       wire.UserID
	others   []wire.UserID
	pair     *string
	clientID *wire.ClientID
}

// found makes a conversation, or gives the id of the one that was made for the same pair or under the same client id.
func (s *store) found(ctx context.Context, f founding) (id wire.ConversationID, made *wire.Item, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		id, made = f.id, nil
		var at time.Time
		err := tx.QueryRow(ctx, sqlInsertConversation, f.id, f.kind, f.name, f.pair, f.by, f.clientID).Scan(&at)
		if sqlstore.NoRows(err) {
			id, err = f.existing(ctx, tx)
			return err
		}
		if err != nil {
			return fmt.Errorf("insert conversation: %w", err)
		}
		first := wire.RoleOwner
		if f.kind == wire.KindDirect {
			first = wire.RoleMember
		}
		if _, err := tx.Exec(ctx, sqlInsertMembers, f.id, 1, []wire.UserID{f.by}, first); err != nil {
			return fmt.Errorf("insert members: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlInsertMembers, f.id, 1, f.others, wire.RoleMember); err != nil {
			return fmt.Errorf("insert members: %w", err)
		}
		made, err = insertEvent(ctx, tx, f.id, 1, f.by, wire.Event{Type: wire.EventCreated, Users: append([]wire.UserID{f.by}, f.others...), Name: f.name})
		return err
	})
	return id, made, err
}

func (f founding) existing(ctx context.Context, q sqlstore.Querier) (id wire.ConversationID, err error) {
	if f.pair != nil {
		err = q.QueryRow(ctx, sqlByPair, *f.pair).Scan(&id)
	} else {
		err = q.QueryRow(ctx, sqlByClientID, f.by, f.clientID).Scan(&id)
	}
	if err != nil && !sqlstore.NoRows(err) {
		err = fmt.Errorf("find conversation: %w", err)
	}
	return id, err
}

// existing gives "" where none was made yet.
func (s *store) existing(ctx context.Context, f founding) (id wire.ConversationID, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		id, err = f.existing(ctx, q)
		return err
	})
	if sqlstore.NoRows(err) {
		return "", nil
	}
	return id, err
}

func insertEvent(ctx context.Context, tx pgx.Tx, id wire.ConversationID, seq int64, actor wire.UserID, event wire.Event) (*wire.Item, error) {
	content, err := json.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("write event: %w", err)
	}
	var at time.Time
	if err := tx.QueryRow(ctx, sqlInsertEvent, id, seq, actor, string(content)).Scan(&at); err != nil {
		return nil, fmt.Errorf("insert event: %w", err)
	}
	at = at.UTC()
	return &wire.Item{Seq: seq, Kind: wire.ItemEvent, At: &at, Sender: actor, Event: &event}, nil
}

// present is a member within a transaction that changes the conversation.
type present struct {
	user   wire.UserID
	role   string
	joined int64
}

// group is a conversation while it is being changed: its head has moved, so that all changes wait for each other.
type group struct {
	tx      pgx.Tx
	id      wire.ConversationID
	direct  bool
	seq     int64 // of the event
	name    string
	life    int
	members []present // in the order they came
}

const (
	sqlBeginChange = `UPDATE conversations SET head = head + 1 WHERE id = $1 RETURNING head, kind, name, life_seconds`
	sqlPresent     = `SELECT user_id, role, joined_seq FROM conversation_members
WHERE conversation_id = $1 AND left_seq IS NULL ORDER BY joined_seq, user_id`
)

// errNothing rolls a change back that would change nothing; it is a success.
var errNothing = fmt.Errorf("nothing to change")

// changeGroup lets decide look at a group and change it; the event decide gives is numbered with it, both or neither.
// Without an event nothing happened.
func (s *store) changeGroup(ctx context.Context, id wire.ConversationID, actor wire.UserID, decide func(ctx context.Context, g *group) (*wire.Event, error)) (made *wire.Item, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		made = nil
		g, err := beginChange(ctx, tx, id)
		if err != nil {
			return err
		}
		event, err := decide(ctx, g)
		if err != nil {
			return err
		}
		if event == nil {
			return errNothing
		}
		made, err = insertEvent(ctx, tx, id, g.seq, actor, *event)
		return err
	})
	if err == errNothing { //nolint:errorlint // our own, passed through unwrapped
		return nil, nil //nolint:nilnil // nothing happened, and that is no error
	}
	return made, err
}

func beginChange(ctx context.Context, tx pgx.Tx, id wire.ConversationID) (*group, error) {
	g := &group{tx: tx, id: id}
	var kind string
	err := tx.QueryRow(ctx, sqlBeginChange, id).Scan(&g.seq, &kind, &g.name, &g.life)
	if sqlstore.NoRows(err) {
		return nil, noConversation("chat.change")
	}
	if err != nil {
		return nil, fmt.Errorf("begin change: %w", err)
	}
	g.direct = kind == wire.KindDirect
	rows, err := tx.Query(ctx, sqlPresent, id)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	g.members, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p present, err error) {
		err = row.Scan(&p.user, &p.role, &p.joined)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return g, nil
}

const (
	sqlRename  = `UPDATE conversations SET name = $2 WHERE id = $1`
	sqlSetLife = `UPDATE conversations SET life_seconds = $2, passing_since = CASE WHEN $2 > 0 THEN COALESCE(passing_since, $3) ELSE passing_since END WHERE id = $1`
	sqlEndStay = `UPDATE conversation_members SET left_seq = $3 WHERE conversation_id = $1 AND user_id = $2 AND left_seq IS NULL`
	sqlSetRole = `UPDATE conversation_members SET role = $3 WHERE conversation_id = $1 AND user_id = $2 AND left_seq IS NULL`
)

func (g *group) exec(ctx context.Context, what, statement string, arguments ...any) error {
	if _, err := g.tx.Exec(ctx, statement, append([]any{g.id}, arguments...)...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (g *group) rename(ctx context.Context, name string) error {
	return g.exec(ctx, "rename", sqlRename, name)
}

func (g *group) setLife(ctx context.Context, seconds int) error {
	return g.exec(ctx, "set the life of messages", sqlSetLife, seconds, g.seq)
}

func (g *group) add(ctx context.Context, users []wire.UserID) error {
	return g.exec(ctx, "add members", sqlInsertMembers, g.seq, users, wire.RoleMember)
}

func (g *group) end(ctx context.Context, user wire.UserID) error {
	return g.exec(ctx, "end membership", sqlEndStay, user, g.seq)
}

func (g *group) setRole(ctx context.Context, user wire.UserID, role string) error {
	return g.exec(ctx, "set role", sqlSetRole, user, role)
}

const sqlConversations = `SELECT c.id, c.kind, c.name, c.pair, m.role, c.head, m.joined_seq, c.life_seconds, COALESCE(d.seq, 0), COALESCE(r.seq, 0), c.created_at
FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
LEFT JOIN delivered_cursors d ON d.conversation_id = c.id AND d.user_id = m.user_id AND d.device_id = $2
LEFT JOIN read_cursors r ON r.conversation_id = c.id AND r.user_id = m.user_id
WHERE m.user_id = $1 AND m.left_seq IS NULL AND m.conversation_id >= $3 AND m.conversation_id <= $4
ORDER BY m.conversation_id LIMIT $5`

// conversations gives those among first..last that the caller is in, by id.
func (s *store) conversations(ctx context.Context, caller wire.Session, first, last wire.ConversationID, limit int) (found []wire.Conversation, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlConversations, caller.UserID, caller.DeviceID, first, last, limit)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (wire.Conversation, error) { return scanConversation(row, caller.UserID) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list conversations: %w", err)
	}
	return found, nil
}

func scanConversation(row pgx.CollectableRow, user wire.UserID) (c wire.Conversation, err error) {
	var pair *string
	err = row.Scan(&c.ID, &c.Kind, &c.Name, &pair, &c.Role, &c.Head, &c.JoinedSeq, &c.MessageLife, &c.Delivered, &c.Read, &c.CreatedAt)
	if pair != nil {
		c.With, _ = pairOf(*pair).other(user)
	}
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

const sqlMembers = `SELECT m.user_id, m.role, m.joined_seq,
	COALESCE((SELECT max(d.seq) FROM delivered_cursors d WHERE d.conversation_id = m.conversation_id AND d.user_id = m.user_id), 0),
	COALESCE((SELECT r.seq FROM read_cursors r WHERE r.conversation_id = m.conversation_id AND r.user_id = m.user_id), 0)
FROM conversation_members m WHERE m.conversation_id = $1 AND m.left_seq IS NULL ORDER BY m.joined_seq, m.user_id`

func (s *store) members(ctx context.Context, id wire.ConversationID) (found []wire.Member, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, sqlMembers, id)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m wire.Member, err error) {
			err = row.Scan(&m.UserID, &m.Role, &m.JoinedSeq, &m.Delivered, &m.Read)
			return m, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return found, nil
}

const (
	sqlMoveDelivered = `INSERT INTO delivered_cursors (conversation_id, user_id, device_id, seq) VALUES ($1, $2, $3, $4)
ON CONFLICT (conversation_id, user_id, device_id) DO UPDATE SET seq = GREATEST(delivered_cursors.seq, excluded.seq) RETURNING seq`
	sqlMoveRead = `INSERT INTO read_cursors (conversation_id, user_id, seq) VALUES ($1, $2, $3)
ON CONFLICT (conversation_id, user_id) DO UPDATE SET seq = GREATEST(read_cursors.seq, excluded.seq) RETURNING seq`
)

// moveCursors moves them forward, and gives where they are then. Neither ever goes back.
func (s *store) moveCursors(ctx context.Context, caller wire.Session, id wire.ConversationID, delivered, read int64) (moved wire.Cursors, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var work pgx.Batch
		work.Queue(sqlMoveDelivered, id, caller.UserID, caller.DeviceID, delivered).QueryRow(func(row pgx.Row) error { return row.Scan(&moved.Delivered) })
		work.Queue(sqlMoveRead, id, caller.UserID, read).QueryRow(func(row pgx.Row) error { return row.Scan(&moved.Read) })
		return tx.SendBatch(ctx, &work).Close()
	})
	if err != nil {
		return wire.Cursors{}, fmt.Errorf("move cursors: %w", err)
	}
	return moved, nil
}

const sqlTablesThere = `SELECT count(*) FROM (SELECT conversation_id FROM read_cursors LIMIT 1) AS one`

// ready fails while the migrations have not run.
func (s *store) ready(ctx context.Context) error { return s.db.Holds(ctx, sqlTablesThere) }
