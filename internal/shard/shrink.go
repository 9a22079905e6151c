package shard

import "wsd/internal/shrink"

// shrinkFrom is how many entries a map of the shard may once have had without being made anew.
const shrinkFrom = 1024

// peaks are how many entries the maps of a shard once had, see shrink.Map.
type peaks struct {
	tick uint32 // Of the last look.

	dryRuns, recovering, recalls, flows, emptying, resyncs, putOff, indexed, identified, held, publishers int
}

// shrink gives back memory that a peak of clients, channels or messages has left, once a tick and when connections have
// ended: after the last one no other turn may come for long.
func (s *Shard) shrink() {
	p := &s.peaks
	if p.tick == s.tick && len(s.released) == 0 {
		return
	}
	p.tick = s.tick
	s.channels.shrink()
	shrink.Map(&s.dryRuns, &p.dryRuns, shrinkFrom)
	shrink.Map(&s.recoveries.waiting, &p.recovering, shrinkFrom)
	shrink.Map(&s.recalls.channels, &p.recalls, shrinkFrom)
	shrink.Map(&s.flows.bySlot, &p.flows, shrinkFrom)
	shrink.Map(&s.emptying, &p.emptying, shrinkFrom)
	shrink.Map(&s.resyncs.last, &p.resyncs, shrinkFrom)
	shrink.Map(&s.completions.putOff, &p.putOff, shrinkFrom)
	shrink.Map(&s.channels.indexed, &p.indexed, shrinkFrom)
	shrink.Map(&s.identities.bySlot, &p.identified, shrinkFrom)
	shrink.Map(&s.inbound.held, &p.held, shrinkFrom)
	shrink.Map(&s.publishers, &p.publishers, shrinkFrom)
	s.sender.holds.shrink()
	s.work.shrink()
	if len(s.flows.ready) == 0 {
		s.flows.ready = shrink.Slice(s.flows.ready, 0)
	}
	if cap(s.replies) > repliesKept {
		s.replies = nil
	}
	if s.connections == 0 {
		s.places.list, s.sender.spares = nil, nil
	}
}

// repliesKept is how much memory for the replies of a message a shard keeps from tick to tick.
const repliesKept = 64 << 10
