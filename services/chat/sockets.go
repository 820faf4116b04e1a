package chat

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// sockets are the live connections of this host: who holds them, how many there may be, how they all end.
type sockets struct {
	limits Limits

	mu        sync.Mutex
	stopping  bool
	open      map[*socket]bool // whether it has its connection yet
	strangers map[string]int   // sockets of a subscriber that have not authenticated
	sessions  map[wire.SessionID]map[*socket]struct{}
	users     map[wire.UserID]map[*socket]struct{}
	running   sync.WaitGroup

	presence func(user wire.UserID, here bool) // the first socket of a user came, or the last went
}

func newSockets(limits Limits) *sockets {
	return &sockets{
		limits:    limits,
		open:      map[*socket]bool{},
		strangers: map[string]int{},
		sessions:  map[wire.SessionID]map[*socket]struct{}{},
		users:     map[wire.UserID]map[*socket]struct{}{},
		presence:  func(wire.UserID, bool) {},
	}
}

// enter makes room for a socket, or fails with TooMany or Unavailable. Whoever entered must leave.
func (s *sockets) enter(k *socket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping || len(s.open) >= s.limits.Sockets:
		return apperr.OrUnavailable("chat.openSocket", errFull)
	case s.strangers[k.subscriber] >= s.limits.UnauthenticatedSockets:
		return apperr.Overrun("chat.openSocket", s.limits.AuthenticateWithin)
	}
	s.open[k] = false
	s.strangers[k.subscriber]++
	s.running.Add(1)
	return nil
}

// begin says that a socket has its connection.
func (s *sockets) begin(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, here := s.open[k]; here {
		s.open[k] = true
	}
}

// know moves a socket from the strangers to its session and user, or fails with TooMany.
func (s *sockets) know(k *socket, session wire.Session) error {
	s.mu.Lock()
	if len(s.sessions[session.SessionID]) >= s.limits.SocketsPerSession {
		s.mu.Unlock()
		return apperr.Overrun("chat.authenticateSocket", s.limits.AuthenticateWithin)
	}
	addTo(s.sessions, session.SessionID, k)
	first := addTo(s.users, session.UserID, k)
	s.forgetStrangerLocked(k.subscriber)
	s.mu.Unlock()
	if first {
		s.presence(session.UserID, true)
	}
	return nil
}

// leave undoes enter and know. session is the zero value for a socket that never authenticated.
func (s *sockets) leave(k *socket, session wire.Session) {
	s.mu.Lock()
	delete(s.open, k)
	last := false
	if session.SessionID == "" {
		s.forgetStrangerLocked(k.subscriber)
	} else {
		removeFrom(s.sessions, session.SessionID, k)
		last = removeFrom(s.users, session.UserID, k)
	}
	s.mu.Unlock()
	if last {
		s.presence(session.UserID, false)
	}
	s.running.Done()
}

// addTo reports whether k is the first under its key.
func addTo[K comparable](index map[K]map[*socket]struct{}, key K, k *socket) bool {
	first := index[key] == nil
	if first {
		index[key] = make(map[*socket]struct{}, 1)
	}
	index[key][k] = struct{}{}
	return first
}

// removeFrom reports whether k was the last under its key.
func removeFrom[K comparable](index map[K]map[*socket]struct{}, key K, k *socket) bool {
	delete(index[key], k)
	if len(index[key]) > 0 {
		return false
	}
	delete(index, key)
	return true
}

func (s *sockets) forgetStrangerLocked(subscriber string) {
	if s.strangers[subscriber]--; s.strangers[subscriber] <= 0 {
		delete(s.strangers, subscriber)
	}
}

func (s *sockets) of(user wire.UserID) []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return keysOf(s.users[user])
}

// all are those that have their connection.
func (s *sockets) all() []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]*socket, 0, len(s.open))
	for k, begun := range s.open {
		if begun {
			found = append(found, k)
		}
	}
	return found
}

func keysOf(set map[*socket]struct{}) []*socket {
	if len(set) == 0 {
		return nil
	}
	found := make([]*socket, 0, len(set))
	for k := range set {
		found = append(found, k)
	}
	return found
}

func (s *sockets) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// usersHere are those with a socket on this host.
func (s *sockets) usersHere() []wire.UserID {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]wire.UserID, 0, len(s.users))
	for user := range s.users {
		found = append(found, user)
	}
	return found
}

// revoke closes every socket of a session that was ended.
func (s *sockets) revoke(id wire.SessionID) {
	s.mu.Lock()
	concerned := keysOf(s.sessions[id])
	s.mu.Unlock()
	for _, k := range concerned {
		k.close(wsconn.Revoked)
	}
}

// stop lets nobody in any more, asks everybody to connect elsewhere and waits until they have left or ctx ends.
func (s *sockets) stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	for _, k := range s.all() {
		k.close(wsconn.GoingAway)
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

func (s *sockets) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// sweep looks after deadlines until ctx ends: one clock for all sockets.
func (s *sockets) sweep(ctx context.Context) error {
	ticker := time.NewTicker(s.limits.SweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			for _, k := range s.all() {
				k.keepTime(now)
			}
		}
	}
}

func (s *sockets) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chat_sockets", Help: "Open WebSockets."}, func() float64 { return float64(s.count()) })
}
