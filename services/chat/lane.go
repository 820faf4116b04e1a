package chat

import (
	"context"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// batchSize is how many messages of a conversation are numbered, stored and marked together.
	batchSize = 128

	// laneLimit is how many may wait in one conversation, totalLimit and totalBytes in all of this host. Who comes when
	// it is full is told at once (TooMany, or Unavailable) and sends again later under the same id.
	laneLimit  = 512
	totalLimit = 8192
	totalBytes = 64 << 20

	// closeGrace is for what is being sent when the service closes.
	closeGrace = 5 * time.Second
)

// send is one message on its way; its sender waits on done, which holds one answer.
type send struct {
	ctx     context.Context // the sender's: who has left before the message was numbered is not numbered
	caller  wire.Session
	request wire.SendRequest
	hash    []byte
	done    chan sendAnswer
}

type sendAnswer struct {
	sent wire.Sent
	err  error
}

func (w *send) answer(sent wire.Sent, err error) { w.done <- sendAnswer{sent, err} }

// lanes give each conversation that somebody writes in one worker, which takes whatever waits as one batch. A worker
// ends when nothing waits.
type lanes struct {
	work    func(ctx context.Context, conversation wire.ConversationID, batch []*send)
	ctx     context.Context //nolint:containedctx // the life of the workers, ended by close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	waiting map[wire.ConversationID][]*send // a key for each worker
	total   int                             // waiting and being worked on
	bytes   int
	closed  bool
}

func newLanes(work func(context.Context, wire.ConversationID, []*send)) *lanes {
	ctx, cancel := context.WithCancel(context.Background())
	return &lanes{work: work, ctx: ctx, cancel: cancel, waiting: map[wire.ConversationID][]*send{}}
}

// add fails with TooMany or Unavailable when there is no room.
func (l *lanes) add(id wire.ConversationID, w *send) error {
	const op = "chat.lanes"
	l.mu.Lock()
	defer l.mu.Unlock()
	queue, runs := l.waiting[id]
	size := len(w.request.Body)
	switch {
	case l.closed:
		return apperr.E(op, apperr.Unavailable, "This server is stopping. Try again.", nil, apperr.RetryAfter(time.Second))
	case len(queue) >= laneLimit:
		return apperr.E(op, apperr.TooMany, "Too much is being written in this conversation. Wait a moment.", nil,
			apperr.Code("conversation_busy"), apperr.RetryAfter(time.Second))
	case l.total >= totalLimit, l.bytes+size > totalBytes:
		return apperr.E(op, apperr.Unavailable, "The system is busy. Try again.", nil, apperr.RetryAfter(time.Second))
	}
	l.total++
	l.bytes += size
	l.waiting[id] = append(queue, w)
	if !runs {
		l.running.Go(func() { l.run(id) })
	}
	return nil
}

func (l *lanes) run(id wire.ConversationID) {
	for batch := l.take(id); batch != nil; batch = l.take(id) {
		l.work(l.ctx, id, batch)
		l.leave(batch)
	}
}

// take gives what waits; nil ends the worker, and whoever comes next starts another.
func (l *lanes) take(id wire.ConversationID) []*send {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.waiting[id]
	if len(queue) == 0 {
		delete(l.waiting, id)
		return nil
	}
	n := min(len(queue), batchSize)
	batch := queue[:n:n]
	l.waiting[id] = queue[n:]
	return batch
}

func (l *lanes) leave(batch []*send) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= len(batch)
	for _, w := range batch {
		l.bytes -= len(w.request.Body)
	}
}

func (l *lanes) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	stop := time.AfterFunc(closeGrace, l.cancel)
	l.running.Wait()
	stop.Stop()
	l.cancel()
}
