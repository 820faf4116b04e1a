// Package wsconn is the server's side of one WebSocket: one reader, one writer, a queue bounded in bytes, pings and close codes.
// It knows no frames and no users: what is said over it is its owner's.
package wsconn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
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
}

// ErrClosed is returned by Send once the connection is closing.
var ErrClosed = errors.New("socket is closing")

// ErrNotSocket is returned by Accept for a request that is no WebSocket handshake.
var ErrNotSocket = errors.New("not a WebSocket handshake")

// Conn is one connection. Its owner reads Frames until it is closed, then calls Wait.
type Conn struct {
	ws      *websocket.Conn
	options Options
	queue   *queue
	frames  chan []byte
	ending  chan struct{} // closed when the queue takes no more
	written chan struct{} // closed when the writer has ended
	done    chan struct{} // closed when reader and writer have ended

	deadlines sync.Mutex // orders Close against extend and allowWrite
	closeBy   time.Time  // set by Close: nothing waits longer than this
}

// writeBuffers are shared: a socket needs one only while it writes.
var writeBuffers sync.Pool

// Accept turns the request into a socket. The caller has judged the Origin; when Accept fails nothing was answered yet.
func Accept(w http.ResponseWriter, r *http.Request, options Options) (*Conn, error) {
	upgrader := websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   1024,
		WriteBufferSize:  1024,
		WriteBufferPool:  &writeBuffers,
		CheckOrigin:      func(*http.Request) bool { return true },
		Error:            func(http.ResponseWriter, *http.Request, int, error) {},
	}
	ws, err := upgrader.Upgrade(w, r, w.Header()) // with the headers every answer of ours carries
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSocket, err)
	}
	return start(ws, options.orDefaults()), nil
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

func start(ws *websocket.Conn, options Options) *Conn {
	c := &Conn{
		ws:      ws,
		options: options,
		queue:   newQueue(options.QueueBytes),
		frames:  make(chan []byte), // no buffer: a sender waits until its last frame was taken
		ending:  make(chan struct{}),
		written: make(chan struct{}),
		done:    make(chan struct{}),
	}
	ws.SetReadLimit(options.ReadLimit)
	ws.SetPongHandler(func(string) error { return c.extend() })
	go c.write()
	go c.read()
	return c
}

// Frames gives the text frames in order and is closed when the connection has ended.
func (c *Conn) Frames() <-chan []byte { return c.frames }

// Ending is closed as soon as the connection starts to close, by whichever side.
func (c *Conn) Ending() <-chan struct{} { return c.ending }

// Send queues a frame and never waits. A full queue closes the connection with Slow: what is lost is everything, so nothing is lost unnoticed.
func (c *Conn) Send(frame []byte) error {
	switch c.queue.put(frame) {
	case accepted:
		return nil
	case full:
		c.Close(Slow)
	}
	return ErrClosed
}

// Close ends the connection; the first code given is the one the peer gets. Frames queued before it are still written, unless it is Slow.
func (c *Conn) Close(code Code) {
	if !c.queue.end(code) {
		return
	}
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	c.closeBy = time.Now().Add(c.options.CloseGrace)
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
	defer close(c.done)
	defer close(c.frames)
	defer c.leave()
	if c.extend() != nil {
		return
	}
	for {
		kind, frame, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage {
			c.Close(BadFrame)
			continue // until the peer has answered, or its grace has passed
		}
		select {
		case c.frames <- frame:
		case <-c.ending:
		}
		if c.extend() != nil {
			return
		}
	}
}

// leave ends the writer, then the connection.
func (c *Conn) leave() {
	c.Close(0)
	<-c.written
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

func (c *Conn) write() {
	defer close(c.written)
	// The first ping comes at a random moment, so that sockets opened together do not ping together.
	ping := time.NewTimer(rand.N(c.options.PingEvery) + time.Millisecond) //nolint:gosec // spreads load, hides nothing
	defer ping.Stop()
	for {
		var err error
		select {
		case <-c.queue.ready:
			err = c.flush()
		case <-ping.C:
			ping.Reset(c.options.PingEvery)
			err = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(c.options.WriteTimeout))
		case <-c.ending:
			c.sayGoodbye()
			return
		}
		if err != nil {
			_ = c.ws.Close() // wakes the reader, which ends the rest
			return
		}
	}
}

// flush writes what is queued.
func (c *Conn) flush() error {
	for frame := c.queue.pop(); frame != nil; frame = c.queue.pop() {
		if err := c.allowWrite(); err != nil {
			return err
		}
		if err := c.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
			return err
		}
	}
	return nil
}

// allowWrite gives a frame its time; once the connection is closing, all that is left shares the grace.
func (c *Conn) allowWrite() error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	if !c.closeBy.IsZero() {
		return c.ws.SetWriteDeadline(c.closeBy)
	}
	return c.ws.SetWriteDeadline(time.Now().Add(c.options.WriteTimeout))
}

// sayGoodbye writes the last frames and the close code; a peer that is gone hears neither.
func (c *Conn) sayGoodbye() {
	if c.flush() != nil {
		_ = c.ws.Close()
		return
	}
	code := c.queue.code()
	if code == 0 {
		return
	}
	message := websocket.FormatCloseMessage(int(code), code.String())
	if c.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(c.options.CloseGrace)) != nil {
		_ = c.ws.Close()
	}
}
