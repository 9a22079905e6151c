package source

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/stats"
)

// Stats are the source's counters. Any goroutine may read them while they change, so two counters may differ by one
// response. The source decides nothing by them.
type Stats struct {
	Fetches           atomic.Uint64    // Fetch responses.
	FetchBytes        atomic.Uint64    // The size of all fetch responses on the wire.
	BatchSize         *stats.Histogram // The number of records in a fetch response that had any.
	Reconnects        atomic.Uint64    // Attempts to connect to a broker after a connection was lost or failed.
	Reauthentications atomic.Uint64    // Logins on open connections.
	Stalls            atomic.Uint64    // Connections dropped because the broker had records but sent none.
	MetadataRefreshes atomic.Uint64
	MetadataErrors    atomic.Uint64
	// Topics that a pattern matches but that are not read, because there are TopicsMax already.
	LeftOut       atomic.Int64
	Commits       atomic.Uint64 // Requests that committed positions.
	CommitErrors  atomic.Uint64 // Failed attempts to commit.
	Panics        atomic.Uint64 // Records skipped because reading them panicked.
	RecentBytes   atomic.Int64  // The size of the batches kept for Recent, see Options.RecentBytesMax.
	Throttled     atomic.Uint64 // Nanoseconds of all pauses that brokers have asked for by quotas.
	PublishErrors atomic.Uint64 // Batches that the bus did not take. That happens only when the source stops.

	// By what decided where the record goes. A record counts once for each of its channels.
	Routed      [route.ByCount]Routed
	FetchErrors [kafka.ErrorKindCount]atomic.Uint64 // By ErrorKind. Metadata requests are included.

	shards     int               // How many shards deliver.
	unlistedBy *stats.Deliveries // Counts for all topics that are not listed. Nil while there are none.
	listedMax  int               // See TopicStats.Listed.
	mu         sync.Mutex        // Guards the lists, each of which is replaced as a whole.
	topics     []*TopicStats
	partitions []*partition
	listed     int         // How many of topics are listed.
	unlisted   bool        // Some topic was not listed, now or in the past.
	former     *TopicStats // What topics that were not listed have counted, and that are no longer read.
}

// Routed counts records by where they went.
type Routed struct {
	Broadcast atomic.Uint64 // Records put on the bus for every shard.
	Targeted  atomic.Uint64 // Records put on the bus for some shards.
	Unwanted  atomic.Uint64 // Records that no client wants.
}

// routed is what one partition's part of a response adds to Routed.
type routed struct{ broadcast, targeted, unwanted uint64 }

// TopicStats are the counters of one topic.
type TopicStats struct {
	Name string
	// Whoever shows topics shows this one by itself, and others as a sum. A topic that is not listed when it is first
	// read never is, so that the sums of counters do not shrink. Fixed when others can see the topic.
	Listed      bool
	Records     atomic.Uint64 // Committed data records read.
	Bytes       atomic.Uint64 // The size of the values of these records.
	InvalidJSON atomic.Uint64 // Wanted values that are not JSON. Clients of the JSON protocol do not get them.
	Markers     atomic.Uint64 // Transaction markers skipped.
	Aborted     atomic.Uint64 // Records of aborted transactions skipped.
	Compacted   atomic.Uint64 // Offsets missing because compaction removed them.
	// Offsets missing between batches of a topic whose cleanup policy is not known: compacted or lost.
	Gaps   atomic.Uint64
	Breaks atomic.Uint64 // Breaks published for the topic's channels.
	// Losses that have no break of their own, because the one after them came soon.
	BreaksMerged atomic.Uint64
	Strays       atomic.Uint64 // Checked records that are in another partition than the partitioner chooses.
	Truncations  atomic.Uint64 // Times a new leader did not have what had been read (unclean leader election).
	Recreations  atomic.Uint64 // Times the topic came back with another id.

	// How late the topic's records were delivered. Topics that are not listed share one. Fixed like Listed.
	Deliveries *stats.Deliveries
	Times      atomic.Uint32 // A value of type Times: what the timestamps of the records read last say.

	Lost     [lossCount]atomic.Uint64           // By LossReason: offsets never delivered.
	Dropped  atomic.Uint64                      // Records that a rule drops.
	Unplaced [route.UnplacedCount]atomic.Uint64 // By route.Unplaced: records that their rule or header cannot place.
}

// PartitionStats is where one partition stands.
type PartitionStats struct {
	Topic         string
	Partition     int32
	Position      int64 // The next Kafka offset to read, or -1 if it is not known yet.
	HighWatermark int64 // The end of the log at the last fetch, or -1.
	LastStable    int64 // The end of what is committed at the last fetch, or -1. Open transactions keep it back.
	Lag           int64 // The offsets between the two, or -1 while one of them is not known.
	Stopped       bool  // A rule with on_error: stop has stopped the partition.
	Listed        bool  // See TopicStats.Listed.
	Near          bool  // The partition is read from another replica than the leader, see Options.Rack.
	// How long the source has not been at the end of what it could read, or 0.
	Behind time.Duration
	// How old the newest record is that was read, or 0 if the source is at the end. -1 if it is not known.
	LagTime time.Duration
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

// Behind returns how long the partition that has been behind for longest has been so.
func (s *Stats) Behind() time.Duration {
	s.mu.Lock()
	parts := s.partitions
	s.mu.Unlock()
	_, longest := behindLongest(parts, time.Now())
	return longest
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

func newStats(listedMax int) *Stats {
	return &Stats{BatchSize: stats.NewHistogram(stats.BatchBounds()), listedMax: listedMax}
}
