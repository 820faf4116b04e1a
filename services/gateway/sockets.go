package gateway

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// sockets are the live connections of this host: who holds them, how many there may be, how they all end.
type sockets struct {
	log      *slog.Logger
	limits   Limits
	identify func(ctx context.Context, accessToken string) (wire.Session, error)
	check    func(ctx context.Context, id wire.SessionID) error

	mu        sync.Mutex
	stopping  bool
	open      map[*socket]struct{}
	strangers map[string]int // sockets of a subscriber that have not authenticated
	sessions  map[wire.SessionID]map[*socket]struct{}
	running   sync.WaitGroup
}

func newSockets(
	log *slog.Logger, limits Limits,
	identify func(context.Context, string) (wire.Session, error),
	check func(context.Context, wire.SessionID) error,
) *sockets {
	return &sockets{
		log: log, limits: limits, identify: identify, check: check,
		open:      map[*socket]struct{}{},
		strangers: map[string]int{},
		sessions:  map[wire.SessionID]map[*socket]struct{}{},
	}
}

// enter makes room for a socket, or fails with TooMany or Unavailable. Whoever entered must leave.
func (s *sockets) enter(subscriber string) (*socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping || len(s.open) >= s.limits.Sockets:
		return nil, unavailable("gateway.openSocket", nil)
	case s.strangers[subscriber] >= s.limits.UnauthenticatedSockets:
		return nil, tooMany("gateway.openSocket", s.limits.AuthenticateWithin)
	}
	k := &socket{sockets: s, subscriber: subscriber}
	s.open[k] = struct{}{}
	s.strangers[subscriber]++
	s.running.Add(1)
	return k, nil
}

// know moves a socket from the strangers to its session, or fails with TooMany.
func (s *sockets) know(k *socket, session wire.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := session.SessionID
	if len(s.sessions[id]) >= s.limits.SocketsPerSession {
		return tooMany("gateway.authenticateSocket", s.limits.RecheckEvery)
	}
	if s.sessions[id] == nil {
		s.sessions[id] = map[*socket]struct{}{}
	}
	s.sessions[id][k] = struct{}{}
	s.forgetStrangerLocked(k.subscriber)
	return nil
}

// leave undoes enter and know. session is the zero value for a socket that never authenticated.
func (s *sockets) leave(k *socket, session wire.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
	if session.SessionID == "" {
		s.forgetStrangerLocked(k.subscriber)
	} else if delete(s.sessions[session.SessionID], k); len(s.sessions[session.SessionID]) == 0 {
		delete(s.sessions, session.SessionID)
	}
	s.running.Done()
}

func (s *sockets) forgetStrangerLocked(subscriber string) {
	if s.strangers[subscriber]--; s.strangers[subscriber] <= 0 {
		delete(s.strangers, subscriber)
	}
}

// revoke closes every socket of a session that was ended.
func (s *sockets) revoke(id wire.SessionID) {
	s.mu.Lock()
	connections := make([]*wsconn.Conn, 0, len(s.sessions[id]))
	for k := range s.sessions[id] {
		connections = append(connections, k.conn)
	}
	s.mu.Unlock()
	for _, conn := range connections {
		conn.Close(wsconn.Revoked)
	}
}

// stop lets nobody in any more, asks everybody to connect elsewhere and waits until they have left or ctx ends.
func (s *sockets) stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	connections := make([]*wsconn.Conn, 0, len(s.open))
	for k := range s.open {
		if k.conn != nil {
			connections = append(connections, k.conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range connections {
		conn.Close(wsconn.GoingAway)
	}
	left := make(chan struct{})
	go func() {
		s.running.Wait()
		close(left)
	}()
	select {
	case <-left:
	case <-ctx.Done():
	}
}

// attach gives a socket its connection; one that comes while we stop is sent away at once.
func (s *sockets) attach(k *socket, conn *wsconn.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.conn = conn
	if s.stopping {
		conn.Close(wsconn.GoingAway)
	}
}

func (s *sockets) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_sockets", Help: "Open WebSockets."}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.open))
	})
}

// closeCode is how a socket ends that met err.
func closeCode(err error) wsconn.Code {
	switch apperr.KindOf(err) {
	case apperr.Unauthenticated, apperr.Forbidden, apperr.NotFound:
		if apperr.CodeOf(err) == codeSessionEnded {
			return wsconn.Revoked
		}
		return wsconn.Unauthenticated
	case apperr.Invalid, apperr.TooLarge, apperr.Conflict:
		return wsconn.BadFrame
	case apperr.TooMany:
		return wsconn.TooMany
	default:
		return wsconn.Unavailable
	}
}
