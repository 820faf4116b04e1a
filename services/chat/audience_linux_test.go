package chat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/internal/testkit"
)

// audience reads many sockets in one goroutine and with one system call a delivery: what it takes of the cores, nobody else can have.
type audience struct {
	of      string
	epoll   int
	members []*listener
	began   time.Time
	sent    []atomic.Int64 // when, in nanoseconds since it began, by number
	stopped atomic.Bool
	running sync.WaitGroup

	heard  atomic.Int64 // publications, by all members together
	frames atomic.Int64 // that held them
	odd    atomic.Pointer[error]
	took   []time.Duration
}

// listener is the descriptor of a socket, out of the runtime's hands.
type listener struct {
	fd   int
	rest []byte // the beginning of a frame
}

func newAudience(t testing.TB, of string, deliveries, publications int) *audience {
	t.Helper()
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return &audience{
		of: of, epoll: epoll, began: time.Now(),
		sent: make([]atomic.Int64, publications), took: make([]time.Duration, 0, deliveries),
	}
}

// add takes a connection over, before anybody listens.
func (a *audience) add(conn *raw) (*listener, error) {
	defer func() { _ = conn.Close() }() // what is used from now on is a duplicate
	control, err := conn.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &listener{fd: -1, rest: conn.rest}
	var failed error
	if err := control.Control(func(fd uintptr) { l.fd, failed = syscall.Dup(int(fd)) }); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	a.members = append(a.members, l)
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(len(a.members) - 1)}
	return l, syscall.EpollCtl(a.epoll, syscall.EPOLL_CTL_ADD, l.fd, &event)
}

func (a *audience) fail(err error) { a.odd.CompareAndSwap(nil, &err) }

// listen reads until close, or until a socket has ended.
func (a *audience) listen() {
	events, buffer := make([]syscall.EpollEvent, 256), make([]byte, 64<<10)
	for !a.stopped.Load() {
		n, err := syscall.EpollWait(a.epoll, events, 100)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			a.fail(err)
			return
		}
		for _, event := range events[:max(n, 0)] {
			if err := a.read(a.members[event.Fd], buffer); err != nil {
				a.fail(fmt.Errorf("socket %d: %w", event.Fd, err))
				return
			}
		}
	}
}

func (a *audience) read(l *listener, buffer []byte) error {
	begun := copy(buffer, l.rest)
	n, err := syscall.Read(l.fd, buffer[begun:])
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	at, stream := time.Since(a.began), buffer[:begun+n]
	for {
		opcode, payload, size := frameIn(stream)
		if size == 0 {
			l.rest = append(l.rest[:0], stream...)
			return nil
		}
		if err := a.hear(l, at, opcode, payload); err != nil {
			return err
		}
		stream = stream[size:]
	}
}

func (a *audience) hear(l *listener, at time.Duration, opcode byte, payload []byte) error {
	switch {
	case opcode == websocket.PingMessage:
		return l.write(maskedFrame(websocket.PongMessage, string(payload)))
	case opcode == websocket.CloseMessage, bytes.Contains(payload, []byte(`"error"`)):
		return fmt.Errorf("it says %q", payload)
	case bytes.HasPrefix(payload, []byte("{}")), bytes.Contains(payload, []byte("\n{}")): // Centrifugo's ping, a line among others
		if err := l.write(masked("{}")); err != nil {
			return err
		}
	}
	found := 0
	for rest := payload; ; found++ {
		_, after, more := bytes.Cut(rest, []byte(bodyMark))
		if !more {
			break
		}
		a.took = append(a.took, at-time.Duration(a.sent[bodyNumber(after)].Load()))
		rest = after
	}
	if found > 0 {
		a.heard.Add(int64(found))
		a.frames.Add(1)
	}
	return nil
}

func (l *listener) write(frame []byte) error {
	_, err := syscall.Write(l.fd, frame)
	return err
}

// stamp says that a publication begins now.
func (a *audience) stamp(number int) { a.sent[number].Store(int64(time.Since(a.began))) }

// await wants so many deliveries since the beginning.
func (a *audience) await(t testing.TB, want int) {
	t.Helper()
	testkit.Eventually(t, patience, "the deliveries", func() bool { return a.heard.Load() >= int64(want) || a.odd.Load() != nil })
	if odd := a.odd.Load(); odd != nil {
		t.Fatalf("%s: %d of %d deliveries, then: %v", a.of, a.heard.Load(), want, *odd)
	}
}

func (a *audience) close() {
	a.stopped.Store(true)
	a.running.Wait()
	for _, l := range a.members {
		_ = syscall.Close(l.fd)
	}
	_ = syscall.Close(a.epoll)
}

// A body is its mark, its number and what fills it up.
const bodyMark = "fan-out "

func numbered(n, size int) string {
	body := fmt.Sprintf("%s%06d ", bodyMark, n)
	return body + strings.Repeat("x", size-len(body))
}

func bodyNumber(text []byte) (n int) {
	for _, digit := range text[:6] {
		n = 10*n + int(digit-'0')
	}
	return n
}
