package chat

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/wire"
)

const (
	presencePrefix = "presence:"
	seenPrefix     = "presence-seen:"

	// A host says again and again who is with it; of a host that died, users are gone when that has run out.
	presenceLife  = time.Minute
	presenceAgain = 20 * time.Second
	seenKept      = 30 * 24 * time.Hour

	// goneAfter is how long somebody may be without a socket and still be there: a reconnect is nobody's news.
	goneAfter     = 2 * time.Second
	presenceTick  = 200 * time.Millisecond
	presenceChunk = 500

	// mayLife is how long a permission is remembered, unless a hint says that it changed.
	mayLife = time.Minute
	mayKept = 50_000
)

// The keys of a user's hosts are a sorted set of hosts by the time until which they speak for the user, on Redis's clock.
var (
	luaCome = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local others = redis.call('ZCARD', KEYS[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return others`)
	luaGo = redis.NewScript(`
local t = redis.call('TIME')
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
local others = redis.call('ZCARD', KEYS[1])
if others == 0 then redis.call('SET', KEYS[2], t[1], 'EX', ARGV[2]) end
return others`)
)

// presence knows who is there. Redis holds it and may forget it: who is not known to be there is not there.
type presence struct {
	live  *Live
	redis *redis.Client
	check chan struct{}

	mu       sync.Mutex
	coming   map[wire.UserID]struct{}  // to be said
	going    map[wire.UserID]time.Time // since when without a socket here
	watchers map[wire.UserID]map[*socket]struct{}
	watching map[*socket][]wire.UserID
	shown    map[wire.UserID]bool // what watchers were told last
	may      map[[2]wire.UserID]mayEntry
	forgot   int // how often: a permission from before is not remembered
}

type mayEntry struct {
	may   bool
	until time.Time
}

func newPresence(l *Live, client *redis.Client) *presence {
	return &presence{
		live: l, redis: client, check: make(chan struct{}, 1),
		coming: map[wire.UserID]struct{}{}, going: map[wire.UserID]time.Time{},
		watchers: map[wire.UserID]map[*socket]struct{}{}, watching: map[*socket][]wire.UserID{},
		shown: map[wire.UserID]bool{}, may: map[[2]wire.UserID]mayEntry{},
	}
}

func (p *presence) lookSoon() {
	select {
	case p.check <- struct{}{}:
	default: // one is due already
	}
}

// moved notes that the first socket of a user came to this host, or the last went.
func (p *presence) moved(user wire.UserID, here bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !here {
		p.going[user] = time.Now()
		delete(p.coming, user)
		return
	}
	if _, was := p.going[user]; was {
		delete(p.going, user) // nobody has noticed
		return
	}
	p.coming[user] = struct{}{}
}

// run says who is here until ctx ends, and that nobody is at the end.
func (p *presence) run(ctx context.Context) error {
	ticker := time.NewTicker(presenceTick)
	defer ticker.Stop()
	again := time.Now().Add(presenceAgain)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			p.sayMoves(last, 0)
			return nil
		case <-p.check:
			again = time.Now()
		case <-ticker.C:
		}
		p.sayMoves(ctx, goneAfter)
		if time.Now().After(again) {
			again = time.Now().Add(spread(presenceAgain))
			p.sayAgain(ctx)
			p.lookAgain(ctx)
		}
	}
}

// sayMoves tells Redis, and the other hosts where somebody came first or went last.
func (p *presence) sayMoves(ctx context.Context, patience time.Duration) {
	p.mu.Lock()
	coming := p.coming
	p.coming = map[wire.UserID]struct{}{}
	var gone []wire.UserID
	for user, since := range p.going {
		if time.Since(since) >= patience {
			gone = append(gone, user)
			delete(p.going, user)
		}
	}
	p.mu.Unlock()
	for user := range coming {
		if others, err := p.say(ctx, luaCome, user, int64(presenceLife/time.Millisecond)); err == nil && others == 0 {
			p.tellAll(user, true, 0)
		}
	}
	for _, user := range gone {
		if others, err := p.say(ctx, luaGo, user, int64(seenKept/time.Second)); err != nil || others == 0 {
			p.tellAll(user, false, time.Now().Unix())
		}
	}
}

func (p *presence) say(ctx context.Context, script *redis.Script, user wire.UserID, life int64) (others int64, err error) {
	if p.redis == nil || !p.live.channel.healthy() {
		return 0, nil
	}
	return script.Run(ctx, p.redis, []string{presencePrefix + string(user), seenPrefix + string(user)}, p.live.channel.host, life).Int64()
}

// sayAgain refreshes what Redis holds of the users here, also what it forgot.
func (p *presence) sayAgain(ctx context.Context) {
	if p.redis == nil || !p.live.channel.healthy() {
		return
	}
	users := p.live.sockets.usersHere()
	until := float64(time.Now().Add(presenceLife).UnixMilli())
	for len(users) > 0 {
		n := min(len(users), presenceChunk)
		_, err := p.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, user := range users[:n] {
				pipe.ZAdd(ctx, presencePrefix+string(user), redis.Z{Score: until, Member: p.live.channel.host})
				pipe.PExpire(ctx, presencePrefix+string(user), presenceLife)
			}
			return nil
		})
		if err != nil {
			return // at the next turn, then
		}
		users = users[n:]
	}
}

// lookAgain finds what no hint told of those who are watched here.
func (p *presence) lookAgain(ctx context.Context) {
	p.mu.Lock()
	users := make([]wire.UserID, 0, len(p.watchers))
	for user := range p.watchers {
		users = append(users, user)
	}
	p.mu.Unlock()
	for len(users) > 0 {
		n := min(len(users), presenceChunk)
		for _, state := range p.read(ctx, users[:n]) {
			p.show(state)
		}
		users = users[n:]
	}
}

// read asks Redis; who is here is here all the same, and nobody else where Redis is away.
func (p *presence) read(ctx context.Context, users []wire.UserID) []wire.Presence {
	states := make([]wire.Presence, len(users))
	online, seen := make([]*redis.IntCmd, len(users)), make([]*redis.StringCmd, len(users))
	asked := p.redis != nil && p.live.channel.healthy()
	if asked {
		now := strconv.FormatInt(time.Now().UnixMilli(), 10)
		_, _ = p.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error { // each answer has its own error
			for i, user := range users {
				online[i] = pipe.ZCount(ctx, presencePrefix+string(user), "("+now, "+inf")
				seen[i] = pipe.Get(ctx, seenPrefix+string(user))
			}
			return nil
		})
	}
	for i, user := range users {
		states[i] = wire.Presence{UserID: user, Online: len(p.live.sockets.of(user)) > 0}
		if !asked || states[i].Online {
			continue
		}
		states[i].Online = online[i].Val() > 0
		if at, err := seen[i].Int64(); err == nil && !states[i].Online {
			states[i].SeenAt = timeAt(at)
		}
	}
	return states
}

func timeAt(seconds int64) *time.Time {
	if seconds == 0 {
		return nil
	}
	at := time.Unix(seconds, 0).UTC()
	return &at
}

// tellAll shows a change here and tells the other hosts: "<user> <1 or 0> <seen>".
func (p *presence) tellAll(user wire.UserID, online bool, seen int64) {
	p.show(wire.Presence{UserID: user, Online: online, SeenAt: timeAt(seen)})
	flag := "0"
	if online {
		flag = "1"
	}
	p.live.channel.send(kindPresence, string(user)+" "+flag+" "+strconv.FormatInt(seen, 10))
}

func (p *presence) hear(what string) {
	parts := strings.Fields(what)
	if len(parts) != 3 {
		return
	}
	seen, err := strconv.ParseInt(parts[2], 10, 64)
	if err == nil {
		p.show(wire.Presence{UserID: wire.UserID(parts[0]), Online: parts[1] == "1", SeenAt: timeAt(seen)})
	}
}

// show tells the watchers here, unless they know.
func (p *presence) show(state wire.Presence) {
	p.mu.Lock()
	if len(p.watchers[state.UserID]) == 0 || p.shown[state.UserID] == state.Online {
		p.mu.Unlock()
		return
	}
	p.shown[state.UserID] = state.Online
	watchers := keysOf(p.watchers[state.UserID])
	p.mu.Unlock()
	p.live.hub.begin(func(ctx context.Context) {
		frame := frameOf(wire.PresenceFrame{Type: wire.FramePresence, Users: []wire.Presence{state}})
		for _, k := range watchers {
			if p.maySee(ctx, k.user(), state.UserID) {
				_ = k.conn.Send(frame)
			}
		}
	})
}

// maySee is for contacts, where neither blocks the other. What cannot be known is no.
func (p *presence) maySee(ctx context.Context, who, whom wire.UserID) bool {
	pair := [2]wire.UserID{who, whom}
	p.mu.Lock()
	entry, before := p.may[pair], p.forgot
	p.mu.Unlock()
	if time.Now().Before(entry.until) {
		return entry.may
	}
	relation, err := p.live.service.relations.Relation(ctx, who, whom)
	if err != nil {
		return false
	}
	may := relation.Contact && !relation.Blocked && !relation.Blocking
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.may) >= mayKept {
		clear(p.may)
	}
	if p.forgot == before {
		p.may[pair] = mayEntry{may, time.Now().Add(mayLife)}
	}
	return may
}

// forgetPermissions is for hints that may have been missed.
func (p *presence) forgetPermissions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.may)
	p.forgot++
}

// relationChanged tells user what is to be seen of other now. Other is told no more than that somebody came or went: that there is
// a block must not show.
func (p *presence) relationChanged(user, other wire.UserID) {
	p.live.hub.begin(func(ctx context.Context) {
		p.retell(ctx, user, other, true)
		p.retell(ctx, other, user, false)
	})
}

func (p *presence) retell(ctx context.Context, who, whom wire.UserID, openly bool) {
	concerned, could := p.forgetPermission(who, whom)
	if len(concerned) == 0 {
		return
	}
	may, state := p.maySee(ctx, who, whom), wire.Presence{UserID: whom}
	there := p.read(ctx, []wire.UserID{whom})[0]
	if may {
		state = there
	}
	if !openly && (may == could || !there.Online) {
		return
	}
	for _, k := range concerned {
		k.tell(wire.PresenceFrame{Type: wire.FramePresence, Users: []wire.Presence{state}})
	}
}

// forgetPermission gives what was known of it, and the sockets here that it concerns.
func (p *presence) forgetPermission(who, whom wire.UserID) (concerned []*socket, could bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pair := [2]wire.UserID{who, whom}
	could = p.may[pair].may
	delete(p.may, pair)
	p.forgot++
	for k := range p.watchers[whom] {
		if k.user() == who {
			concerned = append(concerned, k)
		}
	}
	return concerned, could
}

// watch sets whom a socket wants to hear of, and tells how they are now. Only of who was there lately anything is to be told, so only
// about those auth is asked.
func (k *socket) watch(ctx context.Context, frame wire.ClientFrame) error {
	var users []wire.UserID
	for _, user := range frame.Users {
		if _, err := wire.ParseUserID(string(user)); err == nil {
			users = append(users, user)
		}
	}
	p := k.live.presence
	states := p.read(ctx, users)
	p.set(k, users, states)
	var group errgroup.Group
	group.SetLimit(askAtOnce)
	for i, state := range states {
		if state.Online || state.SeenAt != nil {
			group.Go(func() error {
				if !p.maySee(ctx, k.user(), state.UserID) {
					states[i] = wire.Presence{UserID: state.UserID}
				}
				return nil
			})
		}
	}
	_ = group.Wait() // its tasks do not fail
	if states == nil {
		states = []wire.Presence{}
	}
	k.tell(wire.PresenceFrame{Type: wire.FramePresence, Users: states})
	return nil
}

func (p *presence) set(k *socket, users []wire.UserID, states []wire.Presence) {
	p.unwatch(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.ctx.Err() != nil || len(users) == 0 {
		return
	}
	p.watching[k] = users
	for i, user := range users {
		if addTo(p.watchers, user, k) {
			p.shown[user] = states[i].Online
		}
	}
}

func (p *presence) unwatch(k *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, user := range p.watching[k] {
		if removeFrom(p.watchers, user, k) {
			delete(p.shown, user)
		}
	}
	delete(p.watching, k)
}
