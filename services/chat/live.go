package chat

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/wire"
)

// Limits are what sockets may cost; none given means those of defaultLimits.
type Limits struct {
	Sockets                int // on this host
	SocketsPerSession      int
	UnauthenticatedSockets int // per client address
	QueueBytes             int // waiting for one reader

	AuthenticateWithin time.Duration // from the upgrade to a good auth frame
	RecheckEvery       time.Duration // how often auth is asked whether the session lives
	RecheckAlone       time.Duration // the same while hints of ended sessions do not come
	SweepEvery         time.Duration // how exact deadlines are
	PingEvery          time.Duration

	// Of one socket. Above SocketFrame it is closed, above the next two it is told to wait, above Typing it is not heard.
	SocketFrame ratelimit.Rule
	SocketSend  ratelimit.Rule
	SocketAsk   ratelimit.Rule
	Typing      ratelimit.Rule
}

func defaultLimits() Limits {
	return Limits{
		Sockets:                20_000,
		SocketsPerSession:      16,
		UnauthenticatedSockets: 20,
		QueueBytes:             1 << 20,
		AuthenticateWithin:     5 * time.Second,
		RecheckEvery:           time.Minute,
		RecheckAlone:           15 * time.Second,
		SweepEvery:             500 * time.Millisecond,
		PingEvery:              25 * time.Second,
		SocketFrame:            ratelimit.Rule{Burst: 300, Every: 20 * time.Millisecond},
		SocketSend:             ratelimit.Rule{Burst: 60, Every: 100 * time.Millisecond},
		SocketAsk:              ratelimit.Rule{Burst: 40, Every: 100 * time.Millisecond},
		Typing:                 ratelimit.Rule{Burst: 5, Every: time.Second},
	}
}

// checksAtOnce bounds the questions to auth about sessions.
const checksAtOnce = 32

// Live is the sockets of this host and what they share: feeds, presence, receipts and the way to the other hosts.
type Live struct {
	log      *slog.Logger
	limits   Limits
	service  *Service
	check    session.Check
	checks   *semaphore.Weighted
	sockets  *sockets
	hub      *hub
	channel  *channel
	presence *presence
	receipts *receipts
	stopped  chan struct{}
}

// LiveParts are what a Live is made of. Redis and Registry may be nil.
type LiveParts struct {
	Log      *slog.Logger
	Redis    *redis.Client
	Sessions session.Check
	Registry prometheus.Registerer
	Limits   Limits
}

// NewLive puts the sockets together. Its Announce belongs into the parts of the Service that is then given to Serve.
func NewLive(parts LiveParts) *Live {
	if parts.Limits == (Limits{}) {
		parts.Limits = defaultLimits()
	}
	l := &Live{
		stopped: make(chan struct{}),
		log:     parts.Log, limits: parts.Limits, check: parts.Sessions, checks: semaphore.NewWeighted(checksAtOnce),
		sockets: newSockets(parts.Limits), hub: newHub(parts.Log, parts.Registry), channel: newChannel(parts.Log, parts.Redis, parts.Registry),
	}
	l.hub.sockets, l.hub.channel = l.sockets, l.channel
	l.presence, l.receipts = newPresence(l, parts.Redis), newReceipts(l)
	l.sockets.presence = l.presence.moved
	l.channel.handle, l.channel.resumed = l.hear, l.resumed
	l.channel.hints = map[string]func(string){
		wire.RevokedChannel:  l.hearRevoked,
		wire.KeysChannel:     l.hearKeys,
		wire.RelationChannel: l.hearRelation,
		wire.CallsChannel:    l.hearCalls,
	}
	if parts.Registry != nil {
		parts.Registry.MustRegister(l.sockets.gauge())
	}
	return l
}

// Announce delivers what was stored.
func (l *Live) Announce(ctx context.Context, id wire.ConversationID, items []wire.Item) {
	l.hub.announce(ctx, id, items)
}

// Serve gives the sockets the rules they follow; before it, none may be opened.
func (l *Live) Serve(service *Service) { l.service, l.hub.service = service, service }

// Run does what goes on beside the sockets until ctx ends and Stop was called.
func (l *Live) Run(ctx context.Context) error {
	beyond, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(beyond)
	for _, run := range []func(context.Context) error{
		l.channel.run, l.hub.watchTruth, l.sockets.sweep, l.presence.run, l.receipts.run,
	} {
		group.Go(func() error { return run(running) })
	}
	<-ctx.Done()
	select {
	case <-l.stopped:
	case <-time.After(stopTime):
	}
	cancel()
	return group.Wait()
}

// stopTime is for a Stop that does not come.
const stopTime = 10 * time.Second

// Stop asks everybody to connect elsewhere, and ends what worked for them.
func (l *Live) Stop(ctx context.Context) {
	defer close(l.stopped)
	l.sockets.stop(ctx)
	l.hub.stop()
}

// room is how much may wait for a reader who is being given what he missed.
func (l *Live) room() int { return l.limits.QueueBytes / 4 }

func (l *Live) recheckEvery() time.Duration {
	if l.channel.healthy() && l.channel.shared() {
		return l.limits.RecheckEvery
	}
	return l.limits.RecheckAlone
}

// deafSince is when hints ceased to come; zero while they do.
func (l *Live) deafSince() time.Time {
	if l.channel.shared() && l.channel.healthy() {
		return time.Time{}
	}
	return time.Unix(0, l.channel.heard.Load())
}

// resumed makes up for the hints that were not heard.
func (l *Live) resumed() {
	l.hub.lookSoon()
	l.presence.forgetPermissions()
	l.presence.lookSoon()
	for _, k := range l.sockets.all() {
		k.recheckWithin(l.limits.RecheckAlone)
	}
}

// hear takes what another host says.
func (l *Live) hear(kind, what string) {
	switch kind {
	case kindAnnounce:
		if a, ok := parseAnnounced(what); ok {
			l.hub.hearAnnounced(a)
		}
	case kindFrame:
		l.hearShared(what)
	case kindPresence:
		l.presence.hear(what)
	}
}

// hearShared passes a frame of another host on as it is: "<conversation> <but whom> <frame>".
func (l *Live) hearShared(what string) {
	id, rest, _ := strings.Cut(what, " ")
	but, frame, ok := strings.Cut(rest, " ")
	if f := l.hub.feed(wire.ConversationID(id)); ok && f != nil {
		f.share([]byte(frame), wire.UserID(but))
	}
}

// share gives a frame that is not part of the order to who follows a conversation, on all hosts.
func (l *Live) share(id wire.ConversationID, frame []byte, but wire.UserID) {
	if f := l.hub.feed(id); f != nil {
		f.share(frame, but)
	}
	l.channel.send(kindFrame, string(id)+" "+string(but)+" "+string(frame))
}

func (l *Live) hearRevoked(payload string) {
	if id, err := wire.ParseSessionID(payload); err == nil {
		l.sockets.revoke(id)
	}
}

var (
	inboxFrame    = frameOf(wire.HintFrame{Type: wire.FrameInbox})
	contactsFrame = frameOf(wire.HintFrame{Type: wire.FrameContacts})
	callsFrame    = frameOf(wire.HintFrame{Type: wire.FrameCalls})
)

func (l *Live) hearKeys(payload string) {
	for _, k := range l.sockets.of(wire.UserID(payload)) {
		_ = k.conn.Send(inboxFrame)
	}
}

func (l *Live) hearCalls(payload string) {
	for user := range strings.SplitSeq(payload, " ") {
		for _, k := range l.sockets.of(wire.UserID(user)) {
			_ = k.conn.Send(callsFrame)
		}
	}
}

func (l *Live) hearRelation(payload string) {
	hint, err := wire.ParseRelationHint(payload)
	if err != nil {
		return
	}
	l.service.relations.Forget(hint.User, hint.Other)
	for _, k := range l.sockets.of(hint.User) {
		_ = k.conn.Send(contactsFrame)
	}
	l.presence.relationChanged(hint.User, hint.Other)
}
