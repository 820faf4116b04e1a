package wsconn

import "sync"

// verdict is what became of a frame.
type verdict int

const (
	accepted verdict = iota
	full
	ended
)

// work is what there is for a writer.
type work int

const (
	nothing work = iota
	aFrame
	aPing
	theEnd
)

// queue holds frames on their way to the writer, bounded in bytes. It has a writer exactly while there is work: who brings some when there
// is none is to start one.
type queue struct {
	limit int

	mu      sync.Mutex
	frames  [][]byte
	bytes   int
	ping    bool
	writing bool
	over    bool
	reason  Code
	told    bool          // the end was given to the writer
	changed chan struct{} // closed when something was taken; nil when nobody waits
}

func newQueue(limit int) *queue { return &queue{limit: limit} }

func (q *queue) put(frame []byte, start func()) verdict {
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
	q.wakeLocked(start)
	return accepted
}

func (q *queue) wantPing(start func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.ping = true
		q.wakeLocked(start)
	}
}

func (q *queue) wakeLocked(start func()) {
	if !q.writing && !q.told {
		q.writing = true
		start()
	}
}

// pop takes what is next. The bound holds for all but the one frame being written. Nothing and the end are the writer's last.
func (q *queue) pop() ([]byte, work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.frames) > 0:
		frame := q.frames[0]
		q.frames[0], q.frames = nil, q.frames[1:]
		q.bytes -= len(frame)
		q.tellLocked()
		return frame, aFrame
	case q.over:
		q.writing, q.told = false, true
		return nil, theEnd
	case q.ping:
		q.ping = false
		return nil, aPing
	default:
		q.frames, q.writing = nil, false // gives the grown slice back
		return nil, nothing
	}
}

func (q *queue) tellLocked() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// waiting is how many bytes wait, and a channel that is closed when that has changed.
func (q *queue) waiting() (int, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return q.bytes, q.changed
}

// end closes the queue for the first caller and reports whether it was this one.
func (q *queue) end(reason Code, start func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return false
	}
	q.over, q.reason = true, reason
	if reason == Slow {
		q.frames, q.bytes = nil, 0 // it will not read them in time, and can read them again elsewhere
	}
	q.wakeLocked(start)
	return true
}

// abandon is the writer's, when it cannot write: nothing more is to be written.
func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frames, q.bytes = nil, 0
	q.writing, q.told = false, true
	q.tellLocked()
}

func (q *queue) code() Code {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}
