package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// Send writes one frame as JSON.
func (s *Socket) Send(ctx context.Context, frame any) error {
	encoded, err := json.Marshal(frame)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	return s.SendRaw(ctx, websocket.TextMessage, encoded)
}

// SendRaw writes one frame as it is, well-formed or not.
func (s *Socket) SendRaw(ctx context.Context, kind int, content []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.SetWriteDeadline(deadlineOf(ctx)); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	if err := s.conn.WriteMessage(kind, content); err != nil {
		return s.reason(fmt.Errorf("send frame: %w", err))
	}
	return nil
}

// reason is how the socket ended, which says more than the write that failed for it.
func (s *Socket) reason(err error) error {
	select {
	case <-s.ended:
		return s.err
	case <-time.After(time.Second):
		return err
	}
}

// Receive reads the next frame into frame, or returns how the socket ended.
func (s *Socket) Receive(ctx context.Context, frame any) error {
	select {
	case content, open := <-s.frames:
		if !open {
			return s.err
		}
		if err := json.Unmarshal(content, frame); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for frame: %w", ctx.Err())
	}
}

// Ping measures one round trip to the platform's edge.
func (s *Socket) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	mark := strconv.FormatInt(start.UnixNano(), 36)
	if err := s.conn.WriteControl(websocket.PingMessage, []byte(mark), deadlineOf(ctx)); err != nil {
		return 0, s.reason(fmt.Errorf("ping: %w", err))
	}
	for {
		select {
		case pong := <-s.pongs:
			if pong == mark {
				return time.Since(start), nil
			}
		case <-s.ended:
			return 0, s.err
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for pong: %w", ctx.Err())
		}
	}
}

// Wait returns how the socket ended, once it has. Frames nobody takes are dropped.
func (s *Socket) Wait(ctx context.Context) error {
	for {
		select {
		case _, open := <-s.frames:
			if !open {
				return s.err
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for the end: %w", ctx.Err())
		}
	}
}

func (s *Socket) read() {
	defer close(s.ended)
	defer close(s.frames)
	for {
		s.heard() // also after frames that nobody took for a while
		_, content, err := s.conn.ReadMessage()
		if err != nil {
			s.err = s.endOf(err)
			_ = s.conn.Close() // already ended
			return
		}
		select {
		case s.frames <- content:
		case <-s.closing:
			s.err = ErrClosed
			return
		}
	}
}

func (s *Socket) endOf(err error) error {
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return &CloseError{closed.Code, closed.Text}
	}
	return fmt.Errorf("read frame: %w", err)
}

// heard gives the platform more time. What fails here fails the next read.
func (s *Socket) heard() { _ = s.conn.SetReadDeadline(time.Now().Add(s.silence)) }

func (s *Socket) pong(mark string) error {
	s.heard()
	select {
	case s.pongs <- mark:
	default: // nobody waits for this one
	}
	return nil
}

func (s *Socket) ping(mark string) error {
	s.heard()
	err := s.conn.WriteControl(websocket.PongMessage, []byte(mark), time.Now().Add(5*time.Second))
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

func deadlineOf(ctx context.Context) time.Time {
	if deadline, set := ctx.Deadline(); set {
		return deadline
	}
	return time.Now().Add(10 * time.Second)
}

// socketRefused turns a refused upgrade into the problem it carried.
func socketRefused(response *http.Response, err error) error {
	if response == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return fmt.Errorf("open socket: %w", err)
	}
	content, _ := io.ReadAll(response.Body) // gorilla hands over at most 1 KiB, already read
	return problemOf(response, answerOf(response), content)
}
