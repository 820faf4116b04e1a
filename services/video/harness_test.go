package video

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"secureconnect/services/client"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
	"secureconnect/services/video/sfu"
)

func TestMain(m *testing.M) {
	// The Redis client looks once a second whether a dead Redis came back, and sees only then that it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const patience = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// world is the real stores, chat's word on who may call, and auth's on who is who; in it any number of hosts carry calls.
type world struct {
	t        *testing.T
	sql      config.Secret
	store    *store // the tests' own way in
	keyspace cqlstore.Config
	cql      *cqlstore.Store
	redis    redisstore.Config
	direct   *redis.Client
	signer   *token.Signer
	verifier *token.Verifier

	mu      sync.Mutex
	rooms   map[wire.ConversationID]wire.Callers
	blocked bool // in conversations of two
	away    bool // neither chat nor auth answers
	ended   map[wire.SessionID]bool
}

// migrating is whoever makes the tables of the keyspace that all worlds share.
var migrating sync.Mutex

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, sql: testkit.PostgresURL(t), keyspace: testkit.SharedCassandra(t, "video"), redis: testkit.RedisConfig(t),
		rooms: map[wire.ConversationID]wire.Callers{}, ended: map[wire.SessionID]bool{},
	}
	w.cql, w.direct = testkit.OpenCassandra(t, w.keyspace), redisstore.Open(w.redis)
	t.Cleanup(func() { _ = w.direct.Close() })
	sql := testkit.OpenPostgres(t, w.sql)
	w.store = &store{db: sql}
	migrating.Lock()
	_, err := Schema.MigrateIn(t.Context(), quiet, sql, w.cql)
	migrating.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = token.NewSigner(config.NewSecret(strings.Repeat("s", 40))); err != nil {
		t.Fatal(err)
	}
	if w.verifier, err = token.NewVerifier(w.signer.Keys()); err != nil {
		t.Fatal(err)
	}
	return w
}

// Verify is auth's word on a token.
func (w *world) Verify(_ context.Context, raw string, now time.Time) (wire.Session, error) {
	return w.verifier.Verify(raw, now)
}

// check is auth's word on a session.
func (w *world) check(_ context.Context, id wire.SessionID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.away:
		return apperr.OrUnavailable("world", errors.New("auth is away"))
	case w.ended[id]:
		return session.Ended("world")
	default:
		return nil
	}
}

// callers are chat's word on a conversation.
func (w *world) callers(_ context.Context, id wire.ConversationID, user wire.UserID) (wire.Callers, error) {
	const op = "world.callers"
	w.mu.Lock()
	defer w.mu.Unlock()
	found := w.rooms[id]
	switch {
	case w.away:
		return wire.Callers{}, apperr.OrUnavailable(op, errors.New("chat is away"))
	case !slices.Contains(found.Members, user):
		return wire.Callers{}, apperr.E(op, apperr.NotFound, "No.", nil, apperr.Code("no_such_conversation"))
	case w.blocked && found.Kind == wire.KindDirect:
		return wire.Callers{}, apperr.E(op, apperr.Forbidden, "No.", nil, apperr.Code("cannot_call"))
	default:
		return found, nil
	}
}

func (w *world) say(change func(w *world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// conversation makes one: of two, or of a group where there are more.
func (w *world) conversation(who ...wire.Session) wire.ConversationID {
	id := wire.ConversationID(uuid.NewString())
	callers := wire.Callers{Kind: wire.KindGroup}
	if len(who) == 2 {
		callers.Kind = wire.KindDirect
	}
	for _, each := range who {
		callers.Members = append(callers.Members, each.UserID)
	}
	w.say(func(w *world) { w.rooms[id] = callers })
	return id
}

func newUser() wire.Session {
	return wire.Session{UserID: wire.UserID(uuid.NewString()), SessionID: wire.SessionID(uuid.NewString()), DeviceID: "phone"}
}

// on is the same user on another device.
func on(device wire.DeviceID, who wire.Session) wire.Session {
	return wire.Session{UserID: who.UserID, SessionID: wire.SessionID(uuid.NewString()), DeviceID: device}
}

func newClientID() wire.ClientID { return wire.ClientID(uuid.Must(uuid.NewV7()).String()) }

func (w *world) token(who wire.Session, at time.Time) string {
	w.t.Helper()
	signed, _, err := w.signer.Sign(who, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// service is the rules on one more host, without sockets.
func (w *world) service() *Service {
	w.t.Helper()
	return w.serviceOn(testkit.OpenPostgres(w.t, w.sql), w.direct)
}

func (w *world) serviceOn(sql *sqlstore.Store, hints *redis.Client) *Service {
	return New(Parts{Log: quiet, SQL: sql, CQL: w.cql, Redis: hints, Callers: w.callers, Verifier: w})
}

func (w *world) begin(s *Service, by wire.Session, in wire.ConversationID) wire.Call {
	w.t.Helper()
	call, _, err := s.Begin(w.t.Context(), by, wire.CallRequest{ConversationID: in, ClientID: newClientID(), Media: wire.MediaVideo})
	if err != nil {
		w.t.Fatal(err)
	}
	return call
}

// host is an app host that carries calls.
type host struct {
	*Service

	world *world
	live  *Live
	name  string
	url   string
	stop  func() // as an operator stops it
	kill  func() // as a power cut does: nothing is said to anybody
}

// testLimits make time pass faster.
func testLimits() Limits {
	l := defaultLimits()
	l.WatchEvery, l.TickEvery, l.MembersEvery, l.RecheckEvery = 100*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond
	l.StopWithin = 3 * time.Second
	return l
}

var loopback = netip.MustParseAddr("127.0.0.1")

// newMedia opens a media port.
func newMedia(t *testing.T) *sfu.SFU {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	media, err := sfu.New(sfu.Options{Log: quiet, Conn: conn, Address: loopback, Stray: answerProbe})
	if err != nil {
		t.Fatal(err)
	}
	return media
}

// host starts an app host of that name.
func (w *world) host(name string, change ...func(*LiveParts)) *host {
	w.t.Helper()
	sql, media := testkit.OpenPostgres(w.t, w.sql), newMedia(w.t)
	service := w.serviceOn(sql, w.direct)
	server := web.NewServer(quiet, "video", web.Config{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", StopGrace: 8 * time.Second, Proxies: []netip.Prefix{netip.PrefixFrom(loopback, 32)},
	})
	address, err := server.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	parts := LiveParts{
		Log: quiet, Service: service, Media: media, Sessions: w.check, Host: name, Address: address.String(), Faults: true, Limits: testLimits(),
		TURN: TURN{Host: "turn.example.org", Port: 3478, TLSPort: 5349, Secret: config.NewSecret("north"), Life: 10 * time.Minute},
	}
	for _, apply := range change {
		apply(&parts)
	}
	live := NewLive(parts)
	dead := make(chan struct{})
	server.OnStop(func(ctx context.Context) {
		select {
		case <-dead:
			close(live.stopped) // no word to anybody
		default:
			live.Stop(ctx)
		}
	})
	Routes(server.Echo, service)
	SocketRoute(server.Echo, live)
	ctx, cancel := context.WithCancel(context.Background())
	runs := []func(context.Context) error{server.Run, service.Sweep, live.Run}
	ended := make(chan error, len(runs))
	for _, run := range runs {
		go func() { ended <- run(ctx) }()
	}
	stop := sync.OnceFunc(func() {
		cancel()
		for range runs {
			if err := <-ended; err != nil {
				w.t.Errorf("%s did not stop cleanly: %v", name, err)
			}
		}
		if err := media.Close(); err != nil {
			w.t.Error(err)
		}
	})
	h := &host{Service: service, world: w, live: live, name: name, url: "http://" + address.String(), stop: stop}
	h.kill = func() {
		close(dead)
		for _, k := range live.allSockets() {
			k.close(0)
		}
		stop()
	}
	w.t.Cleanup(stop)
	testkit.Eventually(w.t, patience, "a lease", func() bool { _, known := live.itself(); return known })
	return h
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (h *host) client() *client.Client {
	h.world.t.Helper()
	c, err := client.New(client.Options{BaseURL: h.url})
	if err != nil {
		h.world.t.Fatal(err)
	}
	h.world.t.Cleanup(c.Close)
	return c
}

// wired is a socket to a call, and who has it.
type wired struct {
	*client.Socket

	t      *testing.T
	who    wire.Session
	joined wire.JoinedFrame
}

// dial opens a socket to a call, not signed in.
func (h *host) dial(call wire.CallID) *client.Socket {
	h.world.t.Helper()
	socket, err := h.client().DialSocket(within(h.world.t), client.CallSocket(call), nil)
	if err != nil {
		h.world.t.Fatal(err)
	}
	h.world.t.Cleanup(func() { _ = socket.Close() })
	return socket
}

func (h *host) signIn(who wire.Session, call wire.CallID) *wired {
	h.world.t.Helper()
	socket := h.dial(call)
	if _, err := socket.Authenticate(within(h.world.t), h.world.token(who, time.Now())); err != nil {
		h.world.t.Fatal(err)
	}
	return &wired{Socket: socket, t: h.world.t, who: who}
}

// join enters a call; change may make the frame another.
func (h *host) join(who wire.Session, call wire.CallID, change ...func(*wire.CallFrame)) *wired {
	h.world.t.Helper()
	w := h.signIn(who, call)
	frame := wire.CallFrame{Type: wire.FrameJoin, ID: "j"}
	for _, apply := range change {
		apply(&frame)
	}
	w.say(frame)
	w.next(wire.FrameJoined, &w.joined)
	return w
}

func resuming(before *wired) func(*wire.CallFrame) {
	return func(f *wire.CallFrame) {
		f.Resume = &wire.Resume{ParticipantID: before.joined.ParticipantID, Secret: before.joined.Secret}
	}
}

func asking(faults ...string) func(*wire.CallFrame) {
	return func(f *wire.CallFrame) { f.Faults = faults }
}

func (w *wired) say(frame any) {
	w.t.Helper()
	if err := w.Send(within(w.t), frame); err != nil {
		w.t.Fatal(err)
	}
}

// next waits for the next frame of a type; others are passed over.
func (w *wired) next(kind string, into any) {
	w.t.Helper()
	if _, err := w.await(kind, into); err != nil {
		w.t.Fatalf("no %s frame: %v", kind, err)
	}
}

func (w *wired) await(kind string, into any) (passed []string, err error) {
	for {
		var content json.RawMessage
		if err := w.Receive(within(w.t), &content); err != nil {
			return passed, err
		}
		var head struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(content, &head); err != nil {
			return passed, err
		}
		if head.Type == kind {
			return passed, json.Unmarshal(content, into)
		}
		passed = append(passed, head.Type)
	}
}

// refused waits for the refusal of what was asked.
func (w *wired) refused(code string) {
	w.t.Helper()
	var frame wire.ErrorFrame
	if w.next(wire.FrameError, &frame); frame.Code != code {
		w.t.Errorf("refused with %+v, want %s", frame, code)
	}
}

func (w *wired) ended(code wsconn.Code) {
	w.t.Helper()
	wantClosed(w.t, w.Socket, code)
}

func wantClosed(t testing.TB, socket *client.Socket, want wsconn.Code) {
	t.Helper()
	err := socket.Wait(within(t))
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != int(want) {
		t.Errorf("the socket ended with %v, want code %d (%s)", err, want, want)
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil || apperr.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// state is how a call stands with a user, for SQL.
func (w *world) state(id wire.CallID, user wire.UserID) string {
	w.t.Helper()
	call, err := w.store.call(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	member, _ := memberOf(call.Call, user)
	return member.State
}

// hold keeps a call from being changed until it is released.
func (w *world) hold(id wire.CallID) (release func()) {
	w.t.Helper()
	held, end, done := make(chan error, 2), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		held <- w.store.db.InTx(w.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sqlLockCall, id)
			held <- err
			<-end
			return err
		})
	}()
	if err := <-held; err != nil {
		w.t.Fatal(err)
	}
	return sync.OnceFunc(func() { close(end); <-done })
}

// exec changes SQL behind the service's back.
func (w *world) exec(statement string, arguments ...any) {
	w.t.Helper()
	if _, err := w.store.db.Exec(w.t.Context(), statement, arguments...); err != nil {
		w.t.Fatal(err)
	}
}
