package source

import (
	"sync/atomic"
	"time"

	"wsd/internal/kafka"
	"wsd/internal/route"
)

// topic is a topic that is read, because it is named or because a pattern found it. Its fields belong to the watcher, except where they say otherwise.
type topic struct {
	name  string
	stats *TopicStats
	route *route.Topic // Fixed after New.

	found   bool      // By a pattern: it is forgotten some time after it is gone.
	goneAt  time.Time // When it was first seen to be missing; zero: it is not.
	state   TopicState
	err     string
	seen    bool       // It existed at some look: what appears from now on is new and read from its beginning.
	missed  bool       // It did not exist at some look.
	id      [16]byte   // Zero before it was seen, and with brokers older than topic ids (Kafka 2.8).
	retired [][16]byte // Ids that it had before, newest last; at most retiredMax.
	parts   []*partition
	former  []*partition // Of an earlier life that has just ended, see endFormer.
	problem throttledLog

	strays       strays
	cleanup      atomic.Uint32 // A cleanup; the watcher writes, fetchers read.
	cleanupAt    time.Time     // When it was asked for,
	cleanupOf    [16]byte      // and of which life.
	cleanupNoted bool          // It was said that it cannot be known.

	// mu: what has been logged once.
	invalidNoted  bool
	tooLargeNoted bool
	unplacedNoted [route.UnplacedCount]bool
	strayNoted    bool
}

// retiredMax bounds the ids remembered so that the late answer of a broker that lags behind does not look like one more recreation.
const retiredMax = 16

// partition is one partition of one life of a topic: a topic that comes back with another id gets new ones, so that an offset and
// the epoch that it belongs to can never be read from two lives.
type partition struct {
	topic   *topic
	id      int32
	topicID [16]byte
	channel []byte // The channel that all records go to; nil when they differ. Fixed.

	stream *Stream // Of the last layout; the watcher's.

	// Any goroutine reads these; who holds Source.mu writes them.
	routed     atomic.Int64 // Next offset to be routed: all before it have been. -1: not known yet.
	high       atomic.Int64 // High watermark at the last fetch, -1 before it.
	caughtUp   atomic.Bool  // The last fetch reached the end of what is committed.
	leaderSeen atomic.Int32 // Broker id, -1: none.

	publishedEpoch atomic.Int32 // The leader epoch of what was published last.

	// The leader epoch in which the log is known to hold what was routed, or one of those below: only of that log is anything read again.
	vouched atomic.Int32

	lastError atomic.Pointer[string]
	window    window                 // Has a lock of its own; who adds holds Source.mu, too.
	published atomic.Int64           // As routed, but for what is still in the batch being built; kept only for the committer.
	cut       atomic.Pointer[string] // What the log's last truncation adds to the epoch; nil: there was none.
	stopped   atomic.Pointer[string] // Why a rule ended the reading; nil: it did not.

	// mu
	touched     bool     // In router.touched.
	owner       *fetcher // The one that may fetch and route it; nil: no leader known.
	leaderEpoch int32
	lastEpoch   int32 // Leader epoch of the batch that was read last, -1: none.
	from        Start // How to find the first offset.
	resolve     resolveKind
	heldLook    uint64    // Nothing is fetched before a look at the metadata that began after this one; see Source.looks.
	heldUntil   time.Time // Nothing is fetched before.
	failures    kafka.Backoff
	progressAt  time.Time // When it last moved or had nothing to read.
	badOffset   int64     // Where a batch could not be read, -1: none.
	badTries    int
	wanted      uint64 // Records that somebody wanted, see checkLocked.
	gapNote     throttledLog
	losses      lossLog
	problem     throttledLog
	fetchFrom   time.Time // Nothing is fetched before, though its position may be asked for.
}

// resolveKind is a question about offsets that must be answered before fetching goes on.
type resolveKind uint8

const (
	resolveNothing resolveKind = iota
	resolveStart               // Where to begin.
	resolveRange               // The broker says that our position is outside the log.
	resolveEpoch               // There is a new leader: does its log hold what was read?
)

// Values of partition.vouched that are no epoch.
const (
	epochUnknown = -1 // Brokers before Kafka 2.1 tell none.
	epochDoubted = -2 // There is a new leader, or a position outside of its log, and it has not been compared yet.
)

// vouchLocked notes whether the leader's log is the one that was read. It is called when that may have changed, and after a truncation.
func (p *partition) vouchLocked() {
	switch p.resolve {
	case resolveRange, resolveEpoch:
		p.vouched.Store(epochDoubted)
	case resolveNothing, resolveStart:
		p.vouched.Store(p.leaderEpoch)
	}
}

func (s *Source) newPartition(t *topic, id int32, from Start) *partition {
	p := &partition{topic: t, id: id, topicID: t.id, from: from, resolve: resolveStart, leaderEpoch: -1, lastEpoch: -1, badOffset: -1}
	p.routed.Store(-1)
	p.published.Store(-1)
	p.vouched.Store(epochUnknown)
	p.high.Store(-1)
	p.leaderSeen.Store(-1)
	p.failures = kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax}
	p.problem.interval, p.gapNote.interval = s.o.LogInterval, s.o.LogInterval
	p.channel = t.route.Always(id)
	return p
}

// resumeAt lets p, which is new, go on where an earlier source has stopped. Its log may have been truncated since.
func (p *partition) resumeAt(at committed) {
	p.resolve = resolveNothing
	if at.leaderEpoch >= 0 {
		p.lastEpoch, p.resolve = at.leaderEpoch, resolveEpoch
	}
	p.vouchLocked()
	p.routed.Store(at.offset)
	p.published.Store(at.offset)
	p.publishedEpoch.Store(at.leaderEpoch)
}

func (p *partition) stats() PartitionStats {
	st := PartitionStats{Topic: p.topic.name, Partition: p.id, Position: p.routed.Load(), HighWatermark: p.high.Load(), Stopped: p.stopped.Load() != nil}
	if st.Position >= 0 && st.HighWatermark > st.Position {
		st.Lag = st.HighWatermark - st.Position
	}
	return st
}

func (p *partition) errorText() string {
	for _, e := range []*string{p.stopped.Load(), p.lastError.Load()} {
		if e != nil {
			return *e
		}
	}
	return ""
}

// readyLocked reports whether p may be asked for now, and if only time is missing, when.
func (p *partition) readyLocked(looked uint64, now time.Time) (ok bool, at time.Time) {
	if p.stopped.Load() != nil {
		return false, now.Add(time.Hour)
	}
	if p.heldLook != 0 && looked <= p.heldLook {
		return false, time.Time{}
	}
	return !now.Before(p.heldUntil), p.heldUntil
}

// failLocked holds p back after an error. newLook: its leader or id may have changed, so wait for the metadata as well.
func (s *Source) failLocked(p *partition, err error, newLook bool) {
	kind := kafka.KindOf(err)
	s.stats.FetchErrors[kind].Add(1)
	text := err.Error()
	p.lastError.Store(&text)
	now := time.Now()
	p.heldUntil, p.progressAt = now.Add(p.failures.Next()), now
	if newLook {
		p.heldLook = s.looks
		s.kickWatcher()
	}
	// One hint that a partition moved is everyday life; only what lasts is worth a line.
	if !newLook || p.failures.Failures > 3 {
		p.problem.fail(s.log, "reading a partition does not go on, retrying", "topic", p.topic.name, "partition", p.id, "offset", p.routed.Load(), "kind", kind, "err", err)
	}
}

// goodLocked ends what failLocked began.
func (p *partition) goodLocked(s *Source) {
	if p.lastError.Load() == nil {
		return
	}
	p.lastError.Store(nil)
	p.failures.Reset()
	p.heldLook = 0
	p.problem.ok(s.log, "reading a partition goes on", "topic", p.topic.name, "partition", p.id, "offset", p.routed.Load())
}
