package sfu

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"secureconnect/services/internal/wire"
)

const (
	opusClock  = 48000
	videoClock = 90000

	keyEvery  = 500 * time.Millisecond // a layer's sender is asked for a key frame at most so often
	aliveFor  = 1500 * time.Millisecond
	tornAfter = 500 * time.Millisecond
	youngFor  = time.Second // until then what a layer was measured at says little
	restAfter = 5 * time.Second
)

// The rids of simulcast, the smallest first, and what such layers take where they have not been measured.
var (
	rids         = []string{"q", "h", "f"}
	typicalRates = []float64{150e3, 500e3, 1500e3}
)

// typicalAlone is that of a track without simulcast.
const typicalAlone = 500e3

// track is what one participant sends from one source.
type track struct {
	id     wire.TrackID
	mid    string
	source string
	kind   kind
	owner  *Participant
	layers []*layer // from small to large; one without simulcast

	payloadType, rtxType uint8
	muted                atomic.Bool
	takers               atomic.Pointer[[]*slot] // who gets the packets; replaced, never changed
	loudness             loudness

	// The room's.
	active   []string    // layers that somebody wants, as its sender knows
	wantedAt []time.Time // when somebody last did
	toldAt   []time.Time // when a layer became active
}

func newTrack(owner *Participant, s *media, source Source) *track {
	t := &track{
		id: newTrackID(), mid: s.mid, source: source.Source, kind: s.kind, owner: owner,
		payloadType: s.payloadType, rtxType: s.rtxType,
	}
	t.takers.Store(&[]*slot{})
	t.muted.Store(source.Muted)
	names := s.rids
	if len(names) == 0 {
		names = []string{""}
	}
	now := owner.room.sfu.now()
	for rank, rid := range names {
		l := &layer{track: t, rid: rid, rank: rank, typical: typicalAlone}
		if rid != "" {
			l.typical = typicalRates[slices.Index(rids, rid)]
			t.active = append(t.active, rid)
		}
		l.arrivals.clock = float64(t.kind.clock())
		t.layers = append(t.layers, l)
		t.wantedAt, t.toldAt = append(t.wantedAt, now), append(t.toldAt, now)
	}
	return t
}

func (t *track) wire() wire.Track {
	return wire.Track{ID: t.id, MID: t.mid, Source: t.source, Muted: t.muted.Load()}
}

// rank is the place of the largest layer for who wants so much.
func (t *track) rank(want string) int {
	most := len(t.layers) - 1
	switch want {
	case wire.WantLow:
		return 0
	case wire.WantMedium:
		return min(1, most)
	case wire.WantHigh:
		return most
	}
	return -1
}

// like says whether the track could be of that section too.
func (t *track) like(s *media) bool {
	names := len(s.rids)
	return t.kind == s.kind && t.payloadType == s.payloadType && t.rtxType == s.rtxType && len(t.layers) == max(names, 1) &&
		(names == 0) == (t.layers[0].rid == "") &&
		!slices.ContainsFunc(t.layers, func(l *layer) bool { return l.rid != "" && !slices.Contains(s.rids, l.rid) })
}

// add and remove are the room's.
func (t *track) add(s *slot) {
	takers := append(slices.Clone(*t.takers.Load()), s)
	t.takers.Store(&takers)
}

func (t *track) remove(s *slot) {
	takers := slices.DeleteFunc(slices.Clone(*t.takers.Load()), func(other *slot) bool { return other == s })
	t.takers.Store(&takers)
}

// layer is one of the streams a track is sent as.
type layer struct {
	track *track
	rid   string
	rank  int
	ssrc  atomic.Uint32 // 0 until a packet came

	mu        sync.Mutex
	arrivals  arrivals
	ring      ring // of video
	rate      meter
	typical   float64
	lastAt    time.Time
	lastStamp uint32
	since     time.Time // when it began, after a rest
	keyAsked  time.Time
	keyWanted bool
}

// take counts a packet and keeps it. It says whether it is to be forwarded, and what is to be asked for again.
func (l *layer) take(p *packet, repaired bool, now time.Time, patience time.Duration, into []uint16) (fresh bool, missing []uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.arrivals.highest
	p.index, fresh = l.arrivals.take(p.sequence, repaired, now)
	p.stream = l.arrivals.beginnings
	if !fresh {
		return false, into
	}
	gap := now.Sub(l.lastAt)
	if !repaired {
		l.arrivals.time(p.timestamp, now, l.track.owner.room.sfu.began)
		if gap > aliveFor {
			l.since = now
		}
		l.lastAt, l.lastStamp = now, p.timestamp
	}
	l.rate.add(len(p.payload)+rtpHeader, now)
	if l.track.kind == audio {
		return true, into
	}
	p.vp8.parse(p.payload)
	switch {
	case p.vp8.key:
		l.keyWanted = false
	case p.index > before+1 && gap > tornAfter && before > 0:
		l.keyWanted = true // its sender was not heard for a while: nobody can go on from here
	}
	if len(p.payload) > 0 {
		l.ring.put(p, now)
	}
	return true, l.arrivals.ask(now, patience, into)
}

// is says which SSRC the layer has. Another one is another stream.
func (l *layer) is(ssrc uint32) (before uint32) {
	before = l.ssrc.Swap(ssrc)
	if before != ssrc {
		l.mu.Lock()
		l.arrivals.anew()
		l.mu.Unlock()
	}
	return before
}

// wantKey asks the sender for a key frame, again and again until it comes, but not too often.
func (l *layer) wantKey(now time.Time) {
	l.mu.Lock()
	l.keyWanted = true
	due := l.keyDue(now)
	l.mu.Unlock()
	if due {
		l.askKey()
	}
}

// askAgain asks for what has not come, where nothing else comes that would make it be asked for.
func (l *layer) askAgain(now time.Time, patience time.Duration) {
	l.mu.Lock()
	due := l.keyWanted && l.keyDue(now)
	var missing []uint16
	if l.track.kind == video {
		missing = l.arrivals.ask(now, patience, nil)
	}
	l.mu.Unlock()
	if due {
		l.askKey()
	}
	l.ask(missing)
}

// ask has packets sent again.
func (l *layer) ask(missing []uint16) {
	if len(missing) == 0 {
		return
	}
	l.track.owner.room.sfu.metrics.asked.Add(float64(len(missing)))
	l.track.owner.sayUp(&rtcp.TransportLayerNack{MediaSSRC: l.ssrc.Load(), Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
}

func (l *layer) keyDue(now time.Time) bool {
	if now.Sub(l.keyAsked) < keyEvery || l.ssrc.Load() == 0 {
		return false
	}
	l.keyAsked = now
	return true
}

func (l *layer) askKey() {
	l.track.owner.room.sfu.metrics.pictureLoss.Inc()
	l.track.owner.sayUp(&rtcp.PictureLossIndication{MediaSSRC: l.ssrc.Load()})
}

// alive says whether anything comes, and what it takes in bits a second.
func (l *layer) alive(now time.Time) (bool, float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	alone := len(l.track.layers) == 1
	if !alone && now.Sub(l.lastAt) > aliveFor {
		return false, l.typical
	}
	rate := l.rate.of(now)
	if now.Sub(l.since) < youngFor {
		return true, max(rate, l.typical)
	}
	if alone { // what is shown may stand still now and move the next moment
		l.typical = max(rate, l.typical*0.98)
		return true, max(rate, l.typical/4)
	}
	l.typical = rate
	return true, rate
}

// meter is how much came in the last second.
type meter struct {
	buckets [10]int
	at      int64 // the newest bucket, in tenths of a second
}

func (m *meter) turn(now time.Time) {
	at := now.UnixMilli() / 100
	for i := max(m.at+1, at-int64(len(m.buckets))+1); i <= at; i++ {
		m.buckets[i%int64(len(m.buckets))] = 0
	}
	m.at = max(m.at, at)
}

func (m *meter) add(n int, now time.Time) {
	m.turn(now)
	m.buckets[m.at%int64(len(m.buckets))] += n
}

// of is in bits a second.
func (m *meter) of(now time.Time) float64 {
	m.turn(now)
	sum := 0
	for _, n := range m.buckets {
		sum += n
	}
	return float64(8 * sum)
}

// last is what came in the last full tenths of a second, in bits a second.
func (m *meter) last(tenths int, now time.Time) float64 {
	m.turn(now)
	sum := 0
	for i := range int64(tenths) {
		sum += m.buckets[(m.at-1-i+int64(len(m.buckets)))%int64(len(m.buckets))]
	}
	return float64(80*sum) / float64(tenths)
}

// senderTime is when, on its sender's clock, a timestamp was.
func (l *layer) senderTime(stamp uint32) (at time.Duration, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.arrivals
	if a.reportAt.IsZero() {
		return 0, false
	}
	return fromNTP(a.reportNTP) + ticks(stamp-a.reportRTP, a.clock), true
}

// stampAt is the timestamp of a moment.
func (l *layer) stampAt(now time.Time) uint32 {
	ahead, known := l.track.owner.wall.ahead()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.arrivals
	from, took := l.lastStamp, now.Sub(l.lastAt)
	if known && !a.reportAt.IsZero() {
		from, took = a.reportRTP, fromNTP(ntp(now))-ahead-fromNTP(a.reportNTP)
	}
	return from + uint32(int64(took.Seconds()*a.clock)) //nolint:gosec // wraps as timestamps do
}

// ticks is how long so many ticks are, which may be less than none.
func ticks(n uint32, clock float64) time.Duration {
	return time.Duration(float64(int32(n)) / clock * float64(time.Second)) //nolint:gosec // signed on purpose
}
