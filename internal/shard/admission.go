package shard

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"wsd/internal/wire"
)

// Answer is how a shard refuses a new client while wsd is overloaded.
type Answer uint8

// The answers.
const (
	AnswerReset Answer = iota // The connection is reset as soon as it is accepted.
	AnswerHTTP                // The upgrade request gets status 503 with Retry-After.
)

// Admission tells the shards of a process which part of the new clients to refuse. Shards look at it once for each new
// client and never for one that is connected. Any goroutine may use it.
type Admission struct {
	answer     Answer
	dryRun     bool
	retryAfter int           // In seconds, at least 1.
	level      atomic.Uint32 // Percentage of new clients to refuse.
}

// NewAdmission returns an Admission that refuses nobody yet. In a dry run it never does, and shards only count whom
// they would refuse. AnswerHTTP asks clients to come back after retryAfter, and up to twice that at random, so that a
// crowd does not come back as one.
func NewAdmission(answer Answer, dryRun bool, retryAfter time.Duration) *Admission {
	seconds := max(1, int((retryAfter+time.Second-1)/time.Second))
	return &Admission{answer: answer, dryRun: dryRun, retryAfter: seconds}
}

// Refuse sets the percentage of new clients to refuse, 0 to 100.
func (a *Admission) Refuse(percent int) { a.level.Store(uint32(max(0, min(percent, 100)))) }

// Level returns the percentage of new clients that shards refuse.
func (a *Admission) Level() int { return int(a.level.Load()) }

// admits decides whether a new client may come in, at the place where the given answer is possible, and counts that.
func (s *Shard) admits(place Answer) bool {
	a := s.opts.Admission
	if a == nil || a.answer != place || s.accepting.stopped {
		return true
	}
	s.stats.AdmissionChecks.Add(1)
	level := a.level.Load()
	//nolint:gosec // A lot needs no secret.
	if level == 0 || rand.Uint32N(100) >= level {
		return true
	}
	if a.dryRun {
		s.stats.AdmissionDryRun.Add(1)
		return true
	}
	s.stats.AdmissionRefused.Add(1)
	return false
}

// overloaded returns the response to an upgrade request that is refused.
func (a *Admission) overloaded() *wire.Reject {
	return rejectForNow(causeAdmission, 503,
		"The server is overloaded and accepts no more clients for now; try again later.", a.retryAfter)
}
