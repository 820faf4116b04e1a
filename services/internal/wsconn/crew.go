package wsconn

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
)

// crew writes for all connections of the process: as many goroutines as there are processors, while there is something to write. They
// never wait for a peer, so that one frame for a thousand connections costs a thousand writes, and not a thousand goroutines.
type crew struct {
	mu      sync.Mutex
	waiting []*Conn // each at most once
	working int
}

var writers crew

// turns is how many connections one of the crew takes at a time.
const turns = 8

func (w *crew) take(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, c)
	if w.working < runtime.GOMAXPROCS(0) {
		w.working++
		go w.work()
	}
}

func (w *crew) work() {
	p := pens.Get().(*pen)
	defer pens.Put(p)
	var mine [turns]*Conn
	for {
		n := w.next(&mine)
		if n == 0 {
			return
		}
		for _, c := range mine[:n] {
			c.write(p)
		}
		runtime.Gosched() // others have waited meanwhile
	}
}

// next gives nobody to whom the crew does not need any more.
func (w *crew) next(mine *[turns]*Conn) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := copy(mine[:], w.waiting)
	clear(w.waiting[:n])
	w.waiting = w.waiting[n:]
	if n == 0 {
		w.waiting = nil
		w.working--
	}
	return n
}

// pen is what one of the crew writes with.
type pen struct {
	buffer  []byte
	content []byte
	n       int
	err     error
	put     func(descriptor uintptr) bool
}

var pens = sync.Pool{New: func() any {
	p := &pen{buffer: make([]byte, 0, together)}
	p.put = p.putOnce // once, as it costs an allocation
	return p
}}

// write writes as much as is taken at once.
func (p *pen) write(to syscall.RawConn, content []byte) (int, error) {
	if to == nil {
		return 0, nil
	}
	p.content, p.n, p.err = content, 0, nil
	err := to.Write(p.put)
	p.content = nil
	return p.n, errors.Join(err, p.err)
}

func (p *pen) putOnce(descriptor uintptr) bool {
	n, err := syscall.Write(int(descriptor), p.content)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Write(int(descriptor), p.content)
	}
	if !errors.Is(err, syscall.EAGAIN) {
		p.err = err
	}
	p.n = max(n, 0)
	return true // it is not waited for
}
