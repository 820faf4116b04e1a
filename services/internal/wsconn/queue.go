package wsconn

import (
	"encoding/binary"
	"sync"

	"github.com/gorilla/websocket"
)

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
	something
	theEnd
)

// together is about how many bytes leave at once, if they wait at once.
const together = 16 << 10

// queue holds frames on their way to the writer, bounded in bytes. It has a writer exactly while there is work: who brings some when there
// is none is to start one.
type queue struct {
	limit int

	mu      sync.Mutex
	frames  [][]byte
	bytes   int
	ping    bool
	pong    []byte // the answer to the peer's last ping; nil when it has it
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

func (q *queue) wantPong(content []byte, start func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.pong = content
		q.wakeLocked(start)
	}
}

func (q *queue) wakeLocked(start func()) {
	if !q.writing && !q.told {
		q.writing = true
		start()
	}
}

// pop appends what is next, ready for the wire. The bound holds for all but what is being written. Nothing and the end are the writer's last.
func (q *queue) pop(into []byte) ([]byte, work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.frames) > 0:
		into = q.framesLocked(into)
	case q.over:
		q.writing, q.told = false, true
		return into, theEnd
	case q.pong == nil && !q.ping:
		q.frames, q.writing = nil, false // gives the grown slice back
		return into, nothing
	}
	if q.pong != nil {
		into, q.pong = appendFrame(into, websocket.PongMessage, q.pong), nil
	}
	if q.ping {
		into, q.ping = appendFrame(into, websocket.PingMessage, nil), false
	}
	return into, something
}

func (q *queue) framesLocked(into []byte) []byte {
	for taken := 0; len(q.frames) > 0 && (taken == 0 || taken+len(q.frames[0]) <= together); {
		frame := q.frames[0]
		q.frames[0], q.frames = nil, q.frames[1:]
		q.bytes -= len(frame)
		taken += len(frame)
		into = appendFrame(into, websocket.TextMessage, frame)
	}
	q.tellLocked()
	return into
}

// appendFrame writes a whole message of a server (RFC 6455 §5.2): one frame, unmasked.
func appendFrame(into []byte, kind byte, content []byte) []byte {
	const final = 0x80
	into = append(into, final|kind)
	switch n := len(content); {
	case n < 126:
		into = append(into, byte(n))
	case n < 1<<16:
		into = binary.BigEndian.AppendUint16(append(into, 126), uint16(n))
	default:
		into = binary.BigEndian.AppendUint64(append(into, 127), uint64(n))
	}
	return append(into, content...)
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
