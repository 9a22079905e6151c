package bus

import (
	"sync/atomic"

	"wsd/internal/routing"
)

// State is what Cursor.Next found.
type State uint8

// The states.
const (
	StateEmpty    State = iota // There is nothing for this shard.
	StateReady                 // There is a batch.
	StateDetached              // The ring went on without the shard: it has lost batches.
)

// detached is the bit of Cursor.next that is set while the shard is detached.
const detached = 1 << 63

// Cursor is a shard's position in the ring. The package comment says who may call what.
type Cursor struct {
	next  atomic.Uint64 // The sequence of the next batch to read, and the detached bit.
	ring  *Ring
	shard routing.ShardID
	_     [104]byte // Two cache lines each.
}

// Next returns the next batch that has a subscriber of this shard. It may also hold segments for other shards. Next
// returns the same batch until Advance.
func (c *Cursor) Next() (*Batch, State) {
	// Next reads the head only once. Skip has not checked a batch published after that. If this shard did not want it,
	// the writer might move the cursor past it while the shard has it in hand, and Advance would then skip the batch
	// after it.
	head := c.ring.head.Load()
	seq, attached := c.skip(head)
	if !attached {
		return nil, StateDetached
	}
	if seq >= head {
		return nil, StateEmpty
	}
	b := c.ring.slots[seq&c.ring.mask].Load()
	if b == nil || b.Seq != seq {
		// The writer can only overtake a cursor that Reattach has just placed: it did not wait for that one yet.
		return nil, StateDetached
	}
	return b, StateReady
}

// Peek returns the batch with sequence seq without moving the cursor there. Seq must not be lower than that of the
// batch from Next. Peek returns nil if the batch has not been published, or if it is gone because the shard was
// detached.
func (c *Cursor) Peek(seq uint64) *Batch {
	if seq >= c.ring.head.Load() {
		return nil
	}
	if b := c.ring.slots[seq&c.ring.mask].Load(); b != nil && b.Seq == seq {
		return b
	}
	return nil
}

// Before reports whether the shard has still to take batches below seq. Like Next, only the shard may call it.
func (c *Cursor) Before(seq uint64) bool {
	position, attached := c.skip(c.ring.head.Load())
	return attached && position < seq
}

// Waiting returns the size of all values on the bus from b, which Next returned, to the head. It includes values for
// other shards.
func (c *Cursor) Waiting(b *Batch) uint64 { return c.ring.bytes.Load() - b.bytesBefore }

// Held returns the bytes of layouts of batches that the ring has released and somebody still holds. Any goroutine may
// call it.
func (c *Cursor) Held() int64 { return c.ring.held.Load() }

// Advance says that the shard has taken the batch from Next. The shard may go on using the batch.
func (c *Cursor) Advance() {
	seq := c.next.Load()
	if seq&detached == 0 && c.next.CompareAndSwap(seq, seq+1) {
		c.ring.wakeWriter()
	}
}

// Reattach continues at the head after StateDetached. The shard has lost what was published in between.
func (c *Cursor) Reattach() {
	c.next.Store(c.ring.head.Load())
	c.ring.wakeWriter() // The writer may be waiting for the cursor to leave its old position.
}

// Lag returns how many batches wait for the shard. It looks at each batch: call it for a metrics scrape, not in every
// turn. Any goroutine may call it.
func (c *Cursor) Lag() (n uint64) {
	seq, head := c.next.Load()&^detached, c.ring.head.Load()
	if seq+uint64(len(c.ring.slots)) < head {
		return head - seq // Detached for so long that the batches are no longer in the ring.
	}
	for ; seq < head; seq++ {
		if b := c.ring.slots[seq&c.ring.mask].Load(); b == nil || b.Seq != seq || b.Shards.Has(c.shard) {
			n++
		}
	}
	return n
}

// skip moves the cursor past batches below head that have no subscriber of its shard, and returns where it then is.
// Both the shard and the writer call it, because a shard that nobody wakes must not hold the ring up.
func (c *Cursor) skip(head uint64) (seq uint64, attached bool) {
	seq = c.next.Load()
	for seq&detached == 0 && seq < head {
		to := seq
		for ; to < head; to++ {
			b := c.ring.slots[to&c.ring.mask].Load()
			if b == nil || b.Seq != to || b.Shards.Has(c.shard) {
				break
			}
		}
		if to == seq {
			break
		}
		if c.next.CompareAndSwap(seq, to) {
			seq = to
		} else {
			seq = c.next.Load() // The other one was faster, or the cursor has been detached.
		}
	}
	return seq &^ detached, seq&detached == 0
}
