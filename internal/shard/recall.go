package shard

import (
	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/routing"
)

// A client that has missed records, or whose stream has become another one, is recalled: it is asked to come back,
// since it cannot see the gap. Each affected subscription of a protocol client ends with 2500, after which the SDKs
// subscribe again. A raw client is closed with 1013.
//
// Affected connections leave the channels at once, so that none sees a record from after the gap before it was
// notified. Notifying is the expensive part, a frame and a write each. It is spread over turns, like the closes of a
// shutdown.

// recalls are the connections that are still to be notified.
type recalls struct {
	queue    []connRef           // In order, from next on. Those that were notified early or have gone are skipped.
	next     int                 // Index into queue.
	channels map[uint32][]string // By slot: the channels that a connection has left.
}

// forget drops what c was to be notified of, as it ends.
func (r *recalls) forget(c *conn) {
	if c.recalled {
		delete(r.channels, c.slot)
		c.recalled = false
	}
}

// reattach continues at the head of the bus after it has detached this shard. Everybody here may have missed records.
func (s *Shard) reattach() {
	lost := s.opts.Cursor.Lag()
	s.opts.Cursor.Reattach()
	s.stats.Reattached.Add(1)
	s.opts.Logger.Warn("shard fell behind the bus and was detached; its subscribers have to recover",
		"shard", s.opts.ID, "batches", lost, "subscriptions", s.stats.Subscriptions.Load())
	s.slab.each(func(c *conn) { s.recall(c, func(uint32) bool { return true }) })
}

// breakStreams acts on a break that has come over the bus.
func (s *Shard) breakStreams(br *bus.Break) {
	affected := make(map[uint32]bool)
	last := uint32(0)
	if br.Match == nil {
		if index, ok := s.channels.byName.Get(br.Channel); ok {
			affected[index], last = true, index
		}
	} else {
		s.channels.byName.All(func(name string, index uint32) bool {
			if !routing.Reserved(name) && br.Match(name) {
				affected[index], last = true, index
			}
			return true
		})
	}
	isAffected := func(channel uint32) bool { return affected[channel] }
	recall := func(c *conn) {
		if br.Begins && c.speaks().encoding == nil {
			return // A raw client has no position, and has missed nothing.
		}
		s.recall(c, isAffected)
	}
	switch len(affected) {
	case 0:
	case 1: // From the end: the last one takes the place of one that leaves.
		ch := &s.channels.list[last]
		for i := len(ch.subscribers) - 1; i >= 0; i-- {
			recall(s.slab.get(ch.subscribers[i].slot))
		}
	default:
		s.slab.each(recall)
	}
}

// recall takes c off those of its channels that are affected, and has it notified later. A raw client leaves all of its
// channels.
func (s *Shard) recall(c *conn, affected func(channel uint32) bool) {
	if !c.isClient() {
		return
	}
	s.recoveries.failRecoveriesOf(c, affected)
	if !c.isClient() {
		return // It was recovering as a stream, and ends.
	}
	if s.servesAny(c, affected) { // Its SDK would not subscribe again.
		s.outlet.failFor(c, ReasonInsufficientState)
		return
	}
	var left []string
	for i := len(c.subs) - 1; i >= c.firstChannel(); i-- {
		index := c.subs[i].channel
		if !affected(index) {
			continue
		}
		left = append(left, s.channels.list[index].name)
		s.channels.unsubscribe(c, i, true) // What was merged is from before the gap, like what is queued.
		s.outlet.markDirty(c)
		s.stats.Recalled.Add(1)
	}
	if len(left) == 0 {
		return
	}
	if !c.recalled {
		c.recalled = true
		s.recalls.queue = append(s.recalls.queue, connRef{c.slot, c.generation})
	}
	if c.speaks().encoding == nil {
		s.channels.unsubscribeAll(c)
		return
	}
	s.recalls.channels[c.slot] = append(s.recalls.channels[c.slot], left...)
}

// servesAny reports whether the server has subscribed c, a client of the protocol, to an affected channel.
func (s *Shard) servesAny(c *conn, affected func(channel uint32) bool) bool {
	id := s.identities.find(c)
	if id == nil || c.speaks().encoding == nil {
		return false
	}
	for channel := range id.server {
		if affected(channel) {
			return true
		}
	}
	return false
}

// notifyRecalled notifies some more of those that were recalled. It returns whether there are others.
func (s *Shard) notifyRecalled() (more bool) {
	r := &s.recalls
	if len(r.queue) == 0 {
		return false
	}
	for ; s.work.goesOn() && r.next < len(r.queue); r.next++ {
		s.work.spendPart(1)
		ref := r.queue[r.next]
		if c := s.slab.find(ref.slot, ref.generation); c != nil && c.recalled {
			s.work.spendPart(unitsEnd + unitsLeave*len(s.recalls.channels[c.slot]))
			s.notify(c)
		}
	}
	if r.next < len(r.queue) {
		return true
	}
	r.queue, r.next = nil, 0
	return false
}

// notify tells c now what it was recalled for, if anything. It must come before the reply to any command about a
// channel.
func (s *Shard) notify(c *conn) {
	if !c.recalled {
		return
	}
	left := s.recalls.channels[c.slot]
	s.recalls.forget(c)
	d := c.speaks()
	switch {
	case !c.isClient():
	case d.encoding == nil:
		s.end(c, ReasonInsufficientState)
	default:
		pushes := d.unsubscribePushes(nil, proto.UnsubscribeInsufficientState, left...)
		s.outlet.offer(c, chunk{bytes: d.frame(pushes)})
	}
}
