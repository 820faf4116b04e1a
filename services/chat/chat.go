// Package chat keeps conversations: who is in them, and what was said, numbered in one order for everybody.
// It reads no message: bodies are opaque. Sockets and presence stand on top of it.
package chat

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// Relations tells how user a stands to user b. What cannot be known is Unavailable: it is never taken for a yes.
type Relations interface {
	Relation(ctx context.Context, a, b wire.UserID) (wire.Relations, error)
	// Forget drops what is remembered of the two, in either direction.
	Forget(a, b wire.UserID)
}

// Announce is told what was stored, in order, after its senders were. It is a hint: what it loses is read again by number.
// It must not block for long, since the next messages of the conversation wait for it.
type Announce func(ctx context.Context, conversation wire.ConversationID, items []wire.Item)

// Service is the rules of chat. Its methods are what HTTP and sockets call, and where permission is decided.
type Service struct {
	log       *slog.Logger
	store     *store
	messages  messages
	relations Relations
	verifier  session.Verifier
	announce  Announce
	lanes     *lanes
	now       func() time.Time

	mu    sync.Mutex
	known map[wire.ConversationID]kind
}

// Parts are what a Service is made of. Announce and Now may be nil.
type Parts struct {
	Log       *slog.Logger
	SQL       *sqlstore.Store
	CQL       *cqlstore.Store
	Relations Relations
	Verifier  session.Verifier
	Announce  Announce
	Now       func() time.Time
}

// New puts a Service together. Close it when done.
func New(parts Parts) *Service {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	if parts.Announce == nil {
		parts.Announce = func(context.Context, wire.ConversationID, []wire.Item) {}
	}
	s := &Service{
		log:       parts.Log,
		store:     &store{db: parts.SQL, marks: newMarks(parts.SQL)},
		messages:  newCassandra(parts.CQL),
		relations: parts.Relations,
		verifier:  parts.Verifier,
		announce:  parts.Announce,
		now:       parts.Now,
		known:     map[wire.ConversationID]kind{},
	}
	s.lanes = newLanes(s.storeBatch)
	return s
}

// Close finishes what is being sent, for some seconds, and takes nothing more.
func (s *Service) Close() {
	s.lanes.close()
	s.store.marks.close()
}

// Authenticate gives the session of an access token. Whether that session was ended since, the gateway has asked.
// It fails with Unauthenticated or Unavailable.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (wire.Session, error) {
	return session.Of(ctx, s.verifier, accessToken, s.now())
}

// noConversation is also what somebody is told who was never in it: that it exists is its members' secret.
func noConversation(op string) error {
	return apperr.E(op, apperr.NotFound, "There is no such conversation.", nil, apperr.Code("no_such_conversation"))
}

// kind is what never changes about a conversation.
type kind struct {
	direct bool
	pair   [2]wire.UserID // of a direct one
}

func (k kind) other(user wire.UserID) (other wire.UserID, among bool) {
	switch user {
	case k.pair[0]:
		return k.pair[1], true
	case k.pair[1]:
		return k.pair[0], true
	default:
		return "", false
	}
}

// knownKinds bounds the memory of them: beyond it, it starts anew.
const knownKinds = 50_000

// kindOf fails with NotFound for a conversation that is not there.
func (s *Service) kindOf(ctx context.Context, id wire.ConversationID) (kind, error) {
	s.mu.Lock()
	k, known := s.known[id]
	s.mu.Unlock()
	if known {
		return k, nil
	}
	k, err := s.store.kind(ctx, id)
	if err != nil {
		return kind{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= knownKinds {
		clear(s.known)
	}
	s.known[id] = k
	return k, nil
}
