package sfu

import (
	"time"

	"github.com/pion/rtcp"
)

const (
	window       = 1024 // sequence numbers that are remembered
	mostMissing  = 256  // of them that are asked for
	mostAsking   = 10   // times
	longestAsk   = time.Second
	firstPatient = 20 * time.Millisecond // least time between asking for the same packet twice
)

// arrivals knows which packets of one stream came: it tells new ones from repeated ones, which are missing, and what a receiver report
// says of it (RFC 3550 §6.4.1, A.3, A.8).
type arrivals struct {
	clock   float64 // ticks a second of the stream's timestamps
	started bool
	first   uint64
	highest uint64 // sequence number without wraps
	seen    [window / 64]uint64
	missing []missing

	beginnings              int // what has another one is another stream
	received, lostBefore    uint64
	expectedPrior, gotPrior uint64 // at the last receiver report
	expectedSeen, gotSeen   uint64 // at the last check of the quality
	jitter, transit         float64
	reportNTP               uint64 // of the last sender report
	reportRTP               uint32
	reportAt                time.Time
}

type missing struct {
	index       uint64
	since, last time.Time
	asked       int
}

// take counts a packet and gives it its number without wraps. A repeated one, or one older than
// the window, is not fresh. What was asked for and came is not counted as received: reports say what the way loses (RFC 4588 §4).
func (a *arrivals) take(sequence uint16, repaired bool, now time.Time) (index uint64, fresh bool) {
	if !a.started {
		// Well above zero, so that what comes late before the first has a number too, and above all that was.
		a.start((a.highest>>16+2)<<16 | uint64(sequence))
		return a.highest, true
	}
	step := int16(sequence - uint16(a.highest)) //nolint:gosec // the low bits are what is meant
	index = a.highest + uint64(int64(step))     //nolint:gosec // wraps as it should
	switch {
	case step > 0:
		a.advance(index, now)
	case a.highest-index >= window, a.has(index):
		return index, false
	default:
		a.found(index)
	}
	a.set(index)
	if !repaired {
		a.received++
	}
	return index, true
}

func (a *arrivals) start(index uint64) {
	a.started, a.first, a.highest, a.received = true, index, index, 1
	a.expectedPrior, a.gotPrior, a.expectedSeen, a.gotSeen = 0, 0, 0, 0
	a.seen, a.missing = [window / 64]uint64{}, a.missing[:0]
	a.set(index)
}

// advance goes to a higher number. What lies between is missing; a leap beyond the window is a new beginning, not a loss.
func (a *arrivals) advance(index uint64, now time.Time) {
	if index-a.highest >= window {
		a.lostBefore += a.lost()
		a.start(index)
		a.received = 0 // it is counted by who called
		a.beginnings++
		return
	}
	for i := a.highest + 1; i <= index; i++ {
		a.clear(i)
		if i < index && len(a.missing) < mostMissing {
			a.missing = append(a.missing, missing{index: i, since: now})
		}
	}
	a.highest = index
}

func (a *arrivals) bit(index uint64) (word *uint64, mask uint64) {
	at := index % window
	return &a.seen[at/64], 1 << (at % 64)
}

func (a *arrivals) has(index uint64) bool { word, mask := a.bit(index); return *word&mask != 0 }
func (a *arrivals) set(index uint64)      { word, mask := a.bit(index); *word |= mask }
func (a *arrivals) clear(index uint64)    { word, mask := a.bit(index); *word &^= mask }

func (a *arrivals) found(index uint64) {
	for i := range a.missing {
		if a.missing[i].index == index {
			a.missing = append(a.missing[:i], a.missing[i+1:]...)
			return
		}
	}
}

// anew is another stream, of another SSRC. Its numbers are higher than all before.
func (a *arrivals) anew() {
	if a.started {
		a.started, a.beginnings, a.reportAt = false, a.beginnings+1, time.Time{}
	}
}

// ask gives what is to be asked for now, and gives up what is too old. The result is good until the next call.
func (a *arrivals) ask(now time.Time, patience time.Duration, into []uint16) []uint16 {
	if len(a.missing) == 0 {
		return into
	}
	kept := a.missing[:0]
	for _, m := range a.missing {
		if m.asked >= mostAsking || now.Sub(m.since) > longestAsk {
			continue
		}
		if m.asked == 0 || now.Sub(m.last) >= patience {
			m.last = now
			m.asked++
			into = append(into, uint16(m.index)) //nolint:gosec // the low bits are what is meant
		}
		kept = append(kept, m)
	}
	a.missing = kept
	return into
}

// time takes the interarrival jitter (RFC 3550 A.8).
func (a *arrivals) time(timestamp uint32, now time.Time, epoch time.Time) {
	transit := now.Sub(epoch).Seconds()*a.clock - float64(timestamp)
	if a.received > 1 {
		d := transit - a.transit
		if d < 0 {
			d = -d
		}
		if d < 10*a.clock { // else the timestamps wrapped or began anew
			a.jitter += (d - a.jitter) / 16
		}
	}
	a.transit = transit
}

func (a *arrivals) expected() uint64 { return a.highest - a.first + 1 }

func (a *arrivals) lost() uint64 {
	if expected := a.expected(); expected > a.received {
		return expected - a.received
	}
	return 0
}

// report says what came since the last report.
func (a *arrivals) report(ssrc uint32, now time.Time) rtcp.ReceptionReport {
	expected := a.expected()
	interval, got := expected-a.expectedPrior, a.received-a.gotPrior
	a.expectedPrior, a.gotPrior = expected, a.received
	r := rtcp.ReceptionReport{
		SSRC: ssrc, TotalLost: uint32(min(a.lostBefore+a.lost(), 1<<24-1)),
		LastSequenceNumber: uint32(a.highest), Jitter: uint32(a.jitter), //nolint:gosec // the low bits are what is meant
	}
	if interval > got {
		r.FractionLost = uint8(min((interval-got)*256/interval, 255))
	}
	if !a.reportAt.IsZero() {
		r.LastSenderReport = uint32(a.reportNTP >> 16) //nolint:gosec // the middle bits
		r.Delay = uint32(now.Sub(a.reportAt).Seconds() * (1 << 16))
	}
	return r
}

// quality says how many packets were to come and how many came since it was last asked, and how unevenly.
func (a *arrivals) quality() (expected, got uint64, jitter time.Duration) {
	if !a.started {
		return 0, 0, 0
	}
	expected, got = a.expected()-a.expectedSeen, a.received-a.gotSeen
	a.expectedSeen, a.gotSeen = a.expected(), a.received
	return expected, got, time.Duration(a.jitter / a.clock * float64(time.Second))
}
