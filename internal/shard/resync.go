package shard

import (
	"time"

	"wsd/internal/wire"
)

// A client that falls behind on a channel with PolicyResync, and can recover it, loses what waits of that channel and is told that its
// subscription has ended with 2500. The SDKs then subscribe again from the last offset that came, and so get what was dropped when there is
// room for it. One that needs this for the third time within a minute is closed like any other slow client.
const (
	resyncsMax    = 3
	resyncsWithin = time.Minute
)

// resyncs are the ticks of a connection's last resyncs, the newest last; 0 for none.
type resyncs [resyncsMax - 1]uint32

// resync is a subscription that is to end when its channel's subscribers have been gone through.
type resync struct {
	slot, channel uint32
	publications  uint32 // That came when it was over its limit.
}

// resyncs reports whether c, which p is for, is behind and loses the channel for now.
func (s *Shard) resyncs(c *conn, p *pending) bool {
	if !c.protocol || !c.isClient() || !s.overLimit(c) || s.recovery.Recoverer == nil {
		return false
	}
	if _, _, known := s.positions.Position(s.channels[p.channel].name); !known {
		return false
	}
	s.resyncing = append(s.resyncing, resync{c.slot, p.channel, publications(c.variant, p.segment.Records)})
	return true
}

// endResyncs ends the subscriptions in Shard.resyncing.
func (s *Shard) endResyncs() {
	for _, r := range s.resyncing {
		c := s.slab.get(r.slot)
		s.hurry(c)
		s.dropQueuedOf(c, r.channel)
		if c.merge != nil && s.drained(c) {
			s.queueMerged(c)
		}
		if s.overLimit(c) || s.resyncedTooOften(c) {
			s.closeSlow(c, r.publications)
			continue
		}
		s.stats.Slow[PolicyResync].Add(1)
		s.stats.Dropped.Add(uint64(r.publications))
		name := s.channels[r.channel].name
		s.unsubscribe(c, s.find(c, name))
		e := encodings[c.variant]
		push := e.AppendUnsubscribePush(nil, name, unsubscribeInsufficient.Code, unsubscribeInsufficient.Reason)
		s.queue(c, chunk{bytes: wire.AppendFrame(nil, opOf(e), push)})
	}
	s.resyncing = s.resyncing[:0]
}

// resyncedTooOften notes a resync of c and reports whether it is one too many.
func (s *Shard) resyncedTooOften(c *conn) bool {
	last := s.resynced[c.slot]
	if oldest := last[0]; oldest != 0 && s.tick < oldest+ticks(resyncsWithin) {
		return true
	}
	copy(last[:], last[1:])
	last[len(last)-1] = max(s.tick, 1)
	s.resynced[c.slot] = last
	return false
}

// dropQueuedOf forgets what waits for c of one channel, but for the rest of a chunk that is partly sent.
func (s *Shard) dropQueuedOf(c *conn, channel uint32) {
	kept := c.out[:0]
	for i, k := range c.out {
		if k.of != channel+1 || i == 0 && c.outOff > 0 {
			kept = append(kept, k)
			continue
		}
		s.stats.Dropped.Add(uint64(k.publications))
		s.addQueued(c, -k.cost())
		s.unpin(k.pin)
	}
	clear(c.out[len(kept):])
	c.out = kept
}
