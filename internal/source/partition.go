package source

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/stats"
)

// topic is a topic that the source reads, because its name is configured or because a pattern found it. The watcher
// owns its fields, except where a comment says otherwise.
type topic struct {
	name  string
	stats *TopicStats
	route *route.Topic // Fixed after New.
	// Whether the records' headers say who published them. Fixed after New.
	published bool

	denied bool      // See isDenied.
	found  bool      // A pattern found the topic. It is forgotten some time after it is gone.
	goneAt time.Time // When the topic was first missing. Zero if it is not missing.
	state  TopicState
	err    string
	// The topic has existed at a refresh. Partitions that appear later are new and are read from their beginning.
	seen    bool
	missed  bool       // The topic was missing at a refresh.
	id      [16]byte   // Zero before the topic was seen, and if the brokers are older than topic ids (Kafka 2.8).
	retired [][16]byte // The ids of former lives, newest last. At most retiredMax.
	parts   []*partition
	former  []*partition // The partitions of a life that has just ended, see endFormer.
	trouble trouble

	strays       strays
	cleanup      atomic.Uint32 // A value of type cleanup. The watcher writes it; any goroutine reads it.
	cleanupAt    time.Time     // When the cleanup policy was last asked for.
	cleanupOf    [16]byte      // The topic's id when the policy was last asked for.
	cleanupNoted bool          // The log says that the policy cannot be read.

	// mu: what has been logged once.
	invalidNoted  []error // The reasons, see router.invalid.
	tooLargeNoted bool
	unplacedNoted [route.UnplacedCount]bool
	fallbackNoted [route.UnplacedCount]bool // Like unplacedNoted, for records that on_error delivers.
	strayNoted    bool
}

// retiredMax bounds the former ids that are remembered. The late response of a broker that lags behind has such an id,
// and must not look like one more recreation.
const retiredMax = 16

// partition is one partition in one life of a topic. A topic that comes back with another id gets new partitions, so
// that nobody can read an offset from one life and its epoch from another.
type partition struct {
	topic   *topic
	id      int32
	topicID [16]byte
	channel []byte // The channel that all records go to. Nil if it depends on the record. Fixed.

	stream *Stream // The partition's stream in the current topology. The watcher owns it.

	// Any goroutine reads these; whoever holds Source.mu writes them.
	routed   atomic.Int64 // The next offset to route. All before it have been routed. -1 if it is not known yet.
	high     atomic.Int64 // The high watermark at the last fetch, or -1.
	stable   atomic.Int64 // The last stable offset at the last fetch, or -1. An open transaction keeps it back.
	stableAt stats.Moment // When stable last moved, or was the high watermark.
	caughtUp atomic.Bool  // The last fetch reached the end of what is committed.
	readUpTo atomic.Int64 // See lag.go.
	// Since when the source has not put everything on the bus that responses have. None if it has. Any goroutine may
	// write it.
	behindSince stats.Moment
	waiting     stats.Moment // When the response came whose records are being put on the bus. None if there is none.
	lateAt      stats.Moment // When the bus had everything of a response, if that took longer than keepsUp.
	leaderSeen  atomic.Int32 // The id of the broker that leads the partition, or -1.
	readSeen    atomic.Int32 // The id of the broker that it is read from, or -1.
	ended       atomic.Bool  // The topic was deleted, or created again. The watcher writes it.

	// Like routed, without what is still in the batch being built. Kept for the committer only.
	published      atomic.Int64
	publishedEpoch atomic.Int32 // The leader epoch of what was published last.

	// The leader epoch whose log is known to hold what was routed, or one of the values below. Only that log is read
	// again.
	vouched atomic.Int32

	lastError atomic.Pointer[string]
	window    window // It has a lock of its own. Whoever adds to it also holds Source.mu.
	// What the log's last truncation adds to the stream's epoch. Nil if there was none.
	epochSuffix atomic.Pointer[string]
	stopped     atomic.Pointer[string] // Why a rule has stopped the partition. Nil if it has not.

	// mu
	held        bool     // The last stable offset was below the high watermark at the last fetch.
	touched     bool     // The partition is in router.touched.
	owner       *fetcher // The only fetcher that may fetch and route the partition. Nil if no leader is known.
	leaderEpoch int32
	lastEpoch   int32     // The leader epoch of the batch that was read last, or -1.
	lowerSince  time.Time // Since when metadata names a lower leader epoch. Zero means it does not.
	otherLog    bool      // For resolveRange: the log is not the one that was read.

	replica      int32     // The id of the replica that it is read from, or -1 for the leader.
	replicaUntil time.Time // When the leader is asked again which replica to read.
	leaderUntil  time.Time // Until then the leader is not asked that.

	from Start // How to find the first offset.
	// Clients may have subscribed before the partition was known. They are notified when it has a position.
	again       bool // The topic was created again. Its subscribers are notified by endFormer.
	late        bool
	resolve     resolveKind
	heldRefresh uint64    // Nothing is fetched before a refresh that began after this one. See Source.refreshes.
	heldUntil   time.Time // Nothing is fetched before.
	fetchFrom   time.Time // Nothing is fetched before, but offsets may be looked up.
	failures    kafka.Backoff
	progressAt  time.Time // When the position last moved, or the partition had nothing to read.
	batchMillis int64     // The latest timestamp of the batch that was read last.
	badOffset   int64     // The offset at which a batch could not be read, or -1.
	badTries    int       // How often that batch was tried.
	wanted      uint64    // How many records somebody wanted, see checkLocked.
	trouble     trouble
	breaks      breakPace
	// A walk was given up because there was no place to put it aside. The partition is fetched when there is one.
	awaitsPlace bool
}

// resolveKind is what must be looked up about offsets before the source can go on fetching.
type resolveKind uint8

const (
	resolveNothing resolveKind = iota
	resolveStart               // Where to begin.
	resolveRange               // What offsets the log has, since the broker says that ours is outside.
	resolveEpoch               // Whether the log of a new leader holds what was read.
)

// Values of partition.vouched that are not epochs.
const (
	epochUnknown = -1 // The brokers have no epochs (before Kafka 2.1).
	// There is a new leader, or the position is outside its log, and the log has not been compared yet.
	epochDoubted = -2
)

// vouchLocked updates vouched. It is called whenever the leader's log may have become another one, or has been
// compared.
func (p *partition) vouchLocked() {
	switch p.resolve {
	case resolveRange, resolveEpoch:
		p.vouched.Store(epochDoubted)
	case resolveNothing, resolveStart:
		p.vouched.Store(p.leaderEpoch)
	}
}

func (s *Source) newPartition(t *topic, id int32, from Start) *partition {
	p := &partition{topic: t, id: id, topicID: t.id, from: from, resolve: resolveStart, leaderEpoch: -1, lastEpoch: -1,
		badOffset: -1, replica: -1}
	p.routed.Store(-1)
	p.published.Store(-1)
	p.vouched.Store(epochUnknown)
	p.high.Store(-1)
	p.stable.Store(-1)
	p.readUpTo.Store(readNothing)
	p.leaderSeen.Store(-1)
	p.readSeen.Store(-1)
	p.failures = kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax}
	p.channel = t.route.Always(id)
	return p
}

// resumeAt makes p, which is new, continue at a committed position. The log may have been truncated since the commit.
func (p *partition) resumeAt(position committed) {
	p.resolve = resolveNothing
	if position.leaderEpoch >= 0 {
		p.lastEpoch, p.resolve = position.leaderEpoch, resolveEpoch
	}
	p.vouchLocked()
	p.routed.Store(position.offset)
	p.published.Store(position.offset)
	p.publishedEpoch.Store(position.leaderEpoch)
}

func (p *partition) stats() PartitionStats {
	st := PartitionStats{Topic: p.topic.name, Partition: p.id, Position: p.routed.Load(), HighWatermark: p.high.Load(),
		LastStable: p.stable.Load(), Stopped: p.stopped.Load() != nil, Behind: p.behind(time.Now()),
		Near: p.readSeen.Load() != p.leaderSeen.Load(), Listed: p.topic.stats.Listed}
	if st.Lag = -1; st.Position >= 0 && st.HighWatermark >= 0 {
		st.Lag = max(0, st.HighWatermark-st.Position)
	}
	st.LagTime = p.lagTime(time.Now())
	return st
}

// errorText returns why the partition is not read, or why nothing of it can be, or "".
func (p *partition) errorText() string {
	for _, e := range []*string{p.stopped.Load(), p.lastError.Load()} {
		if e != nil {
			return *e
		}
	}
	return ""
}

// stableLocked notes how far a fetch may read, and how far the log goes.
func (p *partition) stableLocked(stable, high int64, now time.Time) {
	if stable < 0 {
		return
	}
	held := stable < high
	if p.stable.Swap(stable) != stable || !held || !p.held {
		p.stableAt.Set(now)
	}
	p.held = held
}

// heldBack describes an open transaction that has held back all records after it for at least patience. It returns ""
// if there is none. Any goroutine may call it.
func (p *partition) heldBack(patience time.Duration) string {
	stable, high := p.stable.Load(), p.high.Load()
	since := time.Since(p.stableAt.Get())
	if stable < 0 || high <= stable || p.routed.Load() < stable || since < patience {
		return ""
	}
	return fmt.Sprintf("an open transaction has held back the offsets %d to %d for %v: kafka-transactions.sh "+
		"find-hanging names its producer", stable, high-1, since.Round(time.Second))
}

// readyLocked reports whether a request may ask for p now. If p only has to wait for some time, readyAt is when it may.
func (p *partition) readyLocked(refreshed uint64, now time.Time) (ok bool, readyAt time.Time) {
	if p.stopped.Load() != nil {
		return false, now.Add(time.Hour)
	}
	if p.heldRefresh != 0 && refreshed <= p.heldRefresh {
		return false, time.Time{}
	}
	return !now.Before(p.heldUntil), p.heldUntil
}

// failLocked holds p back after an error. If its leader or id may have changed, p also waits for a refresh of the
// metadata.
func (s *Source) failLocked(p *partition, err error, awaitRefresh bool) {
	kind := kafka.KindOf(err)
	s.stats.FetchErrors[kind].Add(1)
	text := err.Error()
	p.lastError.Store(&text)
	now := time.Now()
	p.heldUntil, p.progressAt = now.Add(p.failures.Next()), now
	if awaitRefresh {
		p.heldRefresh = s.refreshes
		s.kickWatcher()
	}
	// A partition that has moved is nothing unusual. Only a problem that lasts is worth a log line.
	if !awaitRefresh || p.failures.Failures > 3 {
		s.outages.failed(&p.trouble, outageCause{p.readSeen.Load(), kind}, p.name(), err, append(p.attrs(), "offset",
			p.routed.Load())...)
	}
}

// goodLocked ends what failLocked began.
func (p *partition) goodLocked(s *Source) {
	if p.lastError.Load() == nil {
		return
	}
	p.lastError.Store(nil)
	p.failures.Reset()
	p.heldRefresh = 0
	s.outages.ended(&p.trouble, p.name(), append(p.attrs(), "offset", p.routed.Load())...)
}

// name names the partition in a log line about several.
func (p *partition) name() string { return p.topic.name + "/" + strconv.Itoa(int(p.id)) }

// attrs names the partition in a log line.
func (p *partition) attrs() []any { return []any{"topic", p.topic.name, "partition", p.id} }
