package video

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// store keeps calls, who is in them and which host owns them. One method is one transaction; kinds are given where the meaning is known,
// everything else is the store's own trouble.
type store struct {
	db *sqlstore.Store
}

// beginning is a call to be begun.
type beginning struct {
	id      wire.CallID
	request wire.CallRequest // without a conversation for a test call
	by      wire.Session
	direct  bool
	members []wire.UserID
}

const (
	sqlInsertCall = `INSERT INTO calls (id, conversation_id, direct, media, started_by, client_id, started_at, reason, fence, empty_since, logged)
VALUES ($1, $2, $3, $4, $5, $6, date_trunc('milliseconds', now()), '', 0, now(), $7) ON CONFLICT DO NOTHING RETURNING started_at`
	sqlCallByClientID = `SELECT id FROM calls WHERE started_by = $1 AND client_id = $2`
	sqlCallOngoing    = `SELECT id FROM calls WHERE conversation_id = $1 AND ended_at IS NULL`
	sqlBusy           = `SELECT m.user_id FROM call_members m JOIN calls c ON c.id = m.call_id
WHERE m.user_id = ANY($1) AND m.state = 'joined' AND c.ended_at IS NULL AND c.conversation_id IS NOT NULL AND c.id <> $2`
)

// begin makes a call, or gives the one that was made under the same client id, or else the one that goes on in the conversation.
func (s *store) begin(ctx context.Context, b beginning) (made stored, isNew bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		made, isNew = stored{}, false
		var at time.Time
		err := tx.QueryRow(ctx, sqlInsertCall, b.id, b.conversation(), b.direct, b.request.Media, b.by.UserID, b.request.ClientID, b.isTest()).Scan(&at)
		if sqlstore.NoRows(err) {
			made, err = b.existing(ctx, tx)
			return err
		}
		if err != nil {
			return fmt.Errorf("insert call: %w", err)
		}
		var busy []wire.UserID
		if !b.isTest() {
			if busy, err = usersIn(ctx, tx, sqlBusy, b.members, b.id); err != nil {
				return fmt.Errorf("find who is busy: %w", err)
			}
		}
		before := stored{
			Call: wire.Call{
				ID: b.id, ConversationID: b.request.ConversationID, Test: b.isTest(), Media: b.request.Media, StartedBy: b.by.UserID, StartedAt: at.UTC(),
			},
			direct: b.direct, empty: &at,
		}
		made, isNew = before, true
		made.ring(b.by, b.members, slices.DeleteFunc(busy, func(user wire.UserID) bool { return user == b.by.UserID }), at.UTC())
		return save(ctx, tx, before, made)
	})
	return made, isNew, err
}

func (b beginning) isTest() bool { return b.request.ConversationID == "" }

func (b beginning) conversation() *wire.ConversationID {
	if b.isTest() {
		return nil
	}
	return &b.request.ConversationID
}

func (b beginning) existing(ctx context.Context, tx pgx.Tx) (stored, error) {
	var id wire.CallID
	err := tx.QueryRow(ctx, sqlCallByClientID, b.by.UserID, b.request.ClientID).Scan(&id)
	if sqlstore.NoRows(err) {
		err = tx.QueryRow(ctx, sqlCallOngoing, b.conversation()).Scan(&id)
	}
	if err != nil {
		return stored{}, fmt.Errorf("find call: %w", err)
	}
	found, _, err := load(ctx, tx, sqlCall, id)
	return found, err
}

func usersIn(ctx context.Context, q sqlstore.Querier, statement string, arguments ...any) ([]wire.UserID, error) {
	rows, err := q.Query(ctx, statement, arguments...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[wire.UserID])
}

const (
	callColumns = `SELECT id, conversation_id, direct, media, started_by, started_at, answered_at, ended_at, reason, owner_host, owner_epoch, fence, empty_since, now() `
	sqlCall     = callColumns + `FROM calls WHERE id = $1`
	sqlLockCall = callColumns + `FROM calls WHERE id = $1 FOR UPDATE`

	sqlMembers = `SELECT user_id, state, device_id FROM call_members WHERE call_id = $1 ORDER BY user_id`
)

// load reads a call and SQL's clock. It fails with NotFound for one that is not there.
func load(ctx context.Context, q sqlstore.Querier, statement string, id wire.CallID) (found stored, now time.Time, err error) {
	found, now, err = scanCall(q.QueryRow(ctx, statement, id))
	if sqlstore.NoRows(err) {
		return stored{}, time.Time{}, noCall("video.load")
	}
	if err != nil {
		return stored{}, time.Time{}, fmt.Errorf("find call: %w", err)
	}
	rows, err := q.Query(ctx, sqlMembers, id)
	if err != nil {
		return stored{}, time.Time{}, fmt.Errorf("list members: %w", err)
	}
	found.Members, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m wire.CallMember, err error) {
		err = row.Scan(&m.UserID, &m.State, &m.DeviceID)
		return m, err
	})
	if err != nil {
		return stored{}, time.Time{}, fmt.Errorf("list members: %w", err)
	}
	found.setState()
	return found, now, nil
}

func scanCall(row pgx.Row) (c stored, now time.Time, err error) {
	var conversation *wire.ConversationID
	var host *string
	var epoch *int64
	err = row.Scan(&c.ID, &conversation, &c.direct, &c.Media, &c.StartedBy, &c.StartedAt, &c.AnsweredAt, &c.EndedAt, &c.Reason,
		&host, &epoch, &c.fence, &c.empty, &now)
	if err != nil {
		return stored{}, time.Time{}, err
	}
	if conversation != nil {
		c.ConversationID = *conversation
	}
	if host != nil && epoch != nil {
		c.owner = owner{*host, *epoch}
	}
	c.Test = conversation == nil
	c.StartedAt, c.AnsweredAt, c.EndedAt = c.StartedAt.UTC(), inUTC(c.AnsweredAt), inUTC(c.EndedAt)
	return c, now.UTC().Truncate(time.Millisecond), nil
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// setState gives a call that was read the state that follows from the rest.
func (c *stored) setState() {
	c.State = wire.CallRinging
	switch {
	case c.EndedAt != nil:
		c.State = wire.CallEnded
	case c.AnsweredAt != nil || c.Test:
		c.State = wire.CallLive
	}
}

// call fails with NotFound for one that is not there.
func (s *store) call(ctx context.Context, id wire.CallID) (found stored, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, _, err = load(ctx, tx, sqlCall, id)
		return err
	})
	return found, err
}

// change lets decide look at a call and change it, by SQL's clock; it reports whether anything was changed. It fails with NotFound for a
// call that is not there.
func (s *store) change(ctx context.Context, id wire.CallID, decide func(call *stored, now time.Time)) (after stored, changed bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		after, changed, err = changeIn(ctx, tx, id, decide)
		return err
	})
	return after, changed, err
}

func changeIn(ctx context.Context, tx pgx.Tx, id wire.CallID, decide func(call *stored, now time.Time)) (after stored, changed bool, err error) {
	before, now, err := load(ctx, tx, sqlLockCall, id)
	if err != nil {
		return stored{}, false, err
	}
	after = before
	after.Members = slices.Clone(before.Members)
	decide(&after, now)
	if !differ(before, after) {
		return after, false, nil
	}
	return after, true, save(ctx, tx, before, after)
}

func differ(before, after stored) bool {
	return !slices.Equal(before.Members, after.Members) || !sameTime(before.AnsweredAt, after.AnsweredAt) ||
		!sameTime(before.EndedAt, after.EndedAt) || !sameTime(before.empty, after.empty)
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

const (
	sqlUpdateCall = `UPDATE calls SET answered_at = $2, ended_at = $3, reason = $4, empty_since = $5 WHERE id = $1`
	sqlPutMembers = `INSERT INTO call_members (call_id, user_id, state, device_id)
SELECT $1, a.member, a.state, a.device FROM unnest($2::uuid[], $3::text[], $4::text[]) AS a (member, state, device)
ON CONFLICT (call_id, user_id) DO UPDATE SET state = excluded.state, device_id = excluded.device_id`
)

// save writes what differs.
func save(ctx context.Context, tx pgx.Tx, before, after stored) error {
	var users []wire.UserID
	var states, devices []string
	for _, member := range after.Members {
		if !slices.Contains(before.Members, member) {
			users, states, devices = append(users, member.UserID), append(states, member.State), append(devices, string(member.DeviceID))
		}
	}
	if len(users) > 0 {
		if _, err := tx.Exec(ctx, sqlPutMembers, after.ID, users, states, devices); err != nil {
			return fmt.Errorf("put members: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, sqlUpdateCall, after.ID, after.AnsweredAt, after.EndedAt, after.Reason, after.empty); err != nil {
		return fmt.Errorf("update call: %w", err)
	}
	return nil
}

func (s *store) quit(ctx context.Context, id wire.CallID, user wire.UserID, state, reason string) (after stored, changed bool, err error) {
	return s.change(ctx, id, func(call *stored, now time.Time) { call.quit(user, state, reason, now) })
}

const sqlOthersJoined = `SELECT m.call_id FROM call_members m JOIN calls c ON c.id = m.call_id
WHERE m.user_id = $1 AND m.state = 'joined' AND c.ended_at IS NULL AND c.id <> $2`

// enter lets a user into a call and out of every other. It gives those that changed by it, and fails with Conflict for a call that is over.
func (s *store) enter(ctx context.Context, id wire.CallID, who wire.Session) (after stored, changed []stored, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		changed = nil
		var differs bool
		after, differs, err = changeIn(ctx, tx, id, func(call *stored, now time.Time) {
			if call.EndedAt == nil {
				call.enter(who, now)
			}
		})
		if err != nil {
			return err
		}
		if after.EndedAt != nil {
			return callOver("video.enter")
		}
		if differs {
			changed = append(changed, after)
		}
		rows, err := tx.Query(ctx, sqlOthersJoined, who.UserID, id)
		if err != nil {
			return fmt.Errorf("find other calls: %w", err)
		}
		others, err := pgx.CollectRows(rows, pgx.RowTo[wire.CallID])
		if err != nil {
			return fmt.Errorf("find other calls: %w", err)
		}
		for _, other := range others {
			call, _, err := changeIn(ctx, tx, other, func(call *stored, now time.Time) { call.quit(who.UserID, wire.MemberLeft, wire.EndedLeft, now) })
			if err != nil {
				return err
			}
			changed = append(changed, call)
		}
		return nil
	})
	return after, changed, err
}

// setMembers notes who has come into the conversation, and forgets who is not in it any more and was never in the call. It reports
// whether anything was changed.
func (s *store) setMembers(ctx context.Context, id wire.CallID, members []wire.UserID) (after stored, changed bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var added bool
		after, added, err = changeIn(ctx, tx, id, func(call *stored, _ time.Time) { call.admit(members) })
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlForgetMembers, id, members)
		if err != nil {
			return fmt.Errorf("forget members: %w", err)
		}
		changed = added || tag.RowsAffected() > 0
		return nil
	})
	return after, changed, err
}

const sqlForgetMembers = `DELETE FROM call_members WHERE call_id = $1 AND state IN ('idle', 'ringing') AND NOT user_id = ANY($2)`

const sqlCallsOf = `SELECT c.id, c.conversation_id, c.direct, c.media, c.started_by, c.started_at, c.answered_at, c.ended_at, c.reason,
	c.owner_host, c.owner_epoch, c.fence, c.empty_since, now(), m.user_id, m.state, m.device_id
FROM call_members mine JOIN calls c ON c.id = mine.call_id JOIN call_members m ON m.call_id = c.id
WHERE mine.user_id = $1 AND c.ended_at IS NULL AND c.conversation_id IS NOT NULL AND (m.state <> 'idle' OR m.user_id = $1)
ORDER BY c.started_at, c.id, m.user_id`

// of lists the calls that go on in which a user is or may be. Members for whom it does not ring are left out.
func (s *store) of(ctx context.Context, user wire.UserID) (found []wire.Call, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		found = []wire.Call{}
		rows, err := q.Query(ctx, sqlCallsOf, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var member wire.CallMember
			call, _, err := scanCall(beside{rows, []any{&member.UserID, &member.State, &member.DeviceID}})
			if err != nil {
				return err
			}
			if n := len(found); n == 0 || found[n-1].ID != call.ID {
				call.setState()
				found = append(found, call.Call)
			}
			last := &found[len(found)-1]
			last.Members = append(last.Members, member)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list calls: %w", err)
	}
	return found, nil
}

// beside scans a call's columns and some more.
type beside struct {
	pgx.Row

	more []any
}

func (b beside) Scan(into ...any) error { return b.Row.Scan(append(into, b.more...)...) }

const sqlSetSeen = `INSERT INTO call_seen (user_id, seen_at) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET seen_at = GREATEST(call_seen.seen_at, excluded.seen_at)`

func (s *store) setSeen(ctx context.Context, user wire.UserID, at time.Time) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		if _, err := q.Exec(ctx, sqlSetSeen, user, at); err != nil {
			return fmt.Errorf("note what was seen: %w", err)
		}
		return nil
	})
}

const sqlSeen = `SELECT seen_at FROM call_seen WHERE user_id = $1`

// seen is nil where nothing was ever seen.
func (s *store) seen(ctx context.Context, user wire.UserID) (at *time.Time, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error { return q.QueryRow(ctx, sqlSeen, user).Scan(&at) })
	if sqlstore.NoRows(err) {
		return nil, nil //nolint:nilnil // that is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("find what was seen: %w", err)
	}
	return inUTC(at), nil
}

const sqlTablesThere = `SELECT count(*) FROM (SELECT user_id FROM call_seen LIMIT 1) AS one`

// ready fails while the migrations have not run.
func (s *store) ready(ctx context.Context) error { return s.db.Holds(ctx, sqlTablesThere) }
