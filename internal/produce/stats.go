package produce

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/stats"
)

// Stats are the counters of a Producer. Any goroutine may read them. The Producer decides nothing by them.
type Stats struct {
	Acked   atomic.Uint64            // Records that Kafka has acknowledged in time.
	Late    atomic.Uint64            // Records that it has acknowledged after they were answered with an error.
	Batches atomic.Uint64            // Record batches that Kafka has acknowledged.
	Failed  [KindCount]atomic.Uint64 // Records that were answered with an error, or not taken, by Kind.
	Latency *stats.Histogram         // Seconds from Produce to the acknowledgement.
	Records atomic.Int64             // Under way now.
	Bytes   atomic.Int64             // Of these records.
}

// NewStats returns counters that are all 0.
func NewStats() *Stats { return &Stats{Latency: stats.NewHistogram(stats.LatencyBounds())} }

// OnProduceBatchWritten implements kgo.HookProduceBatchWritten.
func (s *Stats) OnProduceBatchWritten(kgo.BrokerMetadata, string, int32, kgo.ProduceBatchMetrics) {
	s.Batches.Add(1)
}
