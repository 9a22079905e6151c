package bus

import (
	"sync/atomic"

	"wsd/internal/routing"
)

// State is what a cursor finds.
type State uint8

// The states.
const (
	StateEmpty    State = iota // Nothing for this shard.
	StateReady                 // A batch.
	StateDetached              // The shard was left behind: batches are lost to it.
)

// detached is the bit of Cursor.at that says so.
const detached = 1 << 63

// Cursor is where a shard is in the ring. See the package comment for who may call what.
type Cursor struct {
	at    atomic.Uint64 // Sequence of the next batch to read, and the detached bit.
	ring  *Ring
	shard routing.ShardID
	_     [104]byte // Two cache lines each.
}

// Next returns the next batch with a subscriber of this shard. It may hold segments of other shards, too. Until Advance it returns
// the same batch again.
func (c *Cursor) Next() (*Batch, State) {
	// One look at the head: a batch that comes after it has not been asked whether this shard wants it, and if it does not, the
	// writer may move the cursor on while the shard has it in hand, so that Advance would step over the one behind it.
	head := c.ring.head.Load()
	at, attached := c.skip(head)
	if !attached {
		return nil, StateDetached
	}
	if at >= head {
		return nil, StateEmpty
	}
	b := c.ring.slots[at&c.ring.mask].Load()
	if b == nil || b.Seq != at {
		// Only a cursor that Reattach has just placed can be overtaken: the writer did not wait for it yet.
		return nil, StateDetached
	}
	return b, StateReady
}

// Peek returns the batch with sequence seq, at or after the one that Next returned, without moving there; nil if it has not been
// published, or is gone because the shard was detached.
func (c *Cursor) Peek(seq uint64) *Batch {
	if seq >= c.ring.head.Load() {
		return nil
	}
	if b := c.ring.slots[seq&c.ring.mask].Load(); b != nil && b.Seq == seq {
		return b
	}
	return nil
}

// Waiting returns the bytes of values on the bus from b, which Next returned, to the head, those for other shards included.
func (c *Cursor) Waiting(b *Batch) uint64 { return c.ring.bytes.Load() - b.before }

// Pinned returns the bytes of layouts of batches that the ring has released and somebody still holds. Any goroutine.
func (c *Cursor) Pinned() int64 { return c.ring.held.Load() }

// Advance says that the batch from Next is finished. The shard may go on using it.
func (c *Cursor) Advance() {
	at := c.at.Load()
	if at&detached == 0 && c.at.CompareAndSwap(at, at+1) {
		c.ring.tellWriter()
	}
}

// Reattach continues at the head, after StateDetached. What was published between is lost to this shard.
func (c *Cursor) Reattach() {
	c.at.Store(c.ring.head.Load())
	c.ring.tellWriter() // It may be waiting for where the cursor was before.
}

// Lag returns how many batches wait for the shard. It looks at each: for a metrics scrape, not for every turn. Any goroutine.
func (c *Cursor) Lag() (n uint64) {
	at, head := c.at.Load()&^detached, c.ring.head.Load()
	if at+uint64(len(c.ring.slots)) < head {
		return head - at // Detached for long: what it missed is no longer there to be looked at.
	}
	for ; at < head; at++ {
		if b := c.ring.slots[at&c.ring.mask].Load(); b == nil || b.Seq != at || b.Shards.Has(c.shard) {
			n++
		}
	}
	return n
}

// skip moves the cursor past batches below head that have no subscriber of its shard, and returns where it then is. The shard and
// the writer both do it: a shard that nobody wakes must not hold the ring up.
func (c *Cursor) skip(head uint64) (at uint64, attached bool) {
	at = c.at.Load()
	for at&detached == 0 && at < head {
		to := at
		for ; to < head; to++ {
			b := c.ring.slots[to&c.ring.mask].Load()
			if b == nil || b.Seq != to || b.Shards.Has(c.shard) {
				break
			}
		}
		if to == at {
			break
		}
		if c.at.CompareAndSwap(at, to) {
			at = to
		} else {
			at = c.at.Load() // The other one was faster, or it is detached.
		}
	}
	return at &^ detached, at&detached == 0
}
