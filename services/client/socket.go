package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/internal/wire"
)

// Ready is the platform's word that a socket is signed in until ExpiresAt.
type Ready = wire.ReadyFrame

// CloseError is how the platform ended a socket: 4000–4499 mean connect again, 4500–4999 mean do not.
type CloseError struct {
	Code int
	Text string
}

func (e *CloseError) Error() string { return fmt.Sprintf("socket closed: %d %s", e.Code, e.Text) }

// Final reports whether connecting again is pointless.
func (e *CloseError) Final() bool { return e.Code >= 4500 && e.Code <= 4999 }

// ErrClosed is returned by a socket that this side closed.
var ErrClosed = errors.New("socket closed by this side")

// socketQueue bounds the frames received and not yet taken; when it is full the socket is not read, and TCP holds the platform back.
const socketQueue = 64

// silence is how long a socket may say nothing: two of the platform's pings, which come every 25 s, and some. A machine that lost power
// or its network sends no goodbye.
const silence = time.Minute

// Socket is one WebSocket to the platform. Its methods may be called from several goroutines.
type Socket struct {
	Answer Answer

	conn    *websocket.Conn
	silence time.Duration
	writing sync.Mutex // one writer at a time (RFC 6455 forbids interleaved frames)
	frames  chan []byte
	pongs   chan string
	closing chan struct{}
	close   sync.Once
	ended   chan struct{} // closed when the reader has ended; err is set before
	err     error
}

// Socket opens the platform's socket and signs it in.
func (c *Client) Socket(ctx context.Context, accessToken string) (*Socket, Ready, error) {
	socket, err := c.DialSocket(ctx, PathSocket, nil)
	if err != nil {
		return nil, Ready{}, err
	}
	ready, err := socket.Authenticate(ctx, accessToken)
	if err != nil {
		_ = socket.Close() // the reason to give up is err
		return nil, Ready{}, err
	}
	return socket, ready, nil
}

// PathSocket is where a device's own socket is.
const PathSocket = "/v1/ws"

// DialSocket opens the socket at a path without signing it in; extra headers may pretend to be a browser.
func (c *Client) DialSocket(ctx context.Context, path string, extra http.Header) (*Socket, error) {
	header := c.header("")
	for name, values := range extra {
		header[name] = values
	}
	dialer := websocket.Dialer{
		NetDialContext:   c.transport.DialContext,
		TLSClientConfig:  c.tls.Clone(),
		HandshakeTimeout: 10 * time.Second,
	}
	target := "ws" + strings.TrimPrefix(c.base.String(), "http") + path
	conn, response, err := dialer.DialContext(ctx, target, header) //nolint:bodyclose // gorilla hands over what it has read; there is nothing to close
	if err != nil {
		return nil, socketRefused(response, err)
	}
	socket := &Socket{
		Answer:  answerOf(response),
		conn:    conn,
		silence: c.silence,
		frames:  make(chan []byte, socketQueue),
		pongs:   make(chan string, 1),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	conn.SetReadLimit(maxAnswer)
	conn.SetPongHandler(socket.pong)
	conn.SetPingHandler(socket.ping)
	go socket.read()
	return socket, nil
}

// Authenticate signs the socket in, or renews it before its token expires.
func (s *Socket) Authenticate(ctx context.Context, accessToken string) (Ready, error) {
	if err := s.Send(ctx, wire.AuthFrame{Type: wire.FrameAuth, Token: accessToken}); err != nil {
		return Ready{}, err
	}
	var ready Ready
	if err := s.Receive(ctx, &ready); err != nil {
		return Ready{}, err
	}
	if ready.Type != wire.FrameReady {
		return Ready{}, fmt.Errorf("authenticate socket: got a %q frame", ready.Type)
	}
	return ready, nil
}

// Close says goodbye and waits for the reader to end.
func (s *Socket) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closing)
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second)) // the other side may be gone already
		err = s.conn.Close()
	})
	<-s.ended
	return err
}

// Abandon ends the socket without a word, as a network that is gone would.
func (s *Socket) Abandon() { _ = s.conn.Close() }
