package sfu

import (
	"sync"
	"time"
)

const ntpEpoch = 2208988800 // seconds from 1900 to 1970

// ntp is a moment as NTP writes it, in 32.32 bits (RFC 3550 §4).
func ntp(t time.Time) uint64 {
	seconds := uint64(t.Unix() + ntpEpoch)                   //nolint:gosec // after 1900
	fraction := uint64(t.Nanosecond()) << 32 / 1_000_000_000 //nolint:gosec // not negative
	return seconds<<32 | fraction
}

// fromNTP is good as a difference only: a sender's clock may say anything.
func fromNTP(n uint64) time.Duration {
	return time.Duration(n>>32&0x7fffffff)*time.Second + time.Duration((n&0xffffffff)*1_000_000_000>>32)
}

// wall is how far the SFU's clock is ahead of a participant's, with the network's least delay in it: all streams of theirs are moved by
// the same, so that they stay together.
type wall struct {
	mu     sync.Mutex
	known  bool
	offset time.Duration
}

// meet takes a sender report that has just come.
func (w *wall) meet(senderNTP uint64, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	offset := fromNTP(ntp(now)) - fromNTP(senderNTP)
	if !w.known || offset < w.offset || offset-w.offset > time.Second { // their clock was set
		w.known, w.offset = true, offset
		return
	}
	w.offset += (offset - w.offset) / 128 // clocks drift
}

func (w *wall) ahead() (offset time.Duration, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset, w.known
}
