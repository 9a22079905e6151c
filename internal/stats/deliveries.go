package stats

import (
	"sync/atomic"
	"time"
)

// Deliveries counts how late the records of one topic, or of several together, were delivered. Each shard counts for
// itself, so that none waits for another. A shard that delivers nothing of the topic takes 8 bytes, another one 2.5 KB.
type Deliveries struct {
	Topic  string // For logs. Empty stands for several topics.
	shards []atomic.Pointer[ShardDeliveries]
}

// NewDeliveries returns the counts of a topic for so many shards.
func NewDeliveries(topic string, shards int) *Deliveries {
	return &Deliveries{Topic: topic, shards: make([]atomic.Pointer[ShardDeliveries], shards)}
}

// ShardDeliveries is what one shard counts. The shard's goroutine writes, any may read.
type ShardDeliveries struct {
	Latency Latencies // From the record's timestamp to the write.
	InWsd   Latencies // From the fetch that brought the record to the write.
	// Deliveries of records whose timestamp is ahead of the clock of this machine. They count as no latency.
	Ahead atomic.Uint64
}

// Shard returns the counts of a shard. The shard's goroutine calls it.
func (d *Deliveries) Shard(shard int) *ShardDeliveries {
	p := &d.shards[shard]
	s := p.Load()
	if s == nil {
		s = &ShardDeliveries{}
		p.Store(s)
	}
	return s
}

// Observe counts n deliveries with a latency from the record's timestamp, which may be negative, and from the fetch.
// Known says whether the record has a timestamp.
func (s *ShardDeliveries) Observe(latency, inWsd time.Duration, n uint64, known bool) {
	if known {
		if latency < 0 {
			s.Ahead.Add(n)
		}
		s.Latency.Observe(latency, n)
	}
	s.InWsd.Observe(inWsd, n)
}

// DeliveryCounts is the sum over shards, and over topics.
type DeliveryCounts struct {
	Latency, InWsd LatencyCounts
	Ahead          uint64
}

// Add adds what all shards have counted. Any goroutine may call it.
func (c *DeliveryCounts) Add(d *Deliveries) {
	c.Latency.Bounds, c.InWsd.Bounds = latencyBounds, latencyBounds
	for i := range d.shards {
		if s := d.shards[i].Load(); s != nil {
			c.Latency.Add(&s.Latency)
			c.InWsd.Add(&s.InWsd)
			c.Ahead += s.Ahead.Load()
		}
	}
}
