package shard

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/bus"
	"wsd/internal/epoll"
)

// batchesPerTurn bounds the batches gathered in a turn, whatever their size.
const batchesPerTurn = 64

// pending is a segment that waits to be delivered in this turn.
type pending struct {
	segment *bus.Segment
	channel uint32 // Index into Shard.channels, or one of those below.
	batch   *bus.Batch
	pin     uint32 // Index into Shard.pins; 0: nothing was queued yet.
}

// What stands in place of a channel's index for messages that no subscription asked for.
const (
	toEverybody  = math.MaxUint32 - iota // To all clients of the shard.
	toConnection                         // To the connection that the segment's ChannelID stands for.
)

// deliver takes batches from the bus and gives their segments to the subscribers. Many batches that wait become one write per
// connection: the kernel's price is per write, not per byte (design.md §1). It returns whether there may be more on the bus that is to be
// taken at once.
func (s *Shard) deliver() (more bool) {
	s.turnNumber++
	hold := s.pace()
	if !hold {
		more = s.gather()
	}
	if hold || more {
		more = s.takeAhead(hold) || more
	}
	if len(s.pendings) == 0 {
		return more
	}
	// A single segment needs no queue: nothing can follow it in this turn.
	direct := len(s.pendings) == 1
	for i := range s.pendings {
		s.deliverSegment(&s.pendings[i], direct)
	}
	clear(s.pendings) // Do not hold the batches' memory.
	s.pendings = s.pendings[:0]
	s.endDoomed()
	return more
}

// gather collects the segments that have a subscriber here.
func (s *Shard) gather() (more bool) {
	budget := s.limits.BatchBytesPerTurn
	for range batchesPerTurn {
		if budget <= 0 {
			return true
		}
		batch, state := s.cursor.Next()
		switch state {
		case bus.StateEmpty:
			return false
		case bus.StateDetached:
			s.reattach()
			return true
		case bus.StateReady:
		}
		if batch.Break != nil {
			if len(s.pendings) > 0 {
				return true // First what was published before it.
			}
			s.breakStreams(batch.Break)
			s.cursor.Advance()
			continue
		}
		wanted := false
		for _, segment := range batch.SegmentsOf(s.id) {
			index, ok := s.wants(segment)
			if !ok || index < toConnection && batch.Seq <= s.channels[index].servedSeq {
				continue
			}
			wanted = true
			s.take(batch, segment, index)
			budget -= segment.Bytes
		}
		s.turn.batches++
		if wanted {
			s.oldest = append(s.oldest, batch.Oldest)
		}
		s.cursor.Advance()
	}
	return true
}

// wants returns the index of the segment's channel if it has a subscriber here; or what stands in its place for messages.
func (s *Shard) wants(segment *bus.Segment) (index uint32, ok bool) {
	if !segment.Shards.Has(s.id) {
		return 0, false
	}
	if _, is := segment.Channel.Conn(); is {
		return toConnection, true
	}
	// Mostly one shard has the channel, and the interest table said where: a look into the map costs a rare channel's delivery more than
	// all else that is done for it here.
	if at := segment.SlotHint; at < uint32(len(s.channels)) && s.channels[at].id == segment.Channel {
		return at, true
	}
	index, ok = s.channelByID[segment.Channel]
	return index, ok
}

// take has the segment delivered in this turn.
func (s *Shard) take(batch *bus.Batch, segment *bus.Segment, index uint32) {
	s.pendings = append(s.pendings, pending{segment: segment, channel: index, batch: batch})
	s.turn.records += uint64(len(segment.Records))
	if index >= toConnection {
		return
	}
	ch := &s.channels[index]
	ch.got, ch.gotTurn = uint32(min(s.gotInTurn(ch)+segment.Bytes, math.MaxUint32)), s.turnNumber
}

// delivery is a segment that is being given to connections.
type delivery struct {
	p      *pending
	direct bool   // Nothing else is delivered in this turn.
	of     uint32 // As in chunk.
	chunks [2 * bus.VariantCount]chunk
	built  [2 * bus.VariantCount]bool
}

// deliverSegment gives one segment to every subscriber of its channel, or to those whom it is for without one. It must not change the channel's
// subscribers: connections that fail are doomed.
func (s *Shard) deliverSegment(p *pending, direct bool) {
	d := delivery{p: p, direct: direct}
	switch p.channel {
	case toEverybody:
		s.slab.each(func(c *conn) {
			if c.isMember() {
				s.give(c, &d, 0)
			}
		})
	case toConnection:
		id, _ := p.segment.Channel.Conn()
		if c := s.slab.find(id.Slot(), id.Generation()); c != nil && c.isMember() {
			s.give(c, &d, 0)
		} else {
			s.stats.Absent.Add(uint64(len(p.segment.Records)))
		}
	default:
		s.deliverToSubscribers(p, &d)
	}
	s.unpin(p.pin)
}

// deliverToSubscribers gives a segment to every subscriber of its channel.
func (s *Shard) deliverToSubscribers(p *pending, d *delivery) {
	ch := &s.channels[p.channel]
	d.of = p.channel + 1
	joined := p.batch.Seq <= ch.joinedSeq
	conflate := ch.policy == PolicyConflate
	recovering := ch.recovering > 0
	for i := range ch.subscribers {
		sub := ch.subscribers[i]
		c := s.slab.get(sub.slot)
		if recovering && s.hold(c, p, sub.at) {
			continue
		}
		start := uint64(0)
		if joined {
			start = c.subs[sub.at].start
		}
		if conflate && s.conflates(c) {
			s.mergeSegment(c, p, start)
			continue
		}
		if ch.policy == PolicyResync && s.resyncs(c, p) {
			continue
		}
		s.give(c, d, start)
	}
	s.singles.reset()
	if len(s.resyncing) > 0 {
		s.endResyncs()
	}
}

// give gives a segment to one connection. Records up to start are not for it.
func (s *Shard) give(c *conn, d *delivery, start uint64) {
	p, form := d.p, c.form()
	if !d.built[form] {
		d.built[form] = true
		d.chunks[form] = s.layout(p.segment, form)
		d.chunks[form].of = d.of
	}
	k := d.chunks[form]
	switch {
	case start >= p.segment.Records[0].Offset:
		part := layoutAfter(c.variant, p.segment, start)
		part.of = d.of
		s.queuePublications(c, part)
	case len(k.bytes) == 0:
	case k.waits:
		k.pin = s.pin(p)
		s.queuePublications(c, k)
		s.await(c, p.segment, k.bytes)
	case d.direct && c.out == nil && c.wrote < writePerTurn && c.isClient():
		s.send(c, k, p)
	default:
		k.pin = s.pin(p)
		s.queuePublications(c, k)
	}
}

// send writes k, of p's segment, to a connection that has nothing queued, without the detour over the queue.
func (s *Shard) send(c *conn, k chunk, p *pending) {
	n, err := epoll.Write(int(c.fd), k.bytes[:min(len(k.bytes), writePerTurn-int(c.wrote))])
	switch {
	case err == nil:
		s.turn.writes++
		s.turn.bytesOut += uint64(n)
	case err != unix.EAGAIN:
		s.stats.Dropped.Add(uint64(k.publications))
		s.doom(c, ReasonWriteError)
		return
	}
	if n == len(k.bytes) {
		s.turn.deliveries += uint64(k.publications)
		return
	}
	k.pin = s.pin(p)
	s.queue(c, k)
	c.outOff = uint32(n)
	c.wrote += uint32(n)
}

// observeLatency is called after the flush.
func (s *Shard) observeLatency() {
	if len(s.oldest) == 0 {
		return
	}
	now := time.Now()
	for _, t := range s.oldest {
		s.stats.Latency.Observe(max(0, now.Sub(t).Seconds()), 1)
	}
	s.oldest = s.oldest[:0]
}
