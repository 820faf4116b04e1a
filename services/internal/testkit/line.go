package testkit

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Line is a TCP connection to a server that a test can cut and mend: the server's death, without killing it.
type Line struct {
	target   string
	listener net.Listener

	mu     sync.Mutex
	cut    bool
	frozen chan struct{} // closed by Mend; nil while bytes pass
	ends   map[net.Conn]struct{}
	tasks  sync.WaitGroup
}

// NewLine leads to target.
func NewLine(t testing.TB, target string) *Line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{target: target, listener: listener, ends: map[net.Conn]struct{}{}}
	l.tasks.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.tasks.Wait()
	})
	return l
}

// Address is this end of the line.
func (l *Line) Address() string { return l.listener.Addr().String() }

// Cut ends all connections and lets no new one through.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.thawLocked()
	for end := range l.ends {
		_ = end.Close()
	}
}

// Freeze keeps all connections and lets nothing through them: the server's pause.
func (l *Line) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil {
		l.frozen = make(chan struct{})
	}
}

// Mend lets connections, and what waits in them, through again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
	l.thawLocked()
}

func (l *Line) thawLocked() {
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

// gate is a reader that waits while the line is frozen.
type gate struct {
	line *Line
	net.Conn
}

func (g gate) Read(into []byte) (int, error) {
	n, err := g.Conn.Read(into)
	g.line.mu.Lock()
	frozen := g.line.frozen
	g.line.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	return n, err
}

func (l *Line) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.tasks.Go(func() { l.join(near) })
	}
}

func (l *Line) join(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !l.keep(near, far) {
		return
	}
	defer l.drop(near, far)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		l.tasks.Go(func() {
			_, _ = io.Copy(pair[0], io.Reader(gate{l, pair[1]}))
			done <- struct{}{}
		})
	}
	<-done
}

func (l *Line) keep(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range ends {
		l.ends[end] = struct{}{}
	}
	return !l.cut
}

func (l *Line) drop(ends ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range ends {
		delete(l.ends, end)
	}
}
