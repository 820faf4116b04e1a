package chat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/client"
	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// network is a world with sockets: some hosts, one Redis between them, and auth's word on who is who.
type network struct {
	*world
	signer   *token.Signer
	verifier func() (*token.Verifier, error)
	store    redisstore.Config
	direct   *redis.Client // past every line

	mu     sync.Mutex
	ended  map[wire.SessionID]bool
	broken bool
	asked  int
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	return newNetworkOn(t, testkit.PostgresURL(t))
}

func newNetworkOn(t *testing.T, sql config.Secret) *network {
	t.Helper()
	n := &network{world: newWorldOn(t, sql), signer: newSigner(t), store: testkit.RedisConfig(t), ended: map[wire.SessionID]bool{}}
	n.verifier = sync.OnceValues(func() (*token.Verifier, error) { return token.NewVerifier(n.signer.Keys()) })
	n.direct = redisstore.Open(n.store)
	t.Cleanup(func() { _ = n.direct.Close() })
	return n
}

// toAnotherProcess says where the stores of a network are, for hostOfAnotherProcess to read.
func (n *network) toAnotherProcess() string {
	k := n.keyspace
	return strings.Join([]string{n.sql.Reveal(), k.Hosts[0], k.User, k.Password.Reveal(), k.Keyspace}, " ")
}

// hostOfAnotherProcess is the part of a network that a process needs which only serves its sockets.
func hostOfAnotherProcess(t *testing.T) *network {
	t.Helper()
	n := &network{signer: newSigner(t), store: testkit.RedisConfig(t), ended: map[wire.SessionID]bool{}}
	n.verifier = sync.OnceValues(func() (*token.Verifier, error) { return token.NewVerifier(n.signer.Keys()) })
	said := strings.Split(os.Getenv(hostSetting), " ")
	keyspace := cqlstore.Config{Hosts: said[1:2], Port: 9042, User: said[2], Password: config.NewSecret(said[3]), Keyspace: said[4]}
	n.world = &world{t: t, sql: config.NewSecret(said[0]), cql: testkit.OpenCassandra(t, keyspace), friends: newFriends()}
	return n
}

// newSigner is auth's, and the same in every process.
func newSigner(t *testing.T) *token.Signer {
	t.Helper()
	signer, err := token.NewSigner(config.NewSecret(strings.Repeat("s", 40)))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Verify is auth's word on a token.
func (n *network) Verify(_ context.Context, raw string, now time.Time) (wire.Session, error) {
	verifier, err := n.verifier()
	if err != nil {
		return wire.Session{}, err
	}
	return verifier.Verify(raw, now)
}

func (n *network) check(_ context.Context, id wire.SessionID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	switch {
	case n.broken:
		return apperr.OrUnavailable("network", errors.New("auth is away"))
	case n.ended[id]:
		return apperr.E("network", apperr.Unauthenticated, "Ended.", nil, apperr.Code(session.CodeEnded))
	default:
		return nil
	}
}

func (n *network) endSession(id wire.SessionID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended[id] = true
}

func (n *network) breakDown(broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = broken
}

func (n *network) timesAsked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func (n *network) token(session wire.Session, at time.Time) string {
	n.t.Helper()
	signed, _, err := n.signer.Sign(session, at)
	if err != nil {
		n.t.Fatal(err)
	}
	return signed
}

// node is one app host's chat with sockets. Its way to Redis, and its clients' way to it, can be cut.
type node struct {
	*Service
	network *network
	live    *Live
	line    *testkit.Line
	url     string
	stop    func()
}

func (n *network) node(change ...func(*LiveParts)) *node {
	n.t.Helper()
	line := testkit.NewLine(n.t, n.store.Address)
	store := n.store
	store.Address = line.Address()
	hints := redisstore.Open(store)
	parts := LiveParts{Log: quiet, Redis: hints, Sessions: n.check, Limits: defaultLimits()}
	parts.Limits.SweepEvery = 20 * time.Millisecond
	for _, apply := range change {
		apply(&parts)
	}
	live := NewLive(parts)
	service := New(Parts{Log: quiet, SQL: testkit.OpenPostgres(n.t, n.sql), CQL: n.cql, Relations: n.friends, Verifier: n, Announce: live.Announce})
	live.Serve(service)
	server := web.NewServer(quiet, "chat", web.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", StopGrace: 5 * time.Second})
	server.OnStop(live.Stop)
	SocketRoute(server.Echo, live)
	address, err := server.Open()
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	go func() { ended <- live.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			n.t.Errorf("the host did not stop cleanly: %v", err)
		}
		service.Close()
		_ = hints.Close()
	})
	n.t.Cleanup(stop)
	h := &node{service, n, live, line, "http://" + address.String(), stop}
	if parts.Redis != nil {
		testkit.Eventually(n.t, patience, "hints come", live.channel.healthy)
	}
	return h
}

func (h *node) client() *client.Client {
	h.network.t.Helper()
	return clientAt(h.network.t, h.url)
}

func clientAt(t testing.TB, url string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial opens a socket, not signed in.
func (h *node) dial() *client.Socket {
	h.network.t.Helper()
	socket, err := h.client().DialSocket(within(h.network.t), client.PathSocket, nil)
	if err != nil {
		h.network.t.Fatal(err)
	}
	h.network.t.Cleanup(func() { _ = socket.Close() })
	return socket
}

// wired is a socket and what was heard on it.
type wired struct {
	*client.Socket
	t testing.TB
}

// signIn opens a socket of a session.
func (h *node) signIn(session wire.Session) *wired {
	h.network.t.Helper()
	socket := h.dial()
	if _, err := socket.Authenticate(within(h.network.t), h.network.token(session, time.Now())); err != nil {
		h.network.t.Fatal(err)
	}
	w := &wired{socket, h.network.t}
	w.next(wire.FrameInbox, &wire.HintFrame{})
	w.next(wire.FrameCalls, &wire.HintFrame{})
	return w
}

// follow signs in and syncs from cursors.
func (h *node) follow(session wire.Session, cursors map[wire.ConversationID]int64) *wired {
	h.network.t.Helper()
	w := h.signIn(session)
	w.say(wire.ClientFrame{Type: wire.FrameSync, ID: "s", Cursors: cursors})
	w.next(wire.FrameSynced, &wire.SyncedFrame{})
	return w
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
	for {
		var content json.RawMessage
		if err := w.Receive(within(w.t), &content); err != nil {
			w.t.Fatalf("no %s frame: %v", kind, err)
		}
		var head struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(content, &head); err != nil {
			w.t.Fatal(err)
		}
		if head.Type == kind {
			if err := json.Unmarshal(content, into); err != nil {
				w.t.Fatal(err)
			}
			return
		}
	}
}

// wantItem waits for items and wants the last of them to be this message.
func (w *wired) wantItem(body string) wire.Item {
	w.t.Helper()
	for {
		var frame wire.ItemsFrame
		w.next(wire.FrameItems, &frame)
		for _, item := range frame.Items {
			if item.Body == body {
				return item
			}
		}
	}
}

// wantNothing sends a ping and wants no frame of a type before its pong.
func (w *wired) wantNothing(kind string) {
	w.t.Helper()
	w.say(wire.ClientFrame{Type: wire.FramePing, ID: "still"})
	for {
		var content json.RawMessage
		if err := w.Receive(within(w.t), &content); err != nil {
			w.t.Fatal(err)
		}
		var head struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal(content, &head)
		switch head.Type {
		case wire.FramePong:
			return
		case kind:
			w.t.Errorf("got %s", content)
		}
	}
}

func wantClosed(t testing.TB, socket *client.Socket, want wsconn.Code) {
	t.Helper()
	err := socket.Wait(within(t))
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != int(want) {
		t.Errorf("the socket ended with %v, want code %d (%s)", err, want, want)
	}
}

// reader is a device that writes down what it was given.
type reader struct {
	*client.Device
	session wire.Session
	stop    func()

	mu    sync.Mutex
	items []wire.Item
	heard []string
	odd   []string
	ends  map[wire.ConversationID]int64
}

// device runs a device of a session at a URL.
func (n *network) device(url string, session wire.Session, cursors map[wire.ConversationID]int64) *reader {
	n.t.Helper()
	r := &reader{session: session, ends: map[wire.ConversationID]int64{}}
	r.Device = clientAt(n.t, url).Device(client.DeviceOptions{
		Token:   func(context.Context) (string, error) { return n.token(session, time.Now()), nil },
		Cursors: cursors, Deliver: r.deliver, Pause: 20 * time.Millisecond,
		Notice: func(kind string, _ json.RawMessage) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.heard = append(r.heard, kind)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	n.t.Cleanup(r.stop)
	return r
}

func (r *reader) deliver(id wire.ConversationID, items []wire.Item, through int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.ends[id]
	for _, item := range items {
		if item.Seq <= last {
			r.odd = append(r.odd, item.Body+" came again, or late")
		}
		last = item.Seq
		r.items = append(r.items, item)
	}
	if through < last || through < r.ends[id] {
		r.odd = append(r.odd, "a cursor went back")
	}
	r.ends[id] = through
}

func (r *reader) bodies() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bodies(r.items)
}

func (r *reader) oddities() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.odd
}

func (r *reader) hasHeard(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.heard, kind)
}

// tryDial opens a socket with headers of the caller's making.
func (h *node) tryDial(header http.Header) (*client.Socket, error) {
	h.network.t.Helper()
	socket, err := h.client().DialSocket(within(h.network.t), client.PathSocket, header)
	if err == nil {
		h.network.t.Cleanup(func() { _ = socket.Close() })
	}
	return socket, err
}
