package chat

import (
	"cmp"
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
	// sqlNumber gives numbers to all or, where not all senders are members, to none.
	sqlNumber = `WITH moved AS (
	UPDATE conversations SET head = head + $2 WHERE id = $1 AND $4 = (
		SELECT count(*) FROM conversation_members WHERE conversation_id = $1 AND user_id = ANY($3::uuid[]) AND left_seq IS NULL
	) RETURNING head - $2 AS before, life_seconds
)
INSERT INTO message_numbers
(conversation_id, seq, state, sender_user, sender_device, client_id, body_hash, life_seconds, created_at)
SELECT $1, m.before + a.place, 'pending', a.sender, a.device, a.client_id, a.hash, m.life_seconds, date_trunc('milliseconds', now())
FROM moved m, unnest($5::bigint[], $6::uuid[], $7::text[], $8::uuid[], $9::bytea[]) AS a (place, sender, device, client_id, hash)
RETURNING seq, created_at, life_seconds`
	sqlRecords = `SELECT sender_user, client_id, seq, state, sender_device, body_hash, life_seconds, created_at
FROM message_numbers WHERE conversation_id = $1 AND sender_user = ANY($2::uuid[]) AND client_id = ANY($3::uuid[])`
	sqlForgetVoid = `UPDATE message_numbers SET client_id = NULL WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'void'`
)

// errKnown sends a batch that holds a repeat, or somebody who is not a member, the longer way.
var errKnown = errors.New("not all of the batch is new")

// number gives each letter a number, or the one it has, or a refusal: membership, order and idempotency record are one
// transaction. The short way is one statement and asks for no record first: the unique key tells.
func (s *store) number(ctx context.Context, id wire.ConversationID, letters []*letter) error {
	err := s.numberNew(ctx, id, letters)
	// Nobody knows whether an interrupted commit gave numbers: the longer way looks.
	for tries := 0; tries < 2 && (errors.Is(err, errKnown) || errors.Is(err, sqlstore.ErrCommitUnknown)); tries++ {
		err = s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return numberAny(ctx, tx, id, letters) })
	}
	return err
}

// numberNew numbers all letters, or none where it fails with errKnown.
func (s *store) numberNew(ctx context.Context, id wire.ConversationID, letters []*letter) error {
	var given []number
	err := s.db.Single(ctx, func(q sqlstore.Querier) error {
		var err error
		given, err = numbers(ctx, q, id, letters)
		return err
	})
	switch {
	case sqlstore.UniqueViolation(err), err == nil && len(given) == 0:
		return errKnown
	case err != nil:
		return fmt.Errorf("number messages: %w", err)
	}
	assign(letters, given)
	return nil
}

// numbers makes as many as there are letters, or none.
func numbers(ctx context.Context, q sqlstore.Querier, id wire.ConversationID, letters []*letter) (given []number, err error) {
	n, senders := len(letters), sendersOf(letters)
	places, by, devices := make([]int64, n), make([]wire.UserID, n), make([]wire.DeviceID, n)
	clientIDs, hashes := make([]wire.ClientID, n), make([][]byte, n)
	for i, l := range letters {
		places[i], by[i], devices[i], clientIDs[i], hashes[i] = int64(i)+1, l.sender, l.asked.device, l.clientID, l.hash
	}
	rows, err := q.Query(ctx, sqlNumber, id, n, senders, len(senders), places, by, devices, clientIDs, hashes)
	if err != nil {
		return nil, err
	}
	var one number
	var life int
	_, err = pgx.ForEachRow(rows, []any{&one.seq, &one.at, &life}, func() error {
		given = append(given, number{seq: one.seq, state: statePending, at: one.at.UTC(), life: time.Duration(life) * time.Second})
		return nil
	})
	return given, err
}

// assign hands a run of numbers out in the order of the letters.
func assign(letters []*letter, given []number) {
	slices.SortFunc(given, func(a, b number) int { return cmp.Compare(a.seq, b.seq) })
	for i, l := range letters {
		l.number = given[i]
		l.number.device = l.asked.device
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
	if _, err := tx.Exec(ctx, sqlForgetVoid, id, voided); err != nil {
		return fmt.Errorf("forget void numbers: %w", err)
	}
	given, err := numbers(ctx, tx, id, fresh)
	if err != nil {
		return fmt.Errorf("number messages: %w", err)
	}
	if len(given) < len(fresh) {
		return fmt.Errorf("number messages: %d of %d were given a number", len(given), len(fresh))
	}
	assign(fresh, given)
	return nil
}

func presentAmong(ctx context.Context, tx pgx.Tx, id wire.ConversationID, users []wire.UserID) (map[wire.UserID]bool, error) {
	present := map[wire.UserID]bool{}
	rows, err := tx.Query(ctx, sqlPresentAmong, id, users)
	if err == nil {
		var user wire.UserID
		_, err = pgx.ForEachRow(rows, []any{&user}, func() error { present[user] = true; return nil })
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

func (s *store) seqs(ctx context.Context, found map[int64]bool, statement string, arguments ...any) error {
	return s.db.Single(ctx, func(q sqlstore.Querier) error {
		rows, err := q.Query(ctx, statement, arguments...)
		if err != nil {
			return err
		}
		return collectSeqs(found)(rows)
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
