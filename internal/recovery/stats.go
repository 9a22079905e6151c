package recovery

import (
	"sync/atomic"

	"wsd/internal/bus"
	"wsd/internal/stats"
)

// Stats counts what a Recovery does. Any goroutine may read it.
type Stats struct {
	Queries   []atomic.Uint64  // Answered, by bus.Result.
	Reads     atomic.Uint64    // Ranges read from Kafka again.
	Fetches   atomic.Uint64    // Requests that this took.
	ReadBytes atomic.Uint64    // Bytes of the batches that were read.
	Waiting   atomic.Int64     // Queries not answered yet.
	PastBytes atomic.Int64     // Bytes kept of what was read again.
	Duration  *stats.Histogram // Seconds from the query to the answer.
}

// NewStats returns counters at zero.
func NewStats() *Stats {
	return &Stats{Queries: make([]atomic.Uint64, len(bus.Results())), Duration: stats.NewHistogram(stats.LatencyBounds())}
}
