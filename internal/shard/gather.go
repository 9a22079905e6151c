package shard

import (
	"time"

	"wsd/internal/bus"
	"wsd/internal/epoll"
)

// batchesPerTurn bounds the batches gathered in a turn, whatever their size.
const batchesPerTurn = 64

// gatherer collects what a turn takes from the bus and is to deliver.
type gatherer struct {
	opts     *Options
	channels *channels

	turn     uint32 // Number of the turn; it may wrap around.
	began    int64  // When it began, see stats.Clock.
	segments []pending
	times    []batchTimes // Of each batch gathered in this turn.
	aheadSeq uint64       // Next batch that ahead looks at.
	wakeAt   uint32       // Tick at which the brake is to be looked at again; 0: it does not hold.

	batches, records uint64 // Gathered in this turn.
}

// pending is a segment that waits to be delivered in this turn.
type pending struct {
	segment *bus.Segment
	channel uint32 // Index into channels.list, toEverybody or toConnection.
	batch   *bus.Batch
	hold    uint32 // Index into sender.holds; 0: no chunk of it waits yet.
	taken   int64  // When it was taken from the bus, see stats.Clock.
	sent    uint32 // Clients that it was written to directly, and that latency has not counted yet.
}

// gather collects the segments that have a subscriber here.
func (s *Shard) gather() (more bool) {
	g := &s.gatherer
	budget := s.opts.Limits.BatchBytesPerTurn
	for range batchesPerTurn {
		if budget <= 0 {
			return true
		}
		batch, state := s.opts.Cursor.Next()
		switch state {
		case bus.StateEmpty:
			return false
		case bus.StateDetached:
			s.reattach()
			return true
		case bus.StateReady:
		}
		if batch.Break != nil {
			if len(g.segments) > 0 {
				return true // First what was published before it.
			}
			s.breakStreams(batch.Break)
			s.opts.Cursor.Advance()
			continue
		}
		wanted := false
		for _, segment := range batch.SegmentsOf(s.opts.ID) {
			index, ok := s.channels.indexOf(segment)
			if !ok || index < toConnection && batch.Seq <= s.channels.list[index].ahead.servedSeq {
				continue
			}
			wanted = true
			g.add(batch, segment, index)
			budget -= segment.Bytes
		}
		g.batches++
		if wanted {
			g.times = append(g.times, batchTimes{batch.Oldest, batch.Sealed})
		}
		s.opts.Cursor.Advance()
	}
	return true
}

// brake reports whether the bus is to be left alone in this turn, because clients are behind. An event or the timer
// brings the next one.
func (s *Shard) brake() (hold bool) {
	p := &s.sender.pacing
	in := paceInput{
		tick: s.tick, outboundMax: int64(s.opts.Limits.OutboundMax), clients: int64(s.clients), bytes: s.sender.bytes,
	}
	held := p.until != 0
	if p.blocked > 0 && !held {
		if next, state := s.opts.Cursor.Next(); state == bus.StateReady {
			in.ready, in.backlog = true, s.opts.Cursor.Waiting(next)
		}
	}
	hold = p.decide(in)
	if hold && !held {
		s.stats.Paced.Add(1)
	}
	s.gatherer.wakeAt = p.wakeAt()
	return hold
}

// add has the segment delivered in this turn.
func (g *gatherer) add(batch *bus.Batch, segment *bus.Segment, index uint32) {
	g.segments = append(g.segments, pending{segment: segment, channel: index, batch: batch, taken: g.began})
	g.records += uint64(len(segment.Records))
	if index < toConnection {
		g.channels.list[index].ahead.add(g.turn, segment.Bytes)
	}
}

// done forgets what was gathered.
func (g *gatherer) done() {
	clear(g.segments) // Do not hold the batches' memory.
	g.segments = g.segments[:0]
}

// batchTimes is when the oldest record of a batch was produced, and when the batch was sealed.
type batchTimes struct{ oldest, sealed time.Time }

// LateFrom is the least time that Stats remembers of the last seconds. It spares most batches the looks at the clock.
const LateFrom = 50 * time.Millisecond

// noteTimes remembers how late the turn's batches were, after the flush. Now is when latency was counted last in this
// turn; it may be zero.
func (g *gatherer) noteTimes(st *Stats, now time.Time) {
	if len(g.times) == 0 {
		return
	}
	if now.IsZero() {
		now = time.Now()
	}
	for _, t := range g.times {
		if now.Sub(t.oldest) >= LateFrom {
			noteLate(st, t, now)
		}
	}
	g.times = g.times[:0]
}

func noteLate(st *Stats, t batchTimes, now time.Time) {
	mono := epoll.Monotonic()
	st.LatencyRecent.Add(mono, nanos(now.Sub(t.oldest)))
	st.AgeRecent.Add(mono, nanos(t.sealed.Sub(t.oldest)))
	st.DelayRecent.Add(mono, nanos(now.Sub(t.sealed)))
}

// nanos returns d in nanoseconds, or 0 if it is below LateFrom.
func nanos(d time.Duration) uint64 {
	if d < LateFrom {
		return 0
	}
	return uint64(d)
}
