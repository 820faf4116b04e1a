package video

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/tunnel"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
	"secureconnect/services/video/sfu"
)

// Limits are what sockets and rooms may cost, and how exact time is; none given means those of defaultLimits.
type Limits struct {
	Sockets                int // on this host, relayed ones aside
	UnauthenticatedSockets int // per client address
	Relayed                int // sockets to calls of other hosts

	AuthenticateWithin time.Duration // from the upgrade to a good auth frame
	RecheckEvery       time.Duration // how often auth is asked whether the session lives
	MembersEvery       time.Duration // how often chat is asked who is still a member
	WatchEvery         time.Duration // how often SQL is asked how our calls stand, and the lease is renewed
	TickEvery          time.Duration // how exact deadlines are
	KeepAway           time.Duration // how long a participant without a socket is kept
	KeepEmpty          time.Duration // how long a room without participants is kept
	StopWithin         time.Duration // for participants to go to another host
}

func defaultLimits() Limits {
	return Limits{
		Sockets: 5000, UnauthenticatedSockets: 20, Relayed: 5000,
		AuthenticateWithin: 5 * time.Second,
		RecheckEvery:       15 * time.Second,
		MembersEvery:       5 * time.Second,
		WatchEvery:         time.Second,
		TickEvery:          500 * time.Millisecond,
		KeepAway:           30 * time.Second,
		KeepEmpty:          10 * time.Second,
		StopWithin:         6 * time.Second,
	}
}

// checksAtOnce bounds the questions to auth and chat about sessions and members.
const checksAtOnce = 16

// Live is the calls of this host: their rooms, the sockets to them, the lease by which it owns them, and the way to other hosts'.
type Live struct {
	log     *slog.Logger
	limits  Limits
	service *Service
	media   *sfu.SFU
	check   session.Check
	turn    TURN
	host    string
	address string // where other hosts reach our sockets, host:port
	faults  bool
	checks  *semaphore.Weighted
	relayed *relayed
	opening singleflight.Group
	work    sync.WaitGroup // checks under way
	stopped chan struct{}

	mu        sync.Mutex
	me        owner // the zero value until SQL has given us an epoch
	stopping  bool
	rooms     map[wire.CallID]*room
	sockets   map[*socket]struct{}
	strangers map[string]int // sockets of a subscriber that have not authenticated
	running   sync.WaitGroup // sockets
}

// LiveParts are what a Live is made of. Registry may be nil.
type LiveParts struct {
	Log      *slog.Logger
	Service  *Service
	Media    *sfu.SFU
	Sessions session.Check
	TURN     TURN
	Host     string // names this app host among the others
	Address  string // where the others reach our sockets, host:port
	Faults   bool   // clients may ask for faults of their own connection
	Registry prometheus.Registerer
	Limits   Limits
}

// NewLive puts the calls of this host together; Run it.
func NewLive(parts LiveParts) *Live {
	if parts.Limits == (Limits{}) {
		parts.Limits = defaultLimits()
	}
	l := &Live{
		log: parts.Log, limits: parts.Limits, service: parts.Service, media: parts.Media, check: parts.Sessions, turn: parts.TURN,
		host: parts.Host, address: parts.Address, faults: parts.Faults,
		checks: semaphore.NewWeighted(checksAtOnce), stopped: make(chan struct{}),
		rooms: map[wire.CallID]*room{}, sockets: map[*socket]struct{}{}, strangers: map[string]int{},
		relayed: newRelayed(parts.Log, tunnel.NewSet(parts.Limits.Relayed)),
	}
	if parts.Registry != nil {
		for name, gauge := range map[string]struct {
			help  string
			value func() int
		}{
			"video_sockets": {"Open sockets to calls of this host.", l.countSockets},
			"video_rooms":   {"Calls that live on this host.", l.countRooms},
			"video_relayed": {"Open sockets to calls of other hosts.", l.relayed.tunnels.Count},
		} {
			parts.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: gauge.help}, func() float64 { return float64(gauge.value()) }))
		}
	}
	return l
}

func (l *Live) countSockets() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sockets)
}

func (l *Live) countRooms() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rooms)
}

// Run keeps the lease, watches over calls and looks after deadlines until ctx ends and Stop was called.
func (l *Live) Run(ctx context.Context) error {
	beyond, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, running := errgroup.WithContext(beyond)
	for _, part := range []struct {
		every time.Duration
		turn  func(context.Context)
	}{
		{l.limits.WatchEvery, l.keepLease}, {l.limits.TickEvery, l.tick}, {l.limits.MembersEvery, l.checkMembers},
	} {
		group.Go(func() error { return l.regularly(running, part.every, part.turn) })
	}
	<-ctx.Done()
	select {
	case <-l.stopped:
	case <-time.After(stopTime):
	}
	cancel()
	err := group.Wait()
	l.work.Wait()
	return err
}

// stopTime is for a Stop that does not come.
const stopTime = 10 * time.Second

func (l *Live) regularly(ctx context.Context, every time.Duration, turn func(context.Context)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		turn(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// enter makes room for a socket, or fails with TooMany or Unavailable. Whoever entered must leave.
func (l *Live) enter(k *socket) error {
	const op = "video.openSocket"
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping || len(l.sockets) >= l.limits.Sockets:
		return apperr.OrUnavailable(op, errFull)
	case l.strangers[k.subscriber] >= l.limits.UnauthenticatedSockets:
		return apperr.Overrun(op, l.limits.AuthenticateWithin)
	}
	l.sockets[k] = struct{}{}
	l.strangers[k.subscriber]++
	l.running.Add(1)
	return nil
}

var errFull = errors.New("no room for another socket")

// know says that a socket is a stranger's no more.
func (l *Live) know(k *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetStrangerLocked(k)
}

func (l *Live) forgetStrangerLocked(k *socket) {
	if k.known {
		return
	}
	k.known = true
	if l.strangers[k.subscriber]--; l.strangers[k.subscriber] <= 0 {
		delete(l.strangers, k.subscriber)
	}
}

func (l *Live) leave(k *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sockets, k)
	l.forgetStrangerLocked(k)
	l.running.Done()
}

func (l *Live) allSockets() []*socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.sockets))
}

func (l *Live) allRooms() []*room {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.rooms))
}

func (l *Live) isStopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopping
}

func (l *Live) room(id wire.CallID) *room {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rooms[id]
}

// forget drops a room that is over; its media end.
func (l *Live) forget(r *room) {
	l.mu.Lock()
	if l.rooms[r.id] == r {
		delete(l.rooms, r.id)
	}
	l.mu.Unlock()
	r.media.Close()
}

// tick looks after deadlines.
func (l *Live) tick(ctx context.Context) {
	now := time.Now()
	for _, k := range l.allSockets() {
		k.keepTime(now)
	}
	for _, r := range l.allRooms() {
		r.keepTime(ctx, now)
	}
}

// beside runs a question to another service beside the tick that asks it, or not at all when many are under way.
func (l *Live) beside(ask func()) bool {
	if !l.checks.TryAcquire(1) {
		return false
	}
	l.work.Go(func() {
		defer l.checks.Release(1)
		ask()
	})
	return true
}

// checkMembers puts out who is no longer a member of the conversation.
func (l *Live) checkMembers(ctx context.Context) {
	for _, r := range l.allRooms() {
		if !r.test {
			l.beside(func() { r.checkMembers(ctx) })
		}
	}
}

// Stop hands the calls of this host to another one, asks everybody to join them there, and ends what is left when the time for that is over.
func (l *Live) Stop(ctx context.Context) {
	defer close(l.stopped)
	bounded, cancel := context.WithTimeout(ctx, l.limits.StopWithin)
	defer cancel()
	l.handOver(bounded)
	l.mu.Lock()
	l.stopping = true
	l.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		l.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-bounded.Done():
	}
	for _, k := range l.allSockets() {
		k.close(wsconn.GoingAway)
	}
	l.relayed.tunnels.Stop(ctx)
	select {
	case <-gone:
	case <-ctx.Done():
	}
	for _, r := range l.allRooms() {
		l.forget(r)
	}
	l.depart(ctx)
}
