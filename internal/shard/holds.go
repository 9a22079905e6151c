package shard

import (
	"fmt"
	"slices"

	"wsd/internal/bus"
)

// Chunks of a segment are its layout, shared by all shards. While the ring has the batch, it counts those bytes.
// Afterwards they live on for as long as some queue holds them, and count as pinned: the layouts of a batch once for
// the process, all of them while any is held. What is merged for connections that conflate is the shard's own and
// counts for each of them, as replies and pings do.

// hold counts the chunks of one segment that wait in this shard.
type hold struct {
	batch *bus.Hold // nil: the entry is free.
	seq   uint64    // Of the batch.
	users int       // Chunks, the delivery under way, and latency.listed.

	stamps bus.Stamps // Of the segment.
	times  bus.Times  // Of the batch.
	taken  int64      // When the segment was taken from the bus, see stats.Clock.
	sent   uint32     // Chunks that were sent, and that latency has not counted yet.
}

// holds are the segments whose chunks wait in this shard. Index 0 is the null hold, which chunks without a batch have.
type holds struct {
	list []hold
	free []uint32
	sent []uint32 // Those with chunks that latency has not counted yet.
}

func newHolds() holds { return holds{list: make([]hold, 1)} }

// take returns a hold of p's batch with one user, who drops it.
func (h *holds) take(p *pending) (index uint32) {
	if n := len(h.free); n > 0 {
		index = h.free[n-1]
		h.free = h.free[:n-1]
	} else {
		h.list = append(h.list, hold{})
		index = uint32(len(h.list) - 1)
	}
	h.list[index] = hold{
		batch: p.batch.Hold(), seq: p.batch.Seq, users: 1,
		stamps: p.segment.Stamps, times: p.batch.Times, taken: p.taken,
	}
	return index
}

// share adds a user.
func (h *holds) share(index uint32) {
	if index != 0 {
		h.list[index].users++
	}
}

// dropSent ends the hold of a chunk that was sent.
func (h *holds) dropSent(index uint32) {
	if index == 0 {
		return
	}
	e := &h.list[index]
	if e.sent++; e.sent == 1 {
		h.sent = append(h.sent, index) // The list takes over the chunk's hold.
		return
	}
	h.drop(index)
}

// drop ends one user's hold.
func (h *holds) drop(index uint32) {
	if index == 0 {
		return
	}
	e := &h.list[index]
	switch e.users--; {
	case e.users < 0:
		panic(fmt.Sprintf("BUG: hold %d is dropped more often than it was taken", index))
	case e.users == 0:
		e.batch.Drop()
		*e = hold{}
		h.free = append(h.free, index)
	}
}

// shrink gives back the memory of holds that have gone, when all have.
func (h *holds) shrink() {
	if cap(h.list) > shrinkFrom && len(h.free) == len(h.list)-1 {
		*h = newHolds()
	}
}

// oldest returns the sequence of the oldest batch that an outbox holds, and whether the ring has released it. An outbox
// holds batches in the order of their sequence.
func (h *holds) oldest(o *outbox) (seq uint64, released bool) {
	for i := range o.chunks {
		if e := &h.list[o.chunks[i].hold]; e.batch != nil {
			return e.seq, e.batch.Released()
		}
	}
	return 0, false
}

// holdOf returns the hold of p's batch, taken when it is first asked for; deliverSegment drops it at its end.
func (s *sender) holdOf(p *pending) uint32 {
	if p.hold == 0 {
		p.hold = s.holds.take(p)
	}
	return p.hold
}

// limitPinned closes connections while more than PinnedMax bytes are pinned, those that hold the oldest batches first.
// It looks once a tick, and each shard for itself.
func (s *Shard) limitPinned() {
	if s.opts.Cursor.Held() <= int64(s.opts.Limits.PinnedMax) || s.pinnedTick == s.tick {
		return
	}
	s.pinnedTick = s.tick
	if !s.exceeded(QuotaPinned) {
		return
	}
	type holder struct {
		seq  uint64
		slot uint32
	}
	var holders []holder
	s.slab.each(func(c *conn) {
		if seq, released := s.sender.holds.oldest(&c.out); released {
			holders = append(holders, holder{seq, c.slot})
		}
	})
	slices.SortFunc(holders, func(a, b holder) int { return int(int64(a.seq - b.seq)) })
	for _, h := range holders {
		if s.opts.Cursor.Held() <= int64(s.opts.Limits.PinnedMax) {
			return
		}
		s.closePinning(s.slab.get(h.slot))
	}
}

// closePinning closes c as slow. A connection in the middle of a message is reset: the rest of it is what is pinned.
func (s *Shard) closePinning(c *conn) {
	if c.isClient() {
		s.stats.Slow[PolicyDisconnect].Add(1)
		c.reason = ReasonSlow
		if c.out.offset == 0 {
			s.end(c, ReasonSlow)
			return
		}
	}
	s.abort(c)
}
