package video

import (
	"context"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/wire"
)

// records keeps the call log: what became of each call, for each user.
type records interface {
	// put writes a record durably in a quorum; the same one may be put again.
	put(ctx context.Context, user wire.UserID, record wire.CallRecord) error
	// before reads a user's records that began before a moment and a call of that moment, the newest first, at most limit.
	before(ctx context.Context, user wire.UserID, at time.Time, call wire.CallID, limit int) ([]wire.CallRecord, error)
	ready(ctx context.Context) error
}

// cassandra keeps a partition for each user and month, and one that tells which months there are.
type cassandra struct {
	db *cqlstore.Store
}

func newCassandra(db *cqlstore.Store) *cassandra { return &cassandra{db} }

// monthOf is 202611 for November 2026, in UTC.
func monthOf(at time.Time) int {
	year, month, _ := at.UTC().Date()
	return year*100 + int(month)
}

const (
	cqlPutMonth  = `INSERT INTO call_log_months (user_id, month) VALUES (?, ?)`
	cqlPutRecord = `INSERT INTO call_log (user_id, month, started_at, call_id, conversation_id, media, started_by, ended_at, seconds, outcome, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// put writes the month first: a month without a record is no harm, a record in a month that nobody knows of would be lost.
func (c *cassandra) put(ctx context.Context, user wire.UserID, r wire.CallRecord) error {
	month := monthOf(r.StartedAt)
	if err := c.db.Write(ctx, cqlPutMonth, string(user), month); err != nil {
		return fmt.Errorf("write month: %w", err)
	}
	err := c.db.Write(ctx, cqlPutRecord, string(user), month, r.StartedAt, string(r.CallID), string(r.ConversationID), r.Media,
		string(r.StartedBy), r.EndedAt, r.Seconds, r.Outcome, r.Reason)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

const (
	cqlMonths  = `SELECT month FROM call_log_months WHERE user_id = ? AND month <= ?`
	cqlRecords = `SELECT started_at, call_id, conversation_id, media, started_by, ended_at, seconds, outcome, reason FROM call_log
WHERE user_id = ? AND month = ? AND (started_at, call_id) < (?, ?) LIMIT ?`
)

func (c *cassandra) before(ctx context.Context, user wire.UserID, at time.Time, call wire.CallID, limit int) ([]wire.CallRecord, error) {
	months, err := c.months(ctx, user, monthOf(at))
	if err != nil {
		return nil, err
	}
	found := []wire.CallRecord{}
	for _, month := range months {
		if len(found) >= limit {
			break
		}
		part, err := c.part(ctx, user, month, at, call, limit-len(found))
		if err != nil {
			return nil, err
		}
		found = append(found, part...)
	}
	return found, nil
}

// months are those with records, up to one, the newest first.
func (c *cassandra) months(ctx context.Context, user wire.UserID, last int) (months []int, err error) {
	start := func() { months = nil }
	err = c.db.Read(ctx, start, func(scan func(...any) error) (bool, error) {
		var month int
		if err := scan(&month); err != nil {
			return false, err
		}
		months = append(months, month)
		return true, nil
	}, cqlMonths, string(user), last)
	if err != nil {
		return nil, fmt.Errorf("read months: %w", err)
	}
	return months, nil
}

func (c *cassandra) part(ctx context.Context, user wire.UserID, month int, at time.Time, call wire.CallID, limit int) (part []wire.CallRecord, err error) {
	start := func() { part = nil }
	err = c.db.Read(ctx, start, func(scan func(...any) error) (bool, error) {
		var r wire.CallRecord
		var id, conversation, by gocql.UUID
		if err := scan(&r.StartedAt, &id, &conversation, &r.Media, &by, &r.EndedAt, &r.Seconds, &r.Outcome, &r.Reason); err != nil {
			return false, err
		}
		r.CallID, r.ConversationID, r.StartedBy = wire.CallID(id.String()), wire.ConversationID(conversation.String()), wire.UserID(by.String())
		r.StartedAt, r.EndedAt = r.StartedAt.UTC(), r.EndedAt.UTC()
		part = append(part, r)
		return true, nil
	}, cqlRecords, string(user), month, at, string(call), limit)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return part, nil
}

const cqlTablesThere = `SELECT month FROM call_log_months LIMIT 1`

// ready fails while the migrations have not run.
func (c *cassandra) ready(ctx context.Context) error {
	nothing := func(func(...any) error) (bool, error) { return false, nil }
	if err := c.db.Read(ctx, func() {}, nothing, cqlTablesThere); err != nil {
		return fmt.Errorf("look at the tables: %w", err)
	}
	return nil
}
