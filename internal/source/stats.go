package source

import (
	"sort"
	"sync"
	"sync/atomic"

	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/stats"
)

// Stats are the source's counters. Any goroutine may read them while they change; what is read together may be apart by one
// response.
type Stats struct {
	Fetches           atomic.Uint64    // Fetch responses taken.
	FetchBytes        atomic.Uint64    // Their size on the wire.
	BatchSize         *stats.Histogram // Records in a fetch response that had any.
	Reconnects        atomic.Uint64    // Connections to a broker made after one was lost or could not be made.
	Stalls            atomic.Uint64    // Times the watchdog dropped a connection that gave no records though there were some.
	MetadataRefreshes atomic.Uint64
	MetadataErrors    atomic.Uint64
	LeftOut           atomic.Int64  // Topics that a pattern finds but that are not read, as there are TopicsMax already.
	Commits           atomic.Uint64 // Requests by which positions were committed.
	CommitErrors      atomic.Uint64 // Tries that failed.
	Panics            atomic.Uint64 // Records skipped because reading them panicked.
	RecentBytes       atomic.Int64  // Bytes of the batches read last that are kept, see Options.RecentBytesMax.
	PublishErrors     atomic.Uint64 // Batches the bus did not take; only when stopping.

	Routed      [route.ByCount]Routed               // By what chose their place. A record for several channels counts once for each.
	FetchErrors [kafka.ErrorKindCount]atomic.Uint64 // By ErrorKind; looks at the metadata included.

	mu         sync.Mutex // Guards what follows; each list is replaced as a whole.
	topics     []*TopicStats
	partitions []*partition
}

// Routed counts records by where they went.
type Routed struct {
	Broadcast atomic.Uint64 // Put on the bus for every shard.
	Targeted  atomic.Uint64 // Put on the bus for some shards.
	Unwanted  atomic.Uint64 // Nobody here wants them; not looked at further.
}

// routed is what one partition's part of a response adds to Routed.
type routed struct{ broadcast, targeted, unwanted uint64 }

// TopicStats are the counters of one topic.
type TopicStats struct {
	Name        string
	Records     atomic.Uint64 // Committed data records read.
	Bytes       atomic.Uint64 // Bytes of their values.
	InvalidJSON atomic.Uint64 // Wanted values that are not one JSON value: not delivered to clients that speak JSON.
	Markers     atomic.Uint64 // Transaction markers dropped.
	Aborted     atomic.Uint64 // Records of aborted transactions dropped.
	Compacted   atomic.Uint64 // Offsets missing because compaction removed them.
	Gaps        atomic.Uint64 // Offsets missing between batches of a topic whose cleanup policy is not known: compacted, or lost.
	Breaks      atomic.Uint64 // Times subscribers of its channels were told to come back.
	Strays      atomic.Uint64 // Records that were checked and lie in another partition than the partitioner says.
	Truncations atomic.Uint64 // Times a new leader did not have what had been read (unclean leader election).
	Recreations atomic.Uint64 // Times the topic came back with another id.

	Lost     [lossCount]atomic.Uint64           // By LossReason: offsets never delivered.
	Dropped  atomic.Uint64                      // Records that a rule drops.
	Unplaced [route.UnplacedCount]atomic.Uint64 // Records that their rule or header cannot place.
}

// PartitionStats is where one partition stands.
type PartitionStats struct {
	Topic         string
	Partition     int32
	Position      int64 // Next Kafka offset to be read; -1 before the first one is known.
	HighWatermark int64 // End of the log at the last fetch; -1 before it.
	Lag           int64 // Offsets between the two; 0 while one is unknown.
	Stopped       bool  // A rule with on_error: stop ended the reading.
}

// Topics returns the counters of every topic that is read: those configured in their order, then those that patterns found.
func (s *Stats) Topics() []*TopicStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics
}

// setTopics replaces the list of topics.
func (s *Stats) setTopics(topics []*topic) {
	list := make([]*TopicStats, len(topics))
	for i, t := range topics {
		list[i] = t.stats
	}
	s.mu.Lock()
	s.topics = list
	s.mu.Unlock()
}

// Partitions returns where every known partition stands, by topic and partition.
func (s *Stats) Partitions() []PartitionStats {
	s.mu.Lock()
	parts := s.partitions
	s.mu.Unlock()
	out := make([]PartitionStats, 0, len(parts))
	for _, p := range parts {
		out = append(out, p.stats())
	}
	return out
}

// setPartitions replaces the list of partitions.
func (s *Stats) setPartitions(parts []*partition) {
	sort.Slice(parts, func(i, j int) bool {
		if parts[i].topic.name != parts[j].topic.name {
			return parts[i].topic.name < parts[j].topic.name
		}
		return parts[i].id < parts[j].id
	})
	s.mu.Lock()
	s.partitions = parts
	s.mu.Unlock()
}

func newStats() *Stats { return &Stats{BatchSize: stats.NewHistogram(stats.BatchBounds())} }
