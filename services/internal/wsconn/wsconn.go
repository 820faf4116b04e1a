// Package wsconn is the server's side of one WebSocket: one reader, a writer while there is something to write, a queue bounded in bytes,
// pings and close codes. It knows no users and nothing of what is said over it: that is its owner's.
package wsconn

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// Options bound a connection. A zero field takes the value in its comment.
type Options struct {
	ReadLimit    int64         // bytes of one frame: 64 KiB
	QueueBytes   int           // bytes waiting to be written: 1 MiB
	PingEvery    time.Duration // 25 s; a peer silent for twice as long is gone
	WriteTimeout time.Duration // 10 s a frame
	CloseGrace   time.Duration // 2 s for the peer to answer a close
	Subprotocol  string        // answered to who offers it; who offers none is served all the same
}

// ErrClosed is returned by Send once the connection is closing.
var ErrClosed = errors.New("socket is closing")

// ErrNotSocket is returned by Accept for a request that is no WebSocket handshake.
var ErrNotSocket = errors.New("not a WebSocket handshake")

// Conn is one connection. An idle one costs one goroutine and one timer. The library shakes hands and reads; all that is written after
// the handshake is written here, by one writer at a time.
type Conn struct {
	ws      *websocket.Conn
	raw     syscall.RawConn // nil where the connection has no descriptor
	options Options
	receive func(frame []byte)
	queue   *queue
	ending  chan struct{} // closed when the queue takes no more
	done    chan struct{} // closed when reader and writer have ended
	writers sync.WaitGroup

	farewell atomic.Int32 // a code to end with where our side has none to give

	deadlines sync.Mutex // orders Close against extend and allowWrite
	closeBy   time.Time  // set by Close: nothing waits longer than this
	ping      *time.Timer
}

// writeBuffers keeps the library from making one for each socket.
var writeBuffers sync.Pool

// Accept turns the request into a socket; the request's handler may return. The caller has judged the Origin; when Accept fails nothing
// was answered yet. Begin must be called next.
func Accept(w http.ResponseWriter, r *http.Request, options Options) (*Conn, error) {
	upgrader := websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   1024,
		WriteBufferSize:  1024,
		WriteBufferPool:  &writeBuffers,
		CheckOrigin:      func(*http.Request) bool { return true },
		Error:            func(http.ResponseWriter, *http.Request, int, error) {},
	}
	if options.Subprotocol != "" {
		upgrader.Subprotocols = []string{options.Subprotocol}
	}
	ws, err := upgrader.Upgrade(w, r, w.Header()) // with the headers every answer of ours carries
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSocket, err)
	}
	options = options.orDefaults()
	return &Conn{
		ws:      ws,
		raw:     descriptorOf(ws.NetConn()),
		options: options,
		queue:   newQueue(options.QueueBytes),
		ending:  make(chan struct{}),
		done:    make(chan struct{}),
	}, nil
}

func descriptorOf(conn net.Conn) syscall.RawConn {
	if c, has := conn.(syscall.Conn); has {
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

func (o Options) orDefaults() Options {
	if o.ReadLimit == 0 {
		o.ReadLimit = 64 << 10
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 1 << 20
	}
	if o.PingEvery == 0 {
		o.PingEvery = 25 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 10 * time.Second
	}
	if o.CloseGrace == 0 {
		o.CloseGrace = 2 * time.Second
	}
	return o
}

// Begin reads: text frames go to receive, one after the other; while it works, the peer is not read. When nothing of the connection runs
// any more, ended is told why: 0 when the peer left.
func (c *Conn) Begin(receive func(frame []byte), ended func(Code)) {
	c.receive = receive
	c.ws.SetReadLimit(c.options.ReadLimit)
	c.ws.SetPongHandler(func(string) error { return c.extend() })
	c.ws.SetPingHandler(c.answerPing)
	c.ws.SetCloseHandler(c.answerClose)
	// The first ping comes at a random moment, so that sockets opened together do not ping together.
	first := rand.N(c.options.PingEvery) + time.Millisecond //nolint:gosec // spreads load, hides nothing
	c.deadlines.Lock()
	if c.closeBy.IsZero() {
		c.ping = time.AfterFunc(first, c.sendPing)
	}
	c.deadlines.Unlock()
	go func() {
		c.read()
		close(c.done)
		ended(c.queue.code())
	}()
}

// Ending is closed as soon as the connection starts to close, by whichever side.
func (c *Conn) Ending() <-chan struct{} { return c.ending }

// Send queues a frame and never waits. A full queue closes the connection with Slow: what is lost is everything, so nothing is lost unnoticed.
func (c *Conn) Send(frame []byte) error {
	switch c.queue.put(frame, c.startWriter) {
	case accepted:
		return nil
	case full:
		c.Close(Slow)
	}
	return ErrClosed
}

// Await waits until less than n bytes wait to be written: for who has much to send and can wait. It fails with ErrClosed.
func (c *Conn) Await(n int) error {
	for {
		left, changed := c.queue.waiting()
		if left < n {
			return nil
		}
		select {
		case <-changed:
		case <-c.ending:
			return ErrClosed
		}
	}
}

// Close ends the connection; the first code given is the one the peer gets. Frames queued before it are still written, unless it is Slow.
func (c *Conn) Close(code Code) {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	c.closeBy = cmp.Or(c.closeBy, time.Now().Add(c.options.CloseGrace))
	if !c.queue.end(code, c.startWriter) {
		return
	}
	if c.ping != nil {
		c.ping.Stop()
	}
	// The net.Conn's deadlines, not gorilla's: these may be set beside a blocked read or write.
	_ = c.ws.NetConn().SetDeadline(c.closeBy) // fails only on a closed connection
	close(c.ending)
}

// Wait returns when nothing of the connection runs any more, and says why it ended: 0 when the peer left.
func (c *Conn) Wait() Code {
	<-c.done
	return c.queue.code()
}

func (c *Conn) read() {
	defer c.leave()
	if c.extend() != nil {
		return
	}
	for {
		kind, frame, err := c.ws.ReadMessage()
		if err != nil {
			c.readEnded(err)
			return
		}
		if kind != websocket.TextMessage {
			c.Close(BadFrame)
			continue // until the peer has answered, or its grace has passed
		}
		if !c.isEnding() {
			c.receive(frame)
		}
		if c.extend() != nil {
			return
		}
	}
}

// readEnded says goodbye to a peer whose side ended without a word: the proxy between us stops, and passes on what we still say.
func (c *Conn) readEnded(err error) {
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || errors.Is(err, io.EOF) {
		c.farewell.Store(int32(GoingAway))
	}
}

func (c *Conn) answerPing(content string) error {
	c.queue.wantPong([]byte(content), c.startWriter)
	return nil
}

// answerClose has what the peer said last said back to it, when the queue has been written.
func (c *Conn) answerClose(code int, _ string) error {
	c.farewell.Store(int32(code)) //nolint:gosec // it came as 16 bits
	return nil
}

func (c *Conn) isEnding() bool {
	select {
	case <-c.ending:
		return true
	default:
		return false
	}
}

// leave ends the writer, then the connection.
func (c *Conn) leave() {
	c.Close(0)
	c.writers.Wait()
	_ = c.ws.Close() // both sides are done with it
}

// extend gives the peer another two pings' time to say anything.
func (c *Conn) extend() error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.closeBy.IsZero() {
		return nil // Close has set the last deadline
	}
	return c.ws.SetReadDeadline(time.Now().Add(2 * c.options.PingEvery))
}

func (c *Conn) sendPing() {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.closeBy.IsZero() {
		return
	}
	c.queue.wantPing(c.startWriter)
	c.ping.Reset(c.options.PingEvery)
}

// startWriter runs with the queue locked, when nobody writes and there is something to write.
func (c *Conn) startWriter() {
	c.writers.Add(1)
	writers.take(c)
}

// write is a writer's turn: it takes what is queued until nothing is, or until the peer does not take it at once. Then a goroutine of the
// connection's own waits, and nobody else.
func (c *Conn) write(p *pen) {
	for {
		content, what := c.next(p.buffer[:0])
		if what == nothing {
			c.writers.Done()
			return
		}
		p.buffer = content
		n, err := p.write(c.raw, content)
		switch {
		case err != nil:
			c.giveUp()
			c.writers.Done()
			return
		case n < len(content):
			rest := bytes.Clone(content[n:])
			go c.writeOn(rest, what)
			return
		case what == theEnd:
			c.writers.Done()
			return
		}
	}
}

// writeOn writes as write does, and waits for the peer.
func (c *Conn) writeOn(content []byte, what work) {
	defer c.writers.Done()
	for what != nothing {
		if c.writePatiently(content) != nil {
			c.giveUp()
			return
		}
		if what == theEnd {
			return
		}
		content, what = c.next(content[:0])
	}
}

func (c *Conn) next(into []byte) ([]byte, work) {
	content, what := c.queue.pop(into)
	if what == theEnd {
		content = c.appendGoodbye(content)
	}
	return content, what
}

// giveUp ends a connection that cannot be written to.
func (c *Conn) giveUp() {
	c.queue.abandon()
	_ = c.ws.Close() // wakes the reader, which ends the rest
}

// writePatiently gives what is written its time; once the connection is closing, all that is left shares the grace.
func (c *Conn) writePatiently(content []byte) error {
	if err := c.allowWrite(time.Now().Add(c.options.WriteTimeout)); err != nil {
		return err
	}
	if _, err := c.ws.NetConn().Write(content); err != nil {
		return err
	}
	return c.allowWrite(time.Time{}) // a deadline that has passed would forbid the next write
}

func (c *Conn) allowWrite(until time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.closeBy.IsZero() {
		return nil // Close has set the last deadline
	}
	return c.ws.NetConn().SetWriteDeadline(until)
}

// appendGoodbye is the close frame; a peer that is gone does not hear it.
func (c *Conn) appendGoodbye(into []byte) []byte {
	code := cmp.Or(c.queue.code(), Code(c.farewell.Load()))
	if code == 0 {
		return into
	}
	return appendFrame(into, websocket.CloseMessage, websocket.FormatCloseMessage(int(code), code.String()))
}
