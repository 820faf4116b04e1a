package chat

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const (
	// markers is how many commits of marks are under way at a time, markTime how long one may take.
	markers  = 2
	markTime = 10 * time.Second
)

// marks makes numbers stored for all conversations of this host together: what comes while a commit is under way
// is in the next one, so that their number grows with the disk's speed and not with the messages. At most one batch a
// conversation waits, and no more messages than the lanes let in.
type marks struct {
	db      *sqlstore.Store
	ctx     context.Context //nolint:containedctx // the life of the commits, ended by close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	waiting []*marking
	workers int
}

// marking is what one batch wants marked, and what became of it once done is closed.
type marking struct {
	id   wire.ConversationID
	seqs []int64

	marked map[int64]bool
	err    error
	done   chan struct{}
}

func newMarks(db *sqlstore.Store) *marks {
	ctx, cancel := context.WithCancel(context.Background())
	return &marks{db: db, ctx: ctx, cancel: cancel}
}

func (m *marks) mark(ctx context.Context, id wire.ConversationID, seqs []int64) (map[int64]bool, error) {
	one := &marking{id: id, seqs: seqs, done: make(chan struct{})}
	m.mu.Lock()
	m.waiting = append(m.waiting, one)
	if m.workers < markers {
		m.workers++
		m.running.Go(m.run)
	}
	m.mu.Unlock()
	select {
	case <-one.done:
		return one.marked, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run commits what waits until nothing does.
func (m *marks) run() {
	for batch := m.take(); batch != nil; batch = m.take() {
		err := m.commit(batch)
		for _, one := range batch {
			one.err = err
			close(one.done)
		}
	}
}

// take gives all that waits; nil ends the worker, and whoever comes next starts another.
func (m *marks) take() []*marking {
	m.mu.Lock()
	defer m.mu.Unlock()
	batch := m.waiting
	m.waiting = nil
	if batch == nil {
		m.workers--
	}
	return batch
}

const (
	sqlMark = `UPDATE message_numbers SET state = 'stored'
WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'pending' RETURNING seq`
	sqlStoredAmong = `SELECT seq FROM message_numbers WHERE conversation_id = $1 AND seq = ANY($2::bigint[]) AND state = 'stored'`
)

// commit outlives who waits for it: others wait too.
func (m *marks) commit(batch []*marking) error {
	ctx, cancel := context.WithTimeout(m.ctx, markTime)
	defer cancel()
	return m.db.Single(ctx, func(q sqlstore.Querier) error {
		var work pgx.Batch
		for _, one := range batch {
			one.marked = map[int64]bool{}
			work.Queue(sqlMark, one.id, one.seqs).Query(collectSeqs(one.marked))
		}
		return q.SendBatch(ctx, &work).Close()
	})
}

// close gives up what is under way. Nobody marks any more.
func (m *marks) close() {
	m.cancel()
	m.running.Wait()
}

func collectSeqs(found map[int64]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var seq int64
		_, err := pgx.ForEachRow(rows, []any{&seq}, func() error { found[seq] = true; return nil })
		return err
	}
}

// mark makes pending numbers stored, and tells which are; the others are void.
func (s *store) mark(ctx context.Context, id wire.ConversationID, letters []*letter) (map[int64]bool, error) {
	seqs := make([]int64, len(letters))
	for i, l := range letters {
		seqs[i] = l.seq
	}
	marked, err := s.marks.mark(ctx, id, seqs)
	if err != nil {
		return nil, fmt.Errorf("mark messages: %w", err)
	}
	if len(marked) < len(seqs) { // somebody finished them for us, or a reader voided them
		if err := s.seqs(ctx, marked, sqlStoredAmong, id, seqs); err != nil {
			return nil, fmt.Errorf("look for marks: %w", err)
		}
	}
	return marked, nil
}
