// Package tunnel passes connections that were upgraded between a client and a service: bytes in both directions, of which it reads none.
package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
)

// Set is the tunnels of a process.
type Set struct {
	limit int

	mu       sync.Mutex
	stopping bool
	open     map[*Tunnel]struct{}
	running  sync.WaitGroup
}

// NewSet bounds how many there may be at once.
func NewSet(limit int) *Set { return &Set{limit: limit, open: map[*Tunnel]struct{}{}} }

// Tunnel is the service's end of one. It is the body of the answer that agreed to the upgrade.
type Tunnel struct {
	io.ReadWriteCloser
	conn *net.TCPConn // below it
}

// IsUpgrade reports whether the request asks to go on as a WebSocket (RFC 6455 §4.1).
func IsUpgrade(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") }

// Enter makes room for a tunnel, or fails with Unavailable. Whoever entered must Leave.
func (s *Set) Enter() (*Tunnel, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || len(s.open) >= s.limit {
		return nil, apperr.OrUnavailable("tunnel.Enter", errFull)
	}
	t := &Tunnel{}
	s.open[t] = struct{}{}
	s.running.Add(1)
	return t, nil
}

func (s *Set) Leave(t *Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, t)
	s.running.Done()
}

// Watch notes the connection that the request of ctx is sent on.
func (s *Set) Watch(ctx context.Context, t *Tunnel) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn, _ := info.Conn.(*net.TCPConn)
		s.mu.Lock()
		defer s.mu.Unlock()
		t.conn = conn
	}})
}

var (
	errFull      = errors.New("no room for another tunnel")
	errNoUpgrade = errors.New("the service's answer is no connection to upgrade")
)

// Begin puts the tunnel in the place of the answer's body. What begins while we stop ends at once.
func (s *Set) Begin(t *Tunnel, response *http.Response) error {
	body, writable := response.Body.(io.ReadWriteCloser)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !writable || t.conn == nil {
		return errNoUpgrade
	}
	t.ReadWriteCloser, response.Body = body, t
	if s.stopping {
		_ = t.conn.CloseWrite()
	}
	return nil
}

// Stop lets nobody in any more and ends our side towards the services: they say goodbye to their clients with a code of their own,
// which still passes. It returns when all are gone or ctx has ended.
func (s *Set) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	for t := range s.open {
		if t.ReadWriteCloser != nil {
			_ = t.conn.CloseWrite() // fails only where it has ended
		}
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}

// Count is how many there are.
func (s *Set) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// CloseWrite tells the service that the client says no more.
func (t *Tunnel) CloseWrite() error { return t.conn.CloseWrite() }

// lastWords is how long a client may take to leave once the service has.
const lastWords = 5 * time.Second

// WriteTo carries what the service says until it has ended.
func (t *Tunnel) WriteTo(client io.Writer) (int64, error) {
	n, err := carry(client, t.ReadWriteCloser)
	if conn, isConn := client.(net.Conn); isConn {
		_ = conn.SetDeadline(time.Now().Add(lastWords)) // fails only on a closed connection
	}
	return n, err
}

// ReadFrom carries what the client says until it has ended.
func (t *Tunnel) ReadFrom(client io.Reader) (int64, error) { return carry(t.ReadWriteCloser, client) }

const smallRead, largeRead = 1 << 10, 32 << 10

// largeBuffers are shared: most connections are silent most of the time.
var largeBuffers = sync.Pool{New: func() any { return new([largeRead]byte) }}

// carry copies until from ends. It holds a large buffer only while much comes.
func carry(to io.Writer, from io.Reader) (carried int64, err error) {
	small := make([]byte, smallRead)
	for {
		n, err := from.Read(small)
		if n > 0 {
			if _, err := to.Write(small[:n]); err != nil {
				return carried, err //nolint:wrapcheck // io.Copy's caller wants it as it is
			}
		}
		carried += int64(n)
		if err == nil && n == len(small) {
			var more int64
			more, err = carryMuch(to, from)
			carried += more
		}
		if errors.Is(err, io.EOF) {
			return carried, nil
		}
		if err != nil {
			return carried, err
		}
	}
}

// carryMuch copies until a read leaves room in a large buffer.
func carryMuch(to io.Writer, from io.Reader) (carried int64, err error) {
	large := largeBuffers.Get().(*[largeRead]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer largeBuffers.Put(large)
	for {
		n, err := from.Read(large[:])
		if n > 0 {
			if _, err := to.Write(large[:n]); err != nil {
				return carried, err //nolint:wrapcheck // see carry
			}
		}
		carried += int64(n)
		if err != nil || n < largeRead {
			return carried, err //nolint:wrapcheck // see carry
		}
	}
}
