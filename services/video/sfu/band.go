package sfu

import (
	"sync"
	"time"
)

const (
	sentSize  = 4096 // packets whose feedback is waited for
	firstRate = 2500e3
	leastRate = 64e3
	mostRate  = 100e6

	periodLength  = 100 * time.Millisecond
	periodPackets = 5
	baseLength    = 10 * time.Second

	standingQueue = 60 * time.Millisecond // of delay that does not go away within a period
	fullQueue     = 200 * time.Millisecond
	emptyQueue    = 30 * time.Millisecond
	heavyLoss     = 0.3  // in two periods
	steadyLoss    = 0.12 // in twenty; below it, what is lost is sent again and does not mean that the way is narrow

	backTo      = 0.85
	settleFor   = 500 * time.Millisecond // after a step down, before another
	unheardFor = 2 * time.Second
	probeFor    = 500 * time.Millisecond
	probeLost   = 2 * time.Second
	leastWait   = time.Second
	mostWait    = 30 * time.Second
	mostShare   = 4 // of what flows anyway, for a probe
)

// band estimates what video a connection down bears, from its receiver's transport-wide feedback (deployment/decisions/0009). It believes
// what it has seen delivered: less as soon as a queue stands or much is lost, more when a probe of that much has come through.
type band struct {
	mu     sync.Mutex
	began  time.Time
	next   uint16
	record [sentSize]sentPacket

	rate     float64 // bits a second that are believed
	period   period
	recent   [20]period // the last ones, by turns
	at       int
	standing int // periods in which a queue stood, one after the other
	base     [2]time.Duration
	baseAt   time.Time
	hasBase  bool
	reduced  time.Time
	torn     bool      // much was lost, when it was reduced
	waiting  time.Time // since when nothing has been heard of what was sent

	delivered, out meter
	tokens         float64 // bytes that may be repeated
	tokensAt       time.Time

	goal      float64 // of the probe that goes on; 0: none does
	share     float64
	probeAt   time.Time
	probeWait time.Duration
	probeNext time.Time
}

type sentPacket struct {
	at       time.Duration
	size     uint16
	sequence uint16
	open     bool // nothing has been heard of it
}

// period is what was heard of packets in a tenth of a second: how many came, and the least time one took.
type period struct {
	began     time.Time
	got, lost int
	least     time.Duration
}

func newBand(now time.Time) *band {
	return &band{began: now, rate: firstRate, probeWait: leastWait, tokensAt: now, baseAt: now}
}

// sent notes a packet and numbers it.
func (b *band) sent(size int, now time.Time) uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sequence := b.next
	b.next++
	b.record[sequence%sentSize] = sentPacket{at: now.Sub(b.began), size: uint16(size), sequence: sequence, open: true} //nolint:gosec // a packet's
	b.out.add(size, now)
	if b.waiting.IsZero() {
		b.waiting = now
	}
	return sequence
}

// heard takes feedback. It says whether less is believed than before.
func (b *band) heard(feedback []byte, now time.Time) (less bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = time.Time{}
	if b.period.began.IsZero() {
		b.period.began = now
	}
	if !parseTransport(feedback, func(sequence uint16, arrived bool, at time.Duration) { b.outcome(sequence, arrived, at, now) }) {
		return false
	}
	lasted, packets := now.Sub(b.period.began), b.period.got+b.period.lost
	if lasted < periodLength || packets < periodPackets && lasted < 3*periodLength {
		return false
	}
	return b.judge(now)
}

func (b *band) outcome(sequence uint16, arrived bool, at time.Duration, now time.Time) {
	p := &b.record[sequence%sentSize]
	if !p.open || p.sequence != sequence {
		return
	}
	p.open = false
	if !arrived {
		b.period.lost++
		return
	}
	took := at - p.at // on two clocks: only differences mean something
	if b.period.got == 0 || took < b.period.least {
		b.period.least = took
	}
	b.period.got++
	b.delivered.add(int(p.size), now)
}

// judge ends a period.
func (b *band) judge(now time.Time) (less bool) {
	p := b.period
	b.period = period{began: now}
	b.recent[b.at] = p
	b.at = (b.at + 1) % len(b.recent)
	queue := b.queue(p, now)
	switch {
	case b.congested(queue):
		return b.stepDown(now)
	case queue < emptyQueue:
		b.stepUp(now)
	}
	return false
}

// queue is how much longer than the shortest of late even the fastest packet took.
func (b *band) queue(p period, now time.Time) time.Duration {
	if p.got == 0 {
		return 0
	}
	if b.hasBase {
		if leap := p.least - b.base[0]; leap > baseLength || leap < -baseLength { // the receiver's clock was set
			b.hasBase = false
		}
	}
	switch {
	case !b.hasBase:
		b.base, b.hasBase, b.baseAt = [2]time.Duration{p.least, p.least}, true, now
	case now.Sub(b.baseAt) > baseLength:
		b.base, b.baseAt = [2]time.Duration{p.least, b.base[0]}, now
	default:
		b.base[0] = min(b.base[0], p.least)
	}
	return p.least - min(b.base[0], b.base[1])
}

func (b *band) congested(queue time.Duration) bool {
	if queue > standingQueue {
		b.standing++
	} else {
		b.standing = 0
	}
	if queue > fullQueue || b.standing > 1 || b.standing > 0 && b.goal > 0 {
		return true
	}
	return b.lostOf(2, 20) > heavyLoss || b.lostOf(len(b.recent), 100) > steadyLoss
}

// lostOf is the share of packets lost in the last periods, 0 where they are too few to tell.
func (b *band) lostOf(periods, least int) float64 {
	got, lost := 0, 0
	for i := range periods {
		p := b.recent[(b.at+len(b.recent)-1-i)%len(b.recent)]
		got, lost = got+p.got, lost+p.lost
	}
	if got+lost < least {
		return 0
	}
	return float64(lost) / float64(got+lost)
}

// stepDown believes what was delivered and a little less, so that the queue empties. A probe that failed only ends.
func (b *band) stepDown(now time.Time) (less bool) {
	torn := b.lostOf(2, 20) > steadyLoss
	b.recent = [20]period{} // what was lost until now has had its effect
	if b.goal > 0 {
		b.endProbe(now)
		b.probeWait = min(2*b.probeWait, mostWait)
		b.reduced = now
		return false
	}
	if now.Sub(b.reduced) < settleFor {
		return false
	}
	b.reduced = now
	b.probeNext = now.Add(b.probeWait)
	was := b.rate
	b.torn = torn
	b.rate = max(leastRate, min(b.rate, b.delivered.last(3, now))*backTo)
	return b.rate < was
}

func (b *band) endProbe(now time.Time) { b.goal, b.share, b.probeNext = 0, 0, now.Add(b.probeWait) }

// stepUp believes what was delivered.
func (b *band) stepUp(now time.Time) {
	delivered := b.delivered.last(4, now)
	b.rate = min(max(b.rate, delivered), mostRate)
	if b.goal == 0 || now.Sub(b.probeAt) < probeFor {
		return
	}
	if delivered > 0.8*b.goal { // the rest is the measure's coarseness
		b.rate = max(b.rate, min(b.goal, mostRate))
		b.probeWait = leastWait
	}
	b.endProbe(now)
}

// want says what would be sent if it could be. More than is believed is tried with a probe, or, where nothing flows that could be sent
// twice, by believing it.
func (b *band) want(need float64, now time.Time) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.goal > 0 && now.Sub(b.probeAt) > probeLost {
		b.endProbe(now)
	}
	if need <= b.rate || b.goal > 0 || now.Before(b.probeNext) || now.Sub(b.reduced) < settleFor {
		return false
	}
	flows := b.out.last(5, now)
	if flows == 0 {
		b.rate, b.probeWait = need, min(2*b.probeWait, mostWait)
		b.probeNext = now.Add(b.probeWait)
		return true
	}
	b.goal = need
	b.share = min(need/flows-1, mostShare)
	b.probeAt = now
	return false
}

// probing is how much is to be sent again, of what is sent.
func (b *band) probing(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.goal == 0 || now.Sub(b.probeAt) > probeFor {
		return 0
	}
	return max(b.share, 0)
}

// believed is what may be sent. A receiver that has fallen silent gets almost nothing.
func (b *band) believed(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.waiting.IsZero() && now.Sub(b.waiting) > unheardFor {
		b.waiting = time.Time{}
		b.rate = leastRate
		b.endProbe(now)
	}
	return b.rate
}

// broken says that packets were just lost by the dozen: a picture is torn anyway, and nothing is to be waited for.
func (b *band) broken(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.torn && now.Sub(b.reduced) < settleFor
}

// mayRepeat keeps what is sent again to half of what is believed, so that no receiver can multiply what it asks for.
func (b *band) mayRepeat(size int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	const burst = 64 << 10
	b.tokens = min(burst, b.tokens+now.Sub(b.tokensAt).Seconds()*max(b.rate, firstRate/2)/16)
	b.tokensAt = now
	if b.tokens < float64(size) {
		return false
	}
	b.tokens -= float64(size)
	return true
}
