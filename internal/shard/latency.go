package shard

import (
	"log/slog"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/shrink"
	"wsd/internal/stats"
)

// How late records are delivered is counted for every client, but in laps: after lapWrites writes, and at the end of a
// turn, the clock is read once, and what was written since then counts as written now. So a client costs an addition,
// and a segment costs an observation for its clients together. Records that were made and fetched together, as most of
// a batch were, are one observation also if they are in different segments.
//
// Clients that conflate, recovered publications, and the first segment of a client that has joined in its middle are
// not counted: the time at which they are written says nothing about the way of the record.

// lapWrites is the number of writes of a lap. They take a third of a millisecond.
const lapWrites = 64

// latency is what a shard needs to count laps. It belongs to the shard's goroutine.
type latency struct {
	at time.Time // The end of the turn's last lap. Zero if there was none.
	// What the lap is about to count: clients that got records with the same stamp.
	stamp    bus.Stamp
	progress progress
	n        uint64
}

// progress is when a segment passed the stages on its way to the outbox.
type progress struct {
	bus.Times
	taken int64 // When a turn took it from the bus.
	now   bool  // In this turn.
}

// lapDirect ends the lap of a segment that is written to clients for which nothing waits.
func (s *Shard) lapDirect(p *pending) {
	s.latency.at, s.sender.sinceLap = time.Now(), 0
	s.count(&p.segment.Stamps, progress{p.batch.Times, p.taken, true}, p.sent)
	s.observe()
	p.sent = 0
}

// lap ends a lap of the flush.
func (s *Shard) lap() {
	s.sender.sinceLap = 0
	h := &s.sender.holds
	if len(h.sent) == 0 {
		return
	}
	s.latency.at = time.Now()
	for _, index := range h.sent {
		e := &h.list[index]
		s.count(&e.stamps, progress{e.times, e.taken, e.taken == s.gatherer.began}, e.sent)
		e.sent = 0
		h.drop(index)
	}
	s.observe()
	h.sent = shrink.Slice(h.sent, len(h.sent))
}

// count counts that so many clients got the records with these stamps.
func (s *Shard) count(stamps *bus.Stamps, way progress, clients uint32) {
	l := &s.latency
	stamps.Each(func(st *bus.Stamp) {
		n := uint64(clients) * uint64(st.Records)
		if st.Origin == l.stamp.Origin && st.Millis == l.stamp.Millis && way == l.progress {
			l.n += n
			return
		}
		s.observe()
		l.stamp, l.progress, l.n = *st, way, n
	})
}

// observe adds what count has put together to the topic's counts.
func (s *Shard) observe() {
	l := &s.latency
	if l.n == 0 {
		return
	}
	st := &l.stamp
	// The timestamp is of the wall clock, of this machine or another one.
	latency := time.Duration(l.at.UnixNano() - st.Millis*int64(time.Millisecond))
	inWsd := time.Duration(stats.Clock(l.at) - st.Fetched)
	known := st.Millis >= 0
	st.Topic.Shard(int(s.opts.ID)).Observe(latency, inWsd, l.n, known)
	if late := s.opts.Late; late != nil && (known && latency > late.Max || inWsd > late.Max) {
		s.noteLate(latency, inWsd)
	}
	l.stamp, l.n = bus.Stamp{}, 0
}

// stage is a part of a record's way from its producer to a client's socket.
type stage uint8

const (
	stageFetch   stage = iota // From its timestamp until wsd had fetched it: producer, Kafka, a backlog.
	stageBuilder              // Until its batch was sealed: other records of the response, decompression, routing.
	stageRing                 // Until the ring had room, which waits for the slowest shard.
	stageTurn                 // Until a turn of the shard took it from the bus.
	stageWrite                // Until it was written, in the same turn: other clients come first.
	stageOutbox               // The same in a later turn: the client did not read, or the turn's bytes were used up.
	stageCount
)

var stageNames = [...]string{"fetch", "builder", "ring", "turn", "write", "outbox"}

// Stages returns the names of the stages, in the order of Stats.Late.
func Stages() []string { return stageNames[:] }

// Late is what is done about deliveries that are late. Any goroutine may use it.
type Late struct {
	Max      time.Duration // Later deliveries are late.
	Interval time.Duration // At most one of them is logged in this time.
	Logger   *slog.Logger

	next  stats.Moment  // None is logged before.
	count atomic.Uint64 // Late deliveries since the last line.
}

// due counts n late deliveries. It returns how many there were since the last line if it is time for another one.
func (l *Late) due(now time.Time, n uint64) (count uint64, ok bool) {
	l.count.Add(n)
	next := l.next.Get()
	if now.Before(next) || !l.next.Replace(next, now.Add(l.Interval)) {
		return 0, false
	}
	return l.count.Swap(0), true
}

// noteLate counts what latency has in hand by the stage that took longest, and logs a sample.
func (s *Shard) noteLate(latency, inWsd time.Duration) {
	l, late := &s.latency, s.opts.Late
	st, way := &l.stamp, &l.progress
	var took [stageCount]time.Duration
	took[stageFetch] = max(0, latency-inWsd)
	if st.Millis < 0 {
		took[stageFetch] = 0
	}
	took[stageBuilder] = time.Duration(way.Sealed - st.Fetched)
	took[stageRing] = time.Duration(way.Published - way.Sealed)
	took[stageTurn] = time.Duration(way.taken - way.Published)
	last := stageOutbox
	if way.now {
		last = stageWrite
	}
	took[last] = time.Duration(stats.Clock(l.at) - way.taken)
	longest := stageFetch
	for i, d := range took {
		if d > took[longest] {
			longest = stage(i)
		}
	}
	s.stats.Late[longest].Add(l.n)
	count, ok := late.due(l.at, l.n)
	if !ok {
		return
	}
	attrs := []any{
		"limit", late.Max, "waited_most", stageNames[longest], "topic", st.Topic.Topic, "partition", st.Partition,
		"offset", int64(st.Offset) - 1,
		"shard", s.opts.ID, "clients", l.n, "age", rounded(latency),
	}
	for i, d := range took {
		if d > 0 {
			attrs = append(attrs, stageNames[i], rounded(d))
		}
	}
	late.Logger.Warn("records were delivered late; this is one of them", append(attrs, "late_deliveries", count)...)
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
