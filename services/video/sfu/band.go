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

	periodLength  = 75 * time.Millisecond // most receivers tell every 100 ms
	periodPackets = 5
	baseLength    = 10 * time.Second

	standingQueue = 60 * time.Millisecond // of delay that goes away neither within a period nor with the next
	emptyQueue    = 30 * time.Millisecond
	shrinking     = 5 * time.Millisecond // a period
	heavyLoss     = 0.3                  // in two periods
	steadyLoss    = 0.12                 // in twenty; below it, what is lost is sent again and does not mean that the way is narrow

	repeatShare = 0.15
	narrowShare = 0.05 // while a queue stands
	repeatBurst = 0.5  // seconds

	backTo      = 0.85
	settleFor   = 500 * time.Millisecond // after a step down, before another
	unheardFor  = 2 * time.Second
	probeFor    = 500 * time.Millisecond
	probeLost   = 2 * time.Second
	probeStep   = 1.5 // times what is believed: a way that bears less is not flooded by it
	afterProbe  = 200 * time.Millisecond
	leastWait   = time.Second
	mostWait    = 30 * time.Second
	nothingWait = 8 * time.Second // where not even the smallest layer is sent
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
	standing int           // periods in which a queue stood, one after the other
	last     time.Duration // the queue of the last period
	base     [2]time.Duration
	baseAt   time.Time
	hasBase  bool
	reduced  time.Time
	torn     bool      // much was lost, when it was reduced
	waiting  time.Time // since when nothing has been heard of what was sent

	delivered, media meter   // what came, and what was sent for the first time
	tokens           float64 // bits that may be repeated
	tokensAt         time.Time

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

// period is what was heard of packets in a tenth of a second: how many came, the least time one took, and when, on the receiver's clock.
type period struct {
	began       time.Time
	got, lost   int
	least       time.Duration
	first, last time.Duration
	bits        float64 // of those after the first
}

// speed is what came in a second, 0 where too little came to tell.
func (p period) speed() float64 {
	if lasted := p.last - p.first; p.got >= periodPackets && lasted > periodLength/3 {
		return p.bits / lasted.Seconds()
	}
	return 0
}

func newBand(now time.Time) *band {
	return &band{began: now, rate: firstRate, probeWait: leastWait, tokensAt: now, baseAt: now}
}

// sent notes a packet and numbers it. Again says that it repeats another one.
func (b *band) sent(size int, again bool, now time.Time) uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sequence := b.next
	b.next++
	b.record[sequence%sentSize] = sentPacket{at: now.Sub(b.began), size: uint16(size), sequence: sequence, open: true} //nolint:gosec // a packet's
	if !again {
		b.media.add(size, now)
	}
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
	if b.period.got == 0 {
		b.period.first = at
	} else {
		b.period.bits += float64(8 * p.size)
	}
	b.period.last = max(b.period.last, at)
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
		return b.stepDown(p.speed(), now)
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

// congested says whether a queue stands, or much is lost. A queue that gets shorter by itself is of a receiver that was busy, or has had
// its effect already.
func (b *band) congested(queue time.Duration) bool {
	if queue > standingQueue && queue > b.last-shrinking {
		b.standing++
	} else {
		b.standing = 0
	}
	b.last = queue
	if b.standing > 1 || b.goal > 0 && (b.standing > 0 || b.lostOf(1, 10) > steadyLoss) {
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
func (b *band) stepDown(speed float64, now time.Time) (less bool) {
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
	if speed == 0 {
		speed = b.delivered.last(3, now)
	}
	b.rate = max(leastRate, min(b.rate, speed)*backTo)
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
	came := delivered > 0.8*b.goal // the rest is the measure's coarseness
	if came {
		b.rate, b.probeWait = max(b.rate, min(b.goal, mostRate)), leastWait
	}
	b.endProbe(now)
	if came {
		b.probeNext = now.Add(afterProbe)
	}
}

// want says what would be sent if it could be. More than is believed is tried with a probe, or, where nothing flows that could be sent
// twice, by believing it.
func (b *band) want(need float64, now time.Time) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.goal > 0 && now.Sub(b.probeAt) > probeLost {
		b.endProbe(now)
	}
	if need <= b.rate || b.goal > 0 || now.Before(b.probeNext) || now.Sub(b.reduced) < settleFor || b.last > emptyQueue {
		return false
	}
	flows := b.media.last(5, now)
	if flows == 0 {
		b.rate, b.probeWait = need, min(2*b.probeWait, nothingWait)
		b.probeNext = now.Add(b.probeWait)
		return true
	}
	b.goal = min(need, probeStep*b.rate)
	b.share = b.goal/flows - 1
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

// mayRepeat lets be sent again what the way bears beside what is sent for the first time, and a little in any case: neither shall a
// receiver multiply what it asks for, nor what was lost on a narrow way make it narrower.
func (b *band) mayRepeat(size int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	share := repeatShare
	if b.last > standingQueue {
		share = narrowShare
	}
	spare := max(b.rate-b.media.last(3, now), b.rate*share)
	b.tokens = min(repeatBurst*spare, b.tokens+now.Sub(b.tokensAt).Seconds()*spare)
	b.tokensAt = now
	if b.tokens < float64(8*size) {
		return false
	}
	b.tokens -= float64(8 * size)
	return true
}
