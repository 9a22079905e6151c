package shard

import (
	"time"

	"wsd/internal/bus"
)

// batchesPerTurn bounds the batches gathered in a turn, whatever their size.
const batchesPerTurn = 64

// gathered is what a turn has taken from the bus and is to deliver.
type gathered struct {
	turn     uint32 // Number of the turn; it may wrap around.
	segments []pending
	oldest   []time.Time // Oldest record of each batch gathered in this turn.
	aheadSeq uint64      // Next batch that gatherAhead looks at.
	wakeAt   uint32      // Tick at which the brake is to be looked at again; 0: it does not hold.
}

// pending is a segment that waits to be delivered in this turn.
type pending struct {
	segment *bus.Segment
	channel uint32 // Index into channels.list, toEverybody or toConnection.
	batch   *bus.Batch
	hold    uint32 // Index into sender.holds; 0: no chunk of it waits yet.
}

// deliver takes batches from the bus and gives their segments to the subscribers. Many batches that wait become one write
// per connection: the kernel's price is per write and hardly per byte. It returns whether there may be more on the bus
// that is to be taken at once.
func (s *Shard) deliver() (more bool) {
	g := &s.gathered
	g.turn++
	braking := s.brake()
	if !braking {
		more = s.gather()
	}
	if braking || more {
		more = s.gatherAhead(braking) || more
	}
	if len(g.segments) == 0 {
		return more
	}
	// A single segment needs no queue: nothing can follow it in this turn.
	direct := len(g.segments) == 1
	for i := range g.segments {
		s.deliverSegment(&g.segments[i], direct)
	}
	clear(g.segments) // Do not hold the batches' memory.
	g.segments = g.segments[:0]
	return more
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
	s.gathered.wakeAt = p.wakeAt()
	return hold
}

// gather collects the segments that have a subscriber here.
func (s *Shard) gather() (more bool) {
	g := &s.gathered
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
			index, ok := s.wants(segment)
			if !ok || index < toConnection && batch.Seq <= s.channels.list[index].ahead.servedSeq {
				continue
			}
			wanted = true
			s.gatherSegment(batch, segment, index)
			budget -= segment.Bytes
		}
		s.turn.batches++
		if wanted {
			g.oldest = append(g.oldest, batch.Oldest)
		}
		s.opts.Cursor.Advance()
	}
	return true
}

// wants returns the index of the segment's channel if it has a subscriber here, or what stands in its place for messages.
func (s *Shard) wants(segment *bus.Segment) (index uint32, ok bool) {
	if !segment.Shards.Has(s.opts.ID) {
		return 0, false
	}
	if _, is := segment.Channel.Conn(); is {
		return toConnection, true
	}
	// Mostly one shard has the channel, and the interest table said where: for a channel that is seldom used, a look into
	// the map costs more than the rest of the delivery.
	list := s.channels.list
	if hint := segment.At; hint < uint32(len(list)) && list[hint].id == segment.Channel {
		return hint, true
	}
	index, ok = s.channels.byID[segment.Channel]
	return index, ok
}

// gatherSegment has the segment delivered in this turn.
func (s *Shard) gatherSegment(batch *bus.Batch, segment *bus.Segment, index uint32) {
	g := &s.gathered
	g.segments = append(g.segments, pending{segment: segment, channel: index, batch: batch})
	s.turn.records += uint64(len(segment.Records))
	if index < toConnection {
		s.channels.list[index].ahead.add(g.turn, segment.Bytes)
	}
}

// delivery is a segment that is being given to connections.
type delivery struct {
	p       *pending
	direct  bool   // Nothing else is delivered in this turn.
	channel uint32 // As in chunk.
	chunks  [2 * bus.VariantCount]chunk
	built   [2 * bus.VariantCount]bool
}

// deliverSegment gives one segment to every subscriber of its channel or, without a channel, to those whom it is for.
func (s *Shard) deliverSegment(p *pending, direct bool) {
	d := delivery{p: p, direct: direct}
	switch p.channel {
	case toEverybody:
		s.slab.each(func(c *conn) {
			if c.isMember() {
				s.deliverTo(c, &d, 0)
			}
		})
	case toConnection:
		id, _ := p.segment.Channel.Conn()
		if c := s.slab.find(id.Slot(), id.Generation()); c != nil && c.isMember() {
			s.deliverTo(c, &d, 0)
		} else {
			s.stats.Absent.Add(uint64(len(p.segment.Records)))
		}
	default:
		s.deliverToSubscribers(p, &d)
	}
	s.sender.holds.drop(p.hold)
}

// deliverToSubscribers gives a segment to every subscriber of its channel. While it walks them, nothing changes them:
// subscriptions that have to end, and connections that fail, do so afterwards.
func (s *Shard) deliverToSubscribers(p *pending, d *delivery) {
	ch := &s.channels.list[p.channel]
	d.channel = p.channel + 1
	joined := p.batch.Seq <= ch.joinedSeq
	conflate, resync, recovering := ch.policy == PolicyConflate, ch.policy == PolicyResync, ch.recovering > 0
	for i := range ch.subscribers {
		sub := ch.subscribers[i]
		c := s.slab.get(sub.slot)
		if recovering && s.parkFor(c, p, sub.sub) {
			continue
		}
		start := uint64(0)
		if joined {
			start = c.subs[sub.sub].start
		}
		switch {
		case conflate && s.sender.conflates(&c.out):
			s.mergeFor(c, p, start)
		case resync && s.mustResync(c, p):
		default:
			s.deliverTo(c, d, start)
		}
	}
	if conflate {
		s.sender.singles.reset()
	}
	if resync {
		s.endResyncs()
	}
	if recovering {
		s.failOverfull()
	}
}

// deliverTo gives a segment to one connection. Records up to start are not for it.
func (s *Shard) deliverTo(c *conn, d *delivery, start uint64) {
	p, form := d.p, c.form()
	if !d.built[form] {
		d.built[form] = true
		d.chunks[form] = s.compressor.layout(p.segment, form)
		d.chunks[form].channel = d.channel
	}
	k := d.chunks[form]
	switch {
	case start >= p.segment.Records[0].Offset:
		k = c.speaks().layoutAfter(p.segment, start)
		k.channel = d.channel
		s.offer(c, k)
	case len(k.bytes) == 0:
	case k.deferred:
		k.hold = s.holdOf(p)
		s.offer(c, k)
		s.compressor.await(c, p.segment, k.bytes)
	case d.direct && c.out.chunks == nil && c.out.wrote < writePerTurn && c.isClient():
		s.deliverNow(c, k, p)
	default:
		k.hold = s.holdOf(p)
		s.offer(c, k)
	}
}

// deliverNow writes k, of p's segment, to a connection for which nothing waits, without the detour over the queue.
func (s *Shard) deliverNow(c *conn, k chunk, p *pending) {
	n, v := s.sender.writeNow(&c.transport, k.bytes[:min(len(k.bytes), writePerTurn-int(c.out.wrote))])
	switch {
	case v != verdictOK:
		s.sender.drop(k.publications)
		s.fail(c, v)
	case n == len(k.bytes):
		s.sender.counts.deliveries += uint64(k.publications)
	default:
		k.hold = s.holdOf(p)
		s.sender.pushRest(&c.out, k, n)
		s.markDirty(c)
	}
}

// mergeFor merges a segment for a connection that conflates.
func (s *Shard) mergeFor(c *conn, p *pending, start uint64) {
	if !c.isClient() {
		return
	}
	began, v := s.sender.mergeSegment(&c.out, c.variant, p, start)
	if v != verdictOK {
		s.fail(c, v)
		return
	}
	if began {
		s.stats.Slow[PolicyConflate].Add(1)
	}
	s.markDirty(c)
}

// holdOf returns the hold of p's batch, taken when it is first asked for; deliverSegment drops it at its end.
func (s *Shard) holdOf(p *pending) uint32 {
	if p.hold == 0 {
		p.hold = s.sender.holds.take(p.batch)
	}
	return p.hold
}

// observeLatency is called after the flush.
func (s *Shard) observeLatency() {
	g := &s.gathered
	if len(g.oldest) == 0 {
		return
	}
	now := time.Now()
	for _, t := range g.oldest {
		s.stats.Latency.Observe(max(0, now.Sub(t).Seconds()), 1)
	}
	g.oldest = g.oldest[:0]
}
