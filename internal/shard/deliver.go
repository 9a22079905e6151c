package shard

import "wsd/internal/bus"

// deliver takes batches from the bus and gives their segments to the subscribers. Many batches that wait become one
// write per connection: the kernel's price is per write and hardly per byte. It returns whether there may be more on
// the bus that is to be taken at once.
func (s *Shard) deliver() (more bool) {
	g := &s.gatherer
	g.turn++
	braking := s.brake()
	if !braking {
		more = s.gather()
	}
	if braking || more {
		more = g.ahead(braking) || more
	}
	if len(g.segments) == 0 {
		return more
	}
	// A single segment needs no queue: nothing can follow it in this turn.
	direct := len(g.segments) == 1
	for i := range g.segments {
		s.deliverSegment(&g.segments[i], direct)
	}
	g.done()
	return more
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
	if p.sent > 0 {
		s.lapDirect(p)
	}
	s.sender.holds.drop(p.hold)
}

// deliverToSubscribers gives a segment to every subscriber of its channel. While it walks them, nothing changes them
// (invariant 8): subscriptions that have to end, and connections that fail, do so afterwards.
func (s *Shard) deliverToSubscribers(p *pending, d *delivery) {
	ch := &s.channels.list[p.channel]
	d.channel = p.channel + 1
	ch.records += uint64(len(p.segment.Records))
	ch.deliveries += uint64(len(p.segment.Records)) * uint64(len(ch.subscribers))
	joined := p.batch.Seq <= ch.joinedSeq
	conflate, resync, recovering := ch.policy == PolicyConflate, ch.policy == PolicyResync, ch.recovering > 0
	s.channels.walking = d.channel
	for i := range ch.subscribers {
		sub := ch.subscribers[i]
		c := s.slab.get(sub.slot)
		if recovering && s.recoveries.parkFor(c, p, sub.sub) {
			continue
		}
		start := uint64(0)
		if joined {
			start = c.subs[sub.sub].start
		}
		switch {
		case conflate && s.sender.stopWaiting(&c.out):
			s.deliverTo(c, d, start)
			s.outlet.markDirty(c)
		case conflate && s.sender.conflates(&c.out):
			s.mergeFor(c, p, start)
		case resync && s.mustResync(c, p):
		default:
			s.deliverTo(c, d, start)
		}
	}
	s.channels.walking = 0
	if conflate {
		s.sender.singles.reset()
	}
	if resync {
		s.endResyncs()
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
		k = s.layouts.after(c.variant, p.segment, start)
		k.channel = d.channel
		s.outlet.offer(c, k)
	case len(k.bytes) == 0:
	case k.deferred:
		k.hold = s.sender.holdOf(p)
		s.outlet.offer(c, k)
		s.compressor.await(c, p.segment, k.bytes)
	case d.direct && c.out.chunks == nil && c.out.wrote < writePerTurn && c.isClient():
		s.deliverNow(c, k, p)
	default:
		k.hold = s.sender.holdOf(p)
		s.outlet.offer(c, k)
	}
}

// deliverNow writes k, of p's segment, to a connection for which nothing waits, without the detour over the queue.
func (s *Shard) deliverNow(c *conn, k chunk, p *pending) {
	n, v := s.sender.writeNow(&c.transport, k.bytes[:min(len(k.bytes), writePerTurn-int(c.out.wrote))])
	switch {
	case v != verdictOK:
		s.sender.drop(k.publications)
		s.outlet.fail(c, v)
	case n == len(k.bytes):
		s.sender.counts.deliveries += uint64(k.publications)
		if p.sent++; p.sent == lapWrites {
			s.lapDirect(p)
		}
		if s.secured.holds(&c.transport) {
			s.outlet.markDirty(c)
		}
	default:
		k.hold = s.sender.holdOf(p)
		s.sender.pushRest(&c.out, k, n)
		s.outlet.markDirty(c)
	}
}

// mergeFor merges a segment for a connection that conflates.
func (s *Shard) mergeFor(c *conn, p *pending, start uint64) {
	if !c.isClient() {
		return
	}
	began, v := s.sender.mergeSegment(&c.out, c.variant, p, start)
	if v != verdictOK {
		s.outlet.fail(c, v)
		return
	}
	if began {
		s.stats.Slow[PolicyConflate].Add(1)
	}
	s.outlet.markDirty(c)
}
