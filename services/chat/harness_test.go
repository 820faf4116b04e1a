package chat

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestMain(m *testing.M) {
	// The Redis client looks once a second whether a dead Redis came back, and sees only then that it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const patience = 30 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// friends stands where auth's relations would: everybody is everybody's contact, until told otherwise.
type friends struct {
	mu        sync.Mutex
	relations map[[2]wire.UserID]wire.Relations
	away      bool
}

func newFriends() *friends { return &friends{relations: map[[2]wire.UserID]wire.Relations{}} }

func (f *friends) Relation(_ context.Context, a, b wire.UserID) (wire.Relations, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return wire.Relations{}, apperr.E("friends", apperr.Unavailable, "Away.", nil)
	}
	if relation, known := f.relations[[2]wire.UserID{a, b}]; known {
		return relation, nil
	}
	return wire.Relations{Contact: true, Active: true}, nil
}

func (f *friends) Forget(wire.UserID, wire.UserID) {} // nothing is remembered

func (f *friends) set(a, b wire.UserID, relation wire.Relations) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relations[[2]wire.UserID{a, b}] = relation
}

func (f *friends) leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// world is the two real stores, in which any number of hosts run chat.
type world struct {
	t        testing.TB
	sql      config.Secret
	store    *sqlstore.Store // the tests' own way in
	keyspace cqlstore.Config
	cql      *cqlstore.Store
	friends  *friends
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, testkit.PostgresURL(t))
}

func newWorldOn(t testing.TB, sql config.Secret) *world {
	t.Helper()
	w := &world{t: t, sql: sql, keyspace: testkit.SharedCassandra(t, "chat"), friends: newFriends()}
	w.cql = testkit.OpenCassandra(t, w.keyspace)
	w.store = testkit.OpenPostgres(t, w.sql)
	if _, err := Schema.MigrateIn(t.Context(), quiet, w.store, w.cql); err != nil {
		t.Fatal(err)
	}
	return w
}

// host starts chat on another host of this world.
func (w *world) host(change ...func(*Service)) *Service {
	w.t.Helper()
	return w.hostOn(testkit.OpenPostgres(w.t, w.sql), change...)
}

func (w *world) hostOn(sql *sqlstore.Store, change ...func(*Service)) *Service {
	w.t.Helper()
	service := New(Parts{Log: quiet, SQL: sql, CQL: w.cql, Relations: w.friends})
	for _, apply := range change {
		apply(service)
	}
	w.t.Cleanup(service.Close)
	return service
}

func newUser() wire.Session {
	return wire.Session{UserID: wire.UserID(uuid.NewString()), SessionID: wire.SessionID(uuid.NewString()), DeviceID: "phone"}
}

func newClientID() wire.ClientID { return wire.ClientID(uuid.Must(uuid.NewV7()).String()) }

func text(body string) wire.SendRequest { return wire.SendRequest{ClientID: newClientID(), Body: body} }

func (w *world) group(s *Service, owner wire.Session, others ...wire.Session) wire.ConversationID {
	w.t.Helper()
	request := wire.ConversationRequest{Kind: wire.KindGroup, Name: "Lunch", ClientID: newClientID()}
	for _, other := range others {
		request.Members = append(request.Members, other.UserID)
	}
	made, isNew, err := s.Create(w.t.Context(), owner, request)
	if err != nil || !isNew {
		w.t.Fatalf("create: %v, %v", isNew, err)
	}
	return made.ID
}

func (w *world) send(s *Service, from wire.Session, id wire.ConversationID, body string) wire.Sent {
	w.t.Helper()
	sent, err := s.Send(w.t.Context(), from, id, text(body))
	if err != nil {
		w.t.Fatalf("send %q: %v", body, err)
	}
	return sent
}

// readAll reads page by page, as a client does, until it has everything there is.
func (w *world) readAll(s *Service, as wire.Session, id wire.ConversationID) []wire.Item {
	w.t.Helper()
	items, err := readFrom(w.t.Context(), s, as, id, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return items
}

func readFrom(ctx context.Context, s *Service, as wire.Session, id wire.ConversationID, after int64) (items []wire.Item, err error) {
	for {
		page, err := s.Messages(ctx, as, id, Range{After: after, Limit: 37})
		if err != nil {
			return nil, err
		}
		if page.Through < after {
			return nil, fmt.Errorf("a page went back from %d to %d", after, page.Through)
		}
		items, after = append(items, page.Items...), page.Through
		if after >= page.Head {
			return items, nil
		}
		if !page.More { // something is being stored
			select {
			case <-ctx.Done():
				return items, ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func bodies(items []wire.Item) (all []string) {
	for _, item := range items {
		if item.Kind == wire.ItemMessage {
			all = append(all, item.Body)
		}
	}
	return all
}

func (w *world) wantBodies(items []wire.Item, want ...string) {
	w.t.Helper()
	if got := bodies(items); !slices.Equal(got, want) {
		w.t.Errorf("read %q, want %q", got, want)
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil || apperr.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// exec changes the SQL store behind the service's back.
func (w *world) exec(statement string, arguments ...any) {
	w.t.Helper()
	if _, err := w.store.Exec(w.t.Context(), statement, arguments...); err != nil {
		w.t.Fatal(err)
	}
}

// age makes all pending numbers older than their grace.
func (w *world) age() {
	w.t.Helper()
	w.exec(`UPDATE message_numbers SET created_at = created_at - INTERVAL '1 minute' WHERE state = 'pending'`)
}

// watched is the real store of messages, with somebody beside it who may stop, fail or count.
type watched struct {
	messages
	before func(item wire.Item) error
	after  func(item wire.Item) error
}

func (m *watched) insert(ctx context.Context, id wire.ConversationID, item wire.Item) error {
	if m.before != nil {
		if err := m.before(item); err != nil {
			return err
		}
	}
	if err := m.messages.insert(ctx, id, item); err != nil {
		return err
	}
	if m.after != nil {
		return m.after(item)
	}
	return nil
}

func watching(before, after func(item wire.Item) error) func(*Service) {
	return func(s *Service) { s.messages = &watched{s.messages, before, after} }
}
