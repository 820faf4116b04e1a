package wsconn

import "sync"

// verdict is what became of a frame.
type verdict int

const (
	accepted verdict = iota
	full
	ended
)

// queue holds frames on their way to the writer, bounded in bytes.
type queue struct {
	ready chan struct{} // holds one signal while there is something to take
	limit int

	mu     sync.Mutex
	frames [][]byte
	bytes  int
	over   bool
	reason Code
}

func newQueue(limit int) *queue {
	return &queue{ready: make(chan struct{}, 1), limit: limit}
}

func (q *queue) put(frame []byte) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return ended
	}
	if q.bytes+len(frame) > q.limit {
		return full
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
	select {
	case q.ready <- struct{}{}:
	default: // the writer has a signal waiting
	}
	return accepted
}

// pop takes the oldest frame, nil when there is none. The bound holds for all but the one frame being written.
func (q *queue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		q.frames = nil // gives the grown slice back
		return nil
	}
	frame := q.frames[0]
	q.frames[0], q.frames = nil, q.frames[1:]
	q.bytes -= len(frame)
	return frame
}

// end closes the queue for the first caller and reports whether it was this one.
func (q *queue) end(reason Code) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return false
	}
	q.over, q.reason = true, reason
	if reason == Slow {
		q.frames, q.bytes = nil, 0 // it will not read them in time, and can read them again elsewhere
	}
	return true
}

func (q *queue) code() Code {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}
