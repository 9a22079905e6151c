package produce

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/stats"
)

// Stats are the counters of a Producer. Any goroutine may read them. The Producer decides nothing by them.
type Stats struct {
	Acked    atomic.Uint64            // Records that Kafka has acknowledged in time.
	Late     atomic.Uint64            // Records that it has acknowledged after they were answered with an error.
	Requests atomic.Uint64            // Produce requests that were written to brokers.
	Failed   [KindCount]atomic.Uint64 // Records that were answered with an error, or not taken, by Kind.
	Latency  *stats.Histogram         // Seconds from Produce to the acknowledgement.
	Records  atomic.Int64             // Under way now.
	Bytes    atomic.Int64             // Of these records.
}

// NewStats returns counters that are all 0.
func NewStats() *Stats { return &Stats{Latency: stats.NewHistogram(stats.LatencyBounds())} }

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (s *Stats) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil && kmsg.Key(key) == kmsg.Produce {
		s.Requests.Add(1)
	}
}
