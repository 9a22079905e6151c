package shard

import (
	"slices"

	"wsd/internal/bus"
)

// Chunks of a segment are its layout, shared by all. While the ring has the batch it counts those bytes; afterwards they live on for as
// long as some queue holds them, and count as pinned: the layouts of a batch once for the process, all of them while any is held.
// What is merged for connections that conflate is the shard's own and counts for each of them, as do answers and pings.

// pin counts the chunks of one segment in the queues of the shard.
type pin struct {
	of      *bus.Hold // nil: free.
	seq     uint64    // Of the batch.
	holders int
}

// pin returns the index of the pin of p's segment, taken when it is first asked for. deliverSegment holds it to its end.
func (s *Shard) pin(p *pending) uint32 {
	if p.pin != 0 {
		return p.pin
	}
	if n := len(s.freePins); n > 0 {
		p.pin = s.freePins[n-1]
		s.freePins = s.freePins[:n-1]
	} else {
		s.pins = append(s.pins, pin{})
		p.pin = uint32(len(s.pins) - 1)
	}
	s.pins[p.pin] = pin{of: p.batch.Hold(), seq: p.batch.Seq, holders: 1}
	return p.pin
}

// unpin lets go of pin at once, which may be 0.
func (s *Shard) unpin(at uint32) {
	if at == 0 {
		return
	}
	p := &s.pins[at]
	if p.holders--; p.holders == 0 {
		p.of.Drop()
		*p = pin{}
		s.freePins = append(s.freePins, at)
	}
}

// limitPinned closes connections while more than PinnedMax bytes are pinned: those that wait with the oldest batches first. It looks
// once a tick, and each shard for itself.
func (s *Shard) limitPinned() {
	if s.cursor.Held() <= int64(s.limits.PinnedMax) || s.pinLook == s.tick {
		return
	}
	s.pinLook = s.tick
	type holder struct {
		seq  uint64
		slot uint32
	}
	var holders []holder
	s.slab.each(func(c *conn) {
		for i := range c.out {
			if p := &s.pins[c.out[i].pin]; p.of != nil {
				if p.of.Released() {
					holders = append(holders, holder{p.seq, c.slot})
				}
				return
			}
		}
	})
	slices.SortFunc(holders, func(a, b holder) int { return int(int64(a.seq - b.seq)) })
	for _, h := range holders {
		if s.cursor.Held() <= int64(s.limits.PinnedMax) {
			return
		}
		s.closePinning(s.slab.get(h.slot))
	}
}

// closePinning closes c as slow. One that is in the middle of a message is reset: the rest of it is what is pinned.
func (s *Shard) closePinning(c *conn) {
	if c.isClient() {
		s.stats.Slow[PolicyDisconnect].Add(1)
		c.reason = ReasonSlow
		if c.outOff == 0 {
			s.end(c, ReasonSlow)
			return
		}
	}
	s.abort(c)
}
