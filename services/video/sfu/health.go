package sfu

import (
	"sync"
	"time"

	"secureconnect/services/internal/wire"
)

const (
	healthEvery = 2 * time.Second
	goodLoss    = 0.03
	fairLoss    = 0.1
	goodTrip    = 300 * time.Millisecond
	fairTrip    = 800 * time.Millisecond
	goodJitter  = 40 * time.Millisecond
	fairJitter  = 120 * time.Millisecond
	betterAfter = 2 // checks, one after the other: a connection that gets worse is told at once
	firstTrip   = 100 * time.Millisecond
)

// health is what a participant's receiver reports say of the connection down.
type health struct {
	mu     sync.Mutex
	trip   time.Duration
	lost   float64 // the highest share since it was last asked
	jitter time.Duration
}

// heard takes a report block, which tells the round trip if it answers a sender report of ours (RFC 3550 §6.4.1).
func (h *health) heard(r reception, clock uint32, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = max(h.lost, r.lost)
	if clock == opusClock { // that of video is its frames'
		h.jitter = max(h.jitter, time.Duration(r.jitter)*time.Second/opusClock)
	}
	if r.lastReport == 0 {
		return
	}
	took := time.Duration(uint32(ntp(now)>>16)-r.lastReport) * time.Second >> 16 //nolint:gosec // the middle bits are what is meant
	if trip := took - r.delay; trip >= 0 && trip < time.Minute {
		if h.trip == 0 {
			h.trip = trip
		}
		h.trip += (trip - h.trip) / 8
	}
}

// roundTrip is a guess where nothing is known.
func (h *health) roundTrip() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trip == 0 {
		return firstTrip
	}
	return h.trip
}

// take gives what was reported since it was last asked.
func (h *health) take() (lost float64, trip, jitter time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost, jitter = h.lost, h.jitter
	h.lost, h.jitter = 0, 0
	return lost, h.trip, jitter
}

// qualityOf judges a connection.
func qualityOf(state int32, lost float64, trip, jitter time.Duration) string {
	switch {
	case state == stateSilent || state == stateClosed:
		return wire.QualityLost
	case lost > fairLoss || trip > fairTrip || jitter > fairJitter:
		return wire.QualityPoor
	case lost > goodLoss || trip > goodTrip || jitter > goodJitter:
		return wire.QualityFair
	}
	return wire.QualityGood
}

// verdict is what was told of a connection, and turns to better only when that has lasted.
type verdict struct {
	now    string
	better int
}

var worse = map[string]int{wire.QualityGood: 0, wire.QualityFair: 1, wire.QualityPoor: 2, wire.QualityLost: 3}

func (v *verdict) turn(quality string) (changed bool) {
	if v.now == "" || worse[quality] > worse[v.now] {
		changed, v.now, v.better = v.now != quality, quality, 0
		return changed
	}
	if quality == v.now {
		v.better = 0
		return false
	}
	if v.better++; v.better < betterAfter {
		return false
	}
	v.now, v.better = quality, 0
	return true
}
