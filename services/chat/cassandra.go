package chat

import (
	"context"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/wire"
)

// messages keeps bodies under their numbers. It decides nothing: whether a number holds is SQL's to say.
type messages interface {
	// insert puts an item under its number, durably in a quorum when it returns nil. The same item may be put again.
	insert(ctx context.Context, id wire.ConversationID, item wire.Item) error
	// span reads the numbers from..through into found, in order, until bytes of bodies are passed; it gives the last
	// number it vouches for and what is left of bytes. Passing says that numbers with a life may be among them.
	span(ctx context.Context, id wire.ConversationID, from, through int64, passing bool, bytes int) (found map[int64]wire.Item, last int64, left int, err error)
	// empty takes the body of a message away for good; at is when that was decided.
	empty(ctx context.Context, id wire.ConversationID, seq int64, at time.Time) error
	ready(ctx context.Context) error
}

// bucketSize bounds a partition.
const bucketSize = 10_000

func bucketOf(seq int64) int64 { return seq / bucketSize }

// cassandra keeps messages that stay in one table and those that pass in another, whose files are dropped whole when all
// in them has passed. No column is ever null and no row deleted. A row's timestamp is its number's, so that a late or
// repeated insert changes nothing, not even after the body was taken away.
type cassandra struct {
	db     *cqlstore.Store
	places chan struct{} // bounds the writes under way
}

func newCassandra(db *cqlstore.Store) *cassandra {
	return &cassandra{db: db, places: make(chan struct{}, writeLimit)}
}

const (
	cqlInsertMessage = `INSERT INTO messages (conversation_id, bucket, seq, client_id, sender, device, body, written_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	cqlInsertPassing = `INSERT INTO passing_messages (conversation_id, bucket, seq, client_id, sender, device, body, written_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`
)

func (c *cassandra) insert(ctx context.Context, id wire.ConversationID, item wire.Item) error {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return fmt.Errorf("insert message: %w", ctx.Err())
	}
	statement := cqlInsertMessage
	values := []any{string(id), bucketOf(item.Seq), item.Seq, string(item.ClientID), string(item.Sender), string(item.Device), item.Body, *item.At}
	if item.ExpiresAt == nil {
		values = append(values, item.At.UnixMicro())
	} else {
		statement = cqlInsertPassing
		values = append(values, *item.ExpiresAt, item.At.UnixMicro(), int(item.ExpiresAt.Sub(*item.At).Seconds()))
	}
	if err := c.db.Write(ctx, statement, values...); err != nil {
		return fmt.Errorf("insert message: %w", err)
	}
	return nil
}

const (
	cqlReadMessages = `SELECT seq, client_id, sender, device, body, cleared, written_at FROM messages
WHERE conversation_id = ? AND bucket = ? AND seq >= ? AND seq <= ?`
	// #nosec G101 -- a statement
	cqlReadPassing = `SELECT seq, client_id, sender, device, body, cleared, written_at, expires_at FROM passing_messages
WHERE conversation_id = ? AND bucket = ? AND seq >= ? AND seq <= ?`
)

func (c *cassandra) span(ctx context.Context, id wire.ConversationID, from, through int64, passing bool, bytes int) (map[int64]wire.Item, int64, int, error) {
	found := map[int64]wire.Item{}
	for ; from <= through && bytes > 0; from = (bucketOf(from) + 1) * bucketSize {
		end := min(through, (bucketOf(from)+1)*bucketSize-1)
		last, err := c.part(ctx, found, &bytes, cqlReadMessages, id, from, end)
		if err == nil && passing {
			last, err = c.part(ctx, found, &bytes, cqlReadPassing, id, from, last)
		}
		if err != nil {
			return nil, 0, 0, fmt.Errorf("read messages: %w", err)
		}
		if last < end {
			return found, last, 0, nil
		}
	}
	return found, min(through, from-1), bytes, nil
}

// part reads within a bucket, until it has passed bytes, and gives the last number it has read up to.
func (c *cassandra) part(ctx context.Context, found map[int64]wire.Item, bytes *int, statement string, id wire.ConversationID, from, through int64) (last int64, err error) {
	budget := *bytes
	start := func() { *bytes, last = budget, through }
	row := func(scan func(...any) error) (bool, error) {
		item, err := scanItem(scan, statement == cqlReadPassing)
		if err != nil {
			return false, err
		}
		found[item.Seq] = item
		if *bytes -= len(item.Body); *bytes <= 0 {
			last = item.Seq
		}
		return *bytes > 0, nil
	}
	err = c.db.Read(ctx, start, row, statement, string(id), bucketOf(from), from, through)
	return last, err
}

func scanItem(scan func(...any) error, passing bool) (wire.Item, error) {
	var item wire.Item
	var clientID, sender gocql.UUID
	var device string
	var cleared bool
	var at, expires time.Time
	into := []any{&item.Seq, &clientID, &sender, &device, &item.Body, &cleared, &at}
	if passing {
		into = append(into, &expires)
		item.ExpiresAt = &expires
	}
	if err := scan(into...); err != nil {
		return wire.Item{}, err
	}
	at, expires = at.UTC(), expires.UTC()
	item.Kind, item.At = wire.ItemMessage, &at
	item.ClientID, item.Sender, item.Device = wire.ClientID(clientID.String()), wire.UserID(sender.String()), wire.DeviceID(device)
	if cleared {
		item.Kind = wire.ItemCleared
	}
	return item, nil
}

const (
	cqlEmptyMessage = `UPDATE messages USING TIMESTAMP ? SET body = '', cleared = true
WHERE conversation_id = ? AND bucket = ? AND seq = ?`
	cqlEmptyPassing = `UPDATE passing_messages USING TIMESTAMP ? AND TTL ? SET body = '', cleared = true
WHERE conversation_id = ? AND bucket = ? AND seq = ?`
)

func (c *cassandra) empty(ctx context.Context, id wire.ConversationID, seq int64, at time.Time) error {
	found, _, _, err := c.span(ctx, id, seq, seq, true, 1)
	if err != nil {
		return err
	}
	item, there := found[seq]
	if !there {
		return nil // its life has passed
	}
	later := max(at.UnixMicro(), item.At.UnixMicro()+1)
	if item.ExpiresAt == nil {
		err = c.db.Write(ctx, cqlEmptyMessage, later, string(id), bucketOf(seq), seq)
	} else if left := time.Until(*item.ExpiresAt); left > 0 {
		err = c.db.Write(ctx, cqlEmptyPassing, later, int(left.Seconds())+1, string(id), bucketOf(seq), seq)
	}
	if err != nil {
		return fmt.Errorf("empty message: %w", err)
	}
	return nil
}

const cqlTablesThere = `SELECT seq FROM messages LIMIT 1`

// ready fails while the migrations have not run.
func (c *cassandra) ready(ctx context.Context) error {
	nothing := func(func(...any) error) (bool, error) { return false, nil }
	if err := c.db.Read(ctx, func() {}, nothing, cqlTablesThere); err != nil {
		return fmt.Errorf("look at the tables: %w", err)
	}
	return nil
}
