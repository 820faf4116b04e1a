package keys

import (
	"context"
	"time"
)

// PollEvery sets how often a waiting sync looks by itself.
func (s *Service) PollEvery(d time.Duration) { s.pollEvery = d }

// Waiting is how many syncs wait.
func (s *Service) Waiting() int {
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	return s.hints.count
}

// SweepOnce is one round of Sweep.
func (s *Service) SweepOnce(ctx context.Context) error { return s.sweepOnce(ctx) }

// Bounds that tests reach.
const (
	MaxQueued  = maxQueued
	MaxOneTime = maxOneTime
	PageEvents = pageEvents
	QueuedFor  = queuedFor
)

// PairBurst and ClaimBurst are what a claimer has at once.
var (
	PairBurst  = rulePair.Burst
	ClaimBurst = ruleClaims.Burst
)
