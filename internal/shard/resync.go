package shard

import (
	"time"

	"wsd/internal/proto"
)

// A client that falls behind on a channel with PolicyResync, and can recover it, loses what waits of that channel and
// is notified that its subscription has ended with 2500. The SDKs then subscribe again from the last offset that they
// got, and so get what was dropped when there is room for it. A client that needs this for the third time within a
// minute is closed like any other slow client.
const (
	resyncsMax    = 3
	resyncsWithin = time.Minute
)

// resyncs are the subscriptions that end, and when those of each connection ended.
type resyncs struct {
	ending []resync               // To end when their channel's subscribers have been walked.
	last   map[uint32]resyncTicks // By slot.
}

// resyncTicks are the ticks of a connection's last resyncs, the newest last; 0 for none.
type resyncTicks [resyncsMax - 1]uint32

// resync is a subscription that is to end.
type resync struct {
	slot, channel uint32
	publications  uint32 // That came when it was over its limit.
}

// forget drops what is known of c, as it ends.
func (r *resyncs) forget(c *conn) {
	delete(r.last, c.slot)
}

// mustResync reports whether c, which p is for, is behind and loses the channel for now.
func (s *Shard) mustResync(c *conn, p *pending) bool {
	d := c.speaks()
	switch {
	case d.encoding == nil, !c.isClient(), s.identities.serves(c, p.channel),
		s.opts.Recovery.Recoverer == nil, !c.out.exceeds(s.opts.Limits.OutboundMax):
		return false
	}
	if _, _, known := s.opts.Positions.Position(s.channels.list[p.channel].name); !known {
		return false
	}
	s.resyncs.ending = append(s.resyncs.ending, resync{c.slot, p.channel, d.publications(p.segment.Records)})
	return true
}

// endResyncs ends the subscriptions that mustResync found.
func (s *Shard) endResyncs() {
	for _, r := range s.resyncs.ending {
		c := s.slab.get(r.slot)
		s.sender.dropChannel(&c.out, r.channel)
		s.sender.drop(r.publications)
		if c.out.exceeds(s.opts.Limits.OutboundMax) && s.sender.over(&c.out) || s.resyncs.tooOften(c, s.tick) {
			s.outlet.fail(c, verdictSlow)
			continue
		}
		s.stats.Slow[PolicyResync].Add(1)
		name := s.channels.list[r.channel].name
		s.channels.unsubscribe(c, s.channels.indexIn(c, r.channel), false)
		d := c.speaks()
		s.outlet.queue(c, chunk{bytes: d.frame(d.unsubscribePushes(nil, proto.UnsubscribeInsufficientState, name))})
	}
	s.resyncs.ending = s.resyncs.ending[:0]
}

// tooOften notes a resync of c and reports whether it is one too many.
func (r *resyncs) tooOften(c *conn, tick uint32) bool {
	last := r.last[c.slot]
	if oldest := last[0]; oldest != 0 && tick < oldest+ticks(resyncsWithin) {
		return true
	}
	copy(last[:], last[1:])
	last[len(last)-1] = max(tick, 1)
	r.last[c.slot] = last
	return false
}
