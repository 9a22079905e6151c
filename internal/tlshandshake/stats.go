package tlshandshake

import (
	"sync/atomic"

	"wsd/internal/stats"
)

// Result is how a handshake ended.
type Result uint8

// The results, in the order of their metric labels.
const (
	ResultFull    Result = iota // It succeeded.
	ResultResumed               // It succeeded by a session ticket.
	ResultFailed                // Client and server did not agree, or the client broke the protocol.
	ResultGone                  // The client went away, or took longer than client.handshake_timeout.
	ResultEvicted               // It gave way to a new one, as too many were under way.
	ResultRefused               // It did not begin, as too many were to compute, and none of them was late.
	resultCount
)

func (r Result) String() string {
	return [...]string{"full", "resumed", "failed", "gone", "evicted", "refused"}[r]
}

// Results lists every result.
func Results() []Result {
	list := make([]Result, resultCount)
	for r := range list {
		list[r] = Result(r)
	}
	return list
}

// Stats counts what a pool does. Any goroutine may read it.
type Stats struct {
	Results [resultCount]atomic.Uint64 // Handshakes that ended, by Result.
	TLS12   atomic.Uint64              // Handshakes that succeeded with TLS 1.2,
	TLS13   atomic.Uint64              // and with TLS 1.3.
	Pending atomic.Int64               // Handshakes under way.

	// Seconds from the client's first record to the end of the handshake, however it ended.
	Duration *stats.Histogram
}

// NewStats returns counters that are all 0.
func NewStats() *Stats { return &Stats{Duration: stats.NewHistogram(stats.LatencyBounds())} }
