package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// States of a number. It is given pending and becomes stored or void, by compare-and-set, for good; an event is one from
// the start.
const (
	statePending = "pending"
	stateStored  = "stored"
)

// number is what the store gave a message.
type number struct {
	seq     int64
	state   string
	at      time.Time
	life    time.Duration
	device  wire.DeviceID // the one that sent it first
	refused error
}

const (
	sqlPresentAmong = `SELECT user_id FROM conversation_members
WHERE conversation_id = $1 AND user_id = ANY($2::uuid[]) AND left_seq IS NULL`
	sqlMoveHead      = `UPDATE conversations SET head = head + $2 WHERE id = $1 RETURNING head`
	sqlInsertNumbers = `INSERT INTO message_numbers
(conversation_id, seq, state, sender_user, sender_device, client_id, body_hash, life_seconds, created_at)
SELECT c.id, c.head - $2::bigint + a.place, 'pending', a.sender, a.device, a.client_id, a.hash, c.life_seconds, date_trunc('milliseconds', now())
FROM conversations c, unnest($3::bigint[], $4::uuid[], $5::text[], $6::uuid[], $7::bytea[]) AS a (place, sender, device, client_id, hash)
WHERE c.id = $1
ON CONFLICT (conversation_id, sender_user, client_id) DO NOTHING
RETURNING seq, created_at, life_seconds`
	sqlRecords = `SELECT sender_user, client_id, seq, state, sender_device, body_hash, life_seconds, created_at
FROM message_numbers WHERE conversation_id = $1 AND sender_user = ANY($2::uuid[]) AND client_id = ANY($3::uuid[])`
	sqlForgetVoid = `UPDATE message_numbers SET client_id = NULL WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'void'`
)

// errKnown sends a batch that holds a repeat, or somebody who is not a member, the longer way.
var errKnown = errors.New("not all of the batch is new")

// number gives each letter a number, or the one it has, or a refusal: membership, order and idempotency record are one
// transaction. The short way asks for no record first: the unique key tells.
func (s *store) number(ctx context.Context, id wire.ConversationID, letters []*letter) error {
	err := s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return numberNew(ctx, tx, id, letters) })
	// Nobody knows whether an interrupted commit gave numbers: the longer way looks.
	for tries := 0; tries < 2 && (errors.Is(err, errKnown) || errors.Is(err, sqlstore.ErrCommitUnknown)); tries++ {
		err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return numberAny(ctx, tx, id, letters) })
	}
	return err
}

func numberNew(ctx context.Context, tx pgx.Tx, id wire.ConversationID, letters []*letter) error {
	senders := sendersOf(letters)
	var work pgx.Batch
	present := map[wire.UserID]bool{}
	work.Queue(sqlPresentAmong, id, senders).Query(collectPresent(present))
	head := int64(0)
	work.Queue(sqlMoveHead, id, len(letters)).QueryRow(func(row pgx.Row) error { return row.Scan(&head) })
	given := 0
	queueInsert(&work, id, letters, &head, &given)
	err := tx.SendBatch(ctx, &work).Close()
	switch {
	case sqlstore.NoRows(err):
		return noConversation("chat.number")
	case err != nil:
		return fmt.Errorf("number messages: %w", err)
	case len(present) < len(senders) || given < len(letters):
		return errKnown
	default:
		return nil
	}
}

func sendersOf(letters []*letter) []wire.UserID {
	senders := make([]wire.UserID, 0, len(letters))
	for _, l := range letters {
		senders = append(senders, l.sender)
	}
	slices.Sort(senders)
	return slices.Compact(senders)
}

func collectPresent(present map[wire.UserID]bool) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var user wire.UserID
		_, err := pgx.ForEachRow(rows, []any{&user}, func() error { present[user] = true; return nil })
		return err
	}
}

// queueInsert adds the statement that makes pending numbers for all letters, below a head that has moved; given counts them.
func queueInsert(work *pgx.Batch, id wire.ConversationID, letters []*letter, head *int64, given *int) {
	n := len(letters)
	places, senders, devices := make([]int64, n), make([]wire.UserID, n), make([]wire.DeviceID, n)
	clientIDs, hashes := make([]wire.ClientID, n), make([][]byte, n)
	for i, l := range letters {
		places[i], senders[i], devices[i], clientIDs[i], hashes[i] = int64(i)+1, l.sender, l.asked.device, l.clientID, l.hash
	}
	work.Queue(sqlInsertNumbers, id, n, places, senders, devices, clientIDs, hashes).Query(func(rows pgx.Rows) error {
		var seq int64
		var life int
		var at time.Time
		_, err := pgx.ForEachRow(rows, []any{&seq, &at, &life}, func() error {
			l := letters[int(seq-*head)+n-1]
			l.number = number{seq: seq, state: statePending, at: at.UTC(), life: time.Duration(life) * time.Second, device: l.asked.device}
			*given++
			return nil
		})
		return err
	})
}

// numberAny looks at what is there first: a repeat gets its own number again, unless that is void.
func numberAny(ctx context.Context, tx pgx.Tx, id wire.ConversationID, letters []*letter) error {
	present, err := presentAmong(ctx, tx, id, sendersOf(letters))
	if err != nil {
		return err
	}
	records, err := recordsOf(ctx, tx, id, letters)
	if err != nil {
		return err
	}
	var fresh []*letter
	var voided []int64
	for _, l := range letters {
		record, known := records[recordKey{l.sender, l.clientID}]
		l.number = number{}
		switch {
		case known && !slices.Equal(record.hash, l.hash):
			l.refused = reused()
		case known && (record.state == stateStored || record.state == statePending):
			l.number = record.number // also of who has left since: it was sent in time
		case !present[l.sender]:
			l.refused = noConversation("chat.number")
		case known:
			voided = append(voided, record.seq)
			fresh = append(fresh, l)
		default:
			fresh = append(fresh, l)
		}
	}
	return insertFresh(ctx, tx, id, fresh, voided)
}

// insertFresh numbers what has no good number; a void one keeps its row, and gives the client's id up.
func insertFresh(ctx context.Context, tx pgx.Tx, id wire.ConversationID, fresh []*letter, voided []int64) error {
	if len(fresh) == 0 {
		return nil
	}
	var work pgx.Batch
	work.Queue(sqlForgetVoid, id, voided)
	head, given := int64(0), 0
	work.Queue(sqlMoveHead, id, len(fresh)).QueryRow(func(row pgx.Row) error { return row.Scan(&head) })
	queueInsert(&work, id, fresh, &head, &given)
	if err := tx.SendBatch(ctx, &work).Close(); err != nil {
		return fmt.Errorf("number messages: %w", err)
	}
	if given < len(fresh) {
		return fmt.Errorf("number messages: %d of %d were given a number", given, len(fresh))
	}
	return nil
}

func presentAmong(ctx context.Context, tx pgx.Tx, id wire.ConversationID, users []wire.UserID) (map[wire.UserID]bool, error) {
	present := map[wire.UserID]bool{}
	rows, err := tx.Query(ctx, sqlPresentAmong, id, users)
	if err == nil {
		err = collectPresent(present)(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("look for members: %w", err)
	}
	return present, nil
}

type recordKey struct {
	sender   wire.UserID
	clientID wire.ClientID
}

type record struct {
	number
	hash []byte
}

func recordsOf(ctx context.Context, tx pgx.Tx, id wire.ConversationID, letters []*letter) (map[recordKey]record, error) {
	clientIDs := make([]wire.ClientID, len(letters))
	for i, l := range letters {
		clientIDs[i] = l.clientID
	}
	rows, err := tx.Query(ctx, sqlRecords, id, sendersOf(letters), clientIDs)
	if err != nil {
		return nil, fmt.Errorf("look for records: %w", err)
	}
	records := map[recordKey]record{}
	for rows.Next() {
		var key recordKey
		var r record
		var life int
		if err := rows.Scan(&key.sender, &key.clientID, &r.seq, &r.state, &r.device, &r.hash, &life, &r.at); err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		r.at, r.life = r.at.UTC(), time.Duration(life)*time.Second
		records[key] = r
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return records, nil
}

const (
	sqlMark = `UPDATE message_numbers SET state = 'stored'
WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'pending' RETURNING seq`
	sqlStoredAmong = `SELECT seq FROM message_numbers WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'stored'`
)

// mark makes pending numbers stored, and tells which are; the others are void.
func (s *store) mark(ctx context.Context, id wire.ConversationID, letters []*letter) (map[int64]bool, error) {
	seqs := make([]int64, len(letters))
	for i, l := range letters {
		seqs[i] = l.seq
	}
	marked := map[int64]bool{}
	if err := s.seqs(ctx, marked, sqlMark, id, seqs); err != nil {
		return nil, fmt.Errorf("mark messages: %w", err)
	}
	if len(marked) < len(seqs) { // somebody finished them for us, or a reader voided them
		if err := s.seqs(ctx, marked, sqlStoredAmong, id, seqs); err != nil {
			return nil, fmt.Errorf("look for marks: %w", err)
		}
	}
	return marked, nil
}

func (s *store) seqs(ctx context.Context, found map[int64]bool, statement string, arguments ...any) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, statement, arguments...)
		if err != nil {
			return err
		}
		var seq int64
		_, err = pgx.ForEachRow(rows, []any{&seq}, func() error { found[seq] = true; return nil })
		return err
	})
}

const (
	sqlVoid = `UPDATE message_numbers SET state = 'void'
WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'pending' AND created_at < now() - $3 * INTERVAL '1 second'
RETURNING seq`
	sqlExceptions = `SELECT seq, state, sender_user, event, created_at, created_at < now() - $4 * INTERVAL '1 second'
FROM message_numbers WHERE conversation_id = $1 AND seq > $2 AND seq <= $3 AND state <> 'stored' ORDER BY seq`
)

// grace is how long a number may be pending, by the store's clock, before a reader voids it.
const grace = 5 * time.Second

// exception is a number that Cassandra is not asked about.
type exception struct {
	seq     int64
	state   string
	sender  wire.UserID
	event   *string
	at      time.Time
	overdue bool
}

// exceptions gives the numbers in (after, through] that are not stored messages, by number. Those pending beyond their
// grace are void when it returns.
func (s *store) exceptions(ctx context.Context, id wire.ConversationID, after, through int64) (map[int64]exception, error) {
	for {
		found, overdue, err := s.lookForExceptions(ctx, id, after, through)
		if err != nil || len(overdue) == 0 {
			return found, err
		}
		if err := s.seqs(ctx, map[int64]bool{}, sqlVoid, id, overdue, grace.Seconds()); err != nil {
			return nil, fmt.Errorf("void numbers: %w", err)
		}
	}
}

func (s *store) lookForExceptions(ctx context.Context, id wire.ConversationID, after, through int64) (found map[int64]exception, overdue []int64, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		found, overdue = map[int64]exception{}, nil
		rows, err := q.Query(ctx, sqlExceptions, id, after, through, grace.Seconds())
		if err != nil {
			return fmt.Errorf("look for exceptions: %w", err)
		}
		var e exception
		_, err = pgx.ForEachRow(rows, []any{&e.seq, &e.state, &e.sender, &e.event, &e.at, &e.overdue}, func() error {
			found[e.seq] = e
			if e.state == statePending && e.overdue {
				overdue = append(overdue, e.seq)
			}
			e.event = nil
			return nil
		})
		return err
	})
	return found, overdue, err
}

const sqlEnds = `SELECT seq, life_seconds > 0 AND created_at + life_seconds * INTERVAL '1 second' <= now() + INTERVAL '1 minute'
FROM message_numbers WHERE conversation_id = $1 AND seq = ANY($2::bigint[])`

// ended tells of stored numbers that are remembered whether their life has passed; a minute early, since Cassandra's
// clock is another one. A record that is forgotten is older than any life.
func (s *store) ended(ctx context.Context, id wire.ConversationID, seqs []int64) (ended map[int64]bool, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		ended = map[int64]bool{}
		rows, err := q.Query(ctx, sqlEnds, id, seqs)
		if err != nil {
			return err
		}
		var seq int64
		var over bool
		_, err = pgx.ForEachRow(rows, []any{&seq, &over}, func() error { ended[seq] = over; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for ends: %w", err)
	}
	return ended, nil
}

// recordsKept is longer than any client id is good, so that what is forgotten is refused before it is asked for.
const recordsKept = 31 * 24 * time.Hour

const sqlForgetRecords = `DELETE FROM message_numbers WHERE (conversation_id, seq) IN (
	SELECT conversation_id, seq FROM message_numbers
	WHERE created_at < now() - $1 * INTERVAL '1 second' AND state = 'stored' ORDER BY created_at LIMIT $2
)`

// forgetRecords removes old records of stored messages, at most limit of them. A number without a record is stored.
func (s *store) forgetRecords(ctx context.Context, limit int) (gone int, err error) {
	err = s.db.Single(ctx, func(q sqlstore.Querier) error {
		tag, err := q.Exec(ctx, sqlForgetRecords, recordsKept.Seconds(), limit)
		gone = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget records: %w", err)
	}
	return gone, nil
}
