package sfu

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a client's way to the SFU and back, which can lose packets, be narrow, and end somewhere else.
type link struct {
	t     testing.TB
	lossy atomic.Int64 // per mille, each way
	rate  atomic.Int64 // bits a second of what comes; 0 is no bound
	seed  *rand.Rand

	sent, sentLost, came, cameLost, cameFull atomic.Int64

	mu     sync.Mutex
	conn   *net.UDPConn
	closed bool
	free   time.Time // when what waits has passed the narrow place
	ready  chan passing
	going  sync.WaitGroup
	done   chan struct{}
}

// A narrow place holds so much, and then loses what comes.
const narrowQueue = 250 * time.Millisecond

type passing struct {
	packet []byte
	from   net.Addr
	at     time.Time
}

func newLink(t testing.TB) *link {
	t.Helper()
	l := &link{t: t, conn: listen(t), ready: make(chan passing, 4096), done: make(chan struct{}), seed: rand.New(rand.NewPCG(1, 2))}
	l.going.Go(func() { l.pass(l.conn) })
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// over gives a peer two such links, one a connection.
func over(up, down *link) func(*peerOptions) {
	return func(o *peerOptions) { o.up, o.down = up, down }
}

// move goes on from another address.
func (l *link) move() {
	l.t.Helper()
	conn := listen(l.t)
	l.mu.Lock()
	old := l.conn
	l.conn = conn
	l.mu.Unlock()
	_ = old.Close()
	l.going.Go(func() { l.pass(conn) })
}

func (l *link) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seed.Int64N(1000) < l.lossy.Load()
}

// pass takes what comes, and has it wait where the way is narrow.
func (l *link) pass(conn *net.UDPConn) {
	for buffer := make([]byte, 2000); ; {
		n, from, err := conn.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		l.came.Add(1)
		if l.loses() {
			l.cameLost.Add(1)
			continue
		}
		p := passing{packet: append([]byte{}, buffer[:n]...), from: from, at: time.Now()}
		if rate := l.rate.Load(); rate > 0 {
			now := time.Now()
			l.mu.Lock()
			if l.free.Before(now) {
				l.free = now
			}
			full := l.free.Sub(now) > narrowQueue
			if !full {
				l.free = l.free.Add(time.Duration(float64(8*n) / float64(rate) * float64(time.Second)))
				p.at = l.free
			}
			l.mu.Unlock()
			if full {
				l.cameFull.Add(1)
				continue
			}
		}
		select {
		case l.ready <- p:
		case <-l.done:
			return
		}
	}
}

func (l *link) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-l.done:
		return 0, nil, net.ErrClosed
	case p := <-l.ready:
		timer := time.NewTimer(time.Until(p.at))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.done:
			return 0, nil, net.ErrClosed
		}
		return copy(b, p.packet), p.from, nil
	}
}

func (l *link) WriteTo(b []byte, to net.Addr) (int, error) {
	l.sent.Add(1)
	if l.loses() {
		l.sentLost.Add(1)
		return len(b), nil
	}
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if _, err := conn.WriteTo(b, to); err != nil {
		return len(b), nil // it has just moved
	}
	return len(b), nil
}

func (l *link) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	close(l.done)
	err := l.conn.Close()
	l.going.Wait()
	return err
}

// LocalAddr stays what it was: nobody is told of a move.
func (l *link) LocalAddr() net.Addr              { return &net.UDPAddr{IP: localhost.AsSlice(), Port: 9} }
func (l *link) SetDeadline(time.Time) error      { return nil }
func (l *link) SetReadDeadline(time.Time) error  { return nil }
func (l *link) SetWriteDeadline(time.Time) error { return nil }
