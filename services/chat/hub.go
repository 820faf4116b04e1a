package chat

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"secureconnect/services/internal/wire"
)

const (
	// readsAtOnce bounds what sockets ask of the stores; the others wait their turn.
	readsAtOnce = 16

	// truthEvery is how often feeds are held against SQL while hints come, truthAlone while they do not.
	truthEvery = 20 * time.Second
	truthAlone = 750 * time.Millisecond
	truthChunk = 500

	// truthMargin is for events that were begun before a check and committed after it.
	truthMargin = 30 * time.Second
)

// hub has the feeds of this host and joins them with those of the others. What one host stores it delivers to its own sockets at
// once; the others are told by a hint, and find out from SQL what no hint told.
type hub struct {
	log     *slog.Logger
	service *Service
	sockets *sockets
	channel *channel
	ctx     context.Context //nolint:containedctx // the life of what the hub starts, ended by stop
	cancel  context.CancelFunc
	running sync.WaitGroup
	places  chan struct{}
	check   chan struct{} // asks for a look at the truth now

	mu      sync.RWMutex
	feeds   map[wire.ConversationID]*feed
	stopped bool

	delivered, repaired, resyncs, missed prometheus.Counter
}

func newHub(log *slog.Logger, registry prometheus.Registerer) *hub {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		if registry != nil {
			registry.MustRegister(c)
		}
		return c
	}
	h := &hub{
		log: log, feeds: map[wire.ConversationID]*feed{}, places: make(chan struct{}, readsAtOnce), check: make(chan struct{}, 1),
		delivered: counter("chat_deliveries_total", "Frames of items given to sockets."),
		repaired:  counter("chat_repaired_total", "Pieces of conversations that were read because nobody announced them in order."),
		resyncs:   counter("chat_resyncs_total", "Conversations read for a socket that was behind."),
		missed:    counter("chat_missed_total", "Conversations found ahead of their feed when held against SQL."),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// begin runs work until it ends by itself or the hub stops; it reports false when the hub has.
func (h *hub) begin(work func(ctx context.Context)) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.stopped {
		return false
	}
	h.running.Go(func() { work(h.ctx) })
	return true
}

func (h *hub) stop() {
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
	h.cancel()
	h.running.Wait()
}

func (h *hub) feed(id wire.ConversationID) *feed {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.feeds[id]
}

// open gives the feed of a conversation, held until it is released; a new one begins at settled.
func (h *hub) open(id wire.ConversationID, settled int64) *feed {
	for {
		f := h.feedOr(id, settled)
		f.mu.Lock()
		if !f.gone { // else it has been forgotten by now
			f.holds++
			f.mu.Unlock()
			return f
		}
		f.mu.Unlock()
	}
}

func (h *hub) feedOr(id wire.ConversationID, settled int64) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[id]
	if f == nil {
		f = &feed{hub: h, id: id, through: settled, want: settled, subs: map[*socket]int64{}, early: map[int64]*batch{}}
		h.feeds[id] = f
	}
	return f
}

func (h *hub) forget(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeds[f.id] == f {
		delete(h.feeds, f.id)
	}
}

// announce is the core's Announce: what this host stored, in order.
func (h *hub) announce(_ context.Context, id wire.ConversationID, items []wire.Item) {
	f, shared := h.feed(id), h.channel.shared()
	if f == nil && !shared && len(comers(items)) == 0 {
		return
	}
	encoded := frameOf(items)
	first, last := items[0].Seq, items[len(items)-1].Seq
	if last-first+1 != int64(len(items)) {
		h.heard(id, nil, last) // what lies between is pending or void: whoever follows reads
		h.channel.sendAnnounce(id, first, last, nil, nil)
		return
	}
	b := &batch{after: first - 1, through: last, encoded: encoded, items: items, leaving: leavers(items)}
	h.heard(id, b, last)
	h.channel.sendAnnounce(id, first, last, comers(items), encoded)
	h.comeIn(id, comers(items))
}

// hearAnnounced takes what another host stored. Where nobody follows, nothing of it is read.
func (h *hub) hearAnnounced(a announced) {
	if h.feed(a.id) != nil {
		h.heard(a.id, a.batch(), a.last)
	}
	h.comeIn(a.id, a.users)
}

// heard offers a batch to the feed of a conversation, if there is one here; without a batch the feed reads.
func (h *hub) heard(id wire.ConversationID, b *batch, last int64) {
	f := h.feed(id)
	switch {
	case f == nil:
	case b != nil:
		f.offer(b)
	default:
		f.expect(last)
	}
}

// comeIn subscribes those sockets here whose users came into a conversation.
func (h *hub) comeIn(id wire.ConversationID, users []wire.UserID) {
	for _, user := range users {
		for _, s := range h.sockets.of(user) {
			s.takeUp(id)
		}
	}
}

// recheckMembership is for who was put out: the hint of a return may have come before.
func (h *hub) recheckMembership(id wire.ConversationID, user wire.UserID) {
	h.begin(func(context.Context) { h.comeIn(id, []wire.UserID{user}) })
}

// read gives what is settled of a conversation after a number, whoever may see it; the feed knows who may.
func (h *hub) read(ctx context.Context, id wire.ConversationID, after int64) (wire.Page, error) {
	if !h.take(ctx) {
		return wire.Page{}, ctx.Err()
	}
	defer h.give()
	v, err := h.service.store.wholeView(ctx, id)
	if err != nil {
		return wire.Page{}, err
	}
	return h.service.page(ctx, id, v, after, v.head, maxPage)
}

func (h *hub) take(ctx context.Context) bool {
	select {
	case h.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *hub) give() { <-h.places }

// lookSoon asks for a look at the truth: hints were interrupted.
func (h *hub) lookSoon() {
	select {
	case h.check <- struct{}{}:
	default: // one is due already
	}
}

// watchTruth holds feeds and memberships against SQL until ctx ends.
func (h *hub) watchTruth(ctx context.Context) error {
	ticker := time.NewTicker(truthAlone / 3)
	defer ticker.Stop()
	looked, succeeded := time.Now(), time.Now()
	for {
		every := truthEvery
		if !h.channel.healthy() {
			every = truthAlone
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.check:
		case <-ticker.C:
			if time.Since(looked) < every {
				continue
			}
		}
		looked = time.Now()
		if err := h.look(ctx, looked.Sub(succeeded)+truthMargin); err != nil {
			if ctx.Err() == nil {
				h.log.Warn("feeds not held against the store", "op", "chat.truth", "error", err)
			}
			continue
		}
		succeeded = looked
	}
}

// look compares once; since is how far back memberships may have changed unheard.
func (h *hub) look(ctx context.Context, since time.Duration) error {
	h.mu.RLock()
	ids := make([]wire.ConversationID, 0, len(h.feeds))
	for id := range h.feeds {
		ids = append(ids, id)
	}
	h.mu.RUnlock()
	for len(ids) > 0 {
		n := min(len(ids), truthChunk)
		heads, err := h.service.store.heads(ctx, ids[:n])
		if err != nil {
			return err
		}
		for id, head := range heads {
			if f := h.feed(id); f != nil && f.expect(head) {
				h.missed.Inc()
			}
		}
		ids = ids[n:]
	}
	if h.sockets.count() == 0 {
		return nil
	}
	return h.service.store.recentComers(ctx, since, h.comeIn)
}
