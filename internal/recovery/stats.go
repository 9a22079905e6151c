package recovery

import (
	"sync/atomic"

	"wsd/internal/bus"
	"wsd/internal/stats"
)

// Stats counts what a Recovery does. Any goroutine may read it. The Recovery decides nothing by it.
type Stats struct {
	Queries   []atomic.Uint64  // By bus.Result: queries answered.
	Portions  atomic.Uint64    // Queries for what follows an offset that were answered with records.
	Passes    atomic.Uint64    // Passes over the queries of a partition.
	Reads     atomic.Uint64    // Blocks read from Kafka again.
	Fetches   atomic.Uint64    // Requests that the reads took.
	ReadBytes atomic.Uint64    // Size of the batches that were read.
	Waiting   atomic.Int64     // Queries that are not answered yet.
	PastBytes atomic.Int64     // Size of the blocks that are kept.
	Collected func() int64     // Returns the size of the records in all answers being prepared.
	Duration  *stats.Histogram // Seconds from a query to its answer.
}

// NewStats returns counters at zero.
func NewStats() *Stats {
	return &Stats{Queries: make([]atomic.Uint64, len(bus.Results())),
		Collected: func() int64 { return 0 }, Duration: stats.NewHistogram(stats.LatencyBounds())}
}
