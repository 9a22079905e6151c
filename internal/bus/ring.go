package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"wsd/internal/routing"
	"wsd/internal/stats"
)

// Options is what a ring is built from.
type Options struct {
	Shards   int
	Slots    int           // Batches the ring holds; a power of two.
	BytesMax int           // Bytes the ring holds: batches with their layouts. One batch may be larger.
	StallMax time.Duration // How long the writer waits for a shard that makes no progress.
	Wake     func(routing.ShardID)
	Logger   *slog.Logger
}

// Stats counts what the ring does. Any goroutine may read it.
type Stats struct {
	Batches, Records, Bytes atomic.Uint64
	Stalls                  atomic.Uint64   // Times the writer waited for a shard.
	StallNanos              atomic.Uint64   // How long it waited in all.
	RetainedBytes           atomic.Int64    // Bytes the ring holds now.
	PinnedBytes             atomic.Int64    // Bytes of layouts of batches that the ring has let go, of each while its Pin is held.
	Detached                []atomic.Uint64 // Times each shard was detached.
	Wakeups                 []atomic.Uint64 // Batches announced to each shard.
	BatchSize               *stats.Histogram
}

// Ring is the bus. See the package comment for who may call what.
type Ring struct {
	o       Options
	stats   Stats
	slots   []atomic.Pointer[Batch]
	mask    uint64
	cursors []Cursor

	tail   uint64 // Oldest sequence that the ring holds. The writer's.
	passed uint64 // Every attached cursor was at or past this sequence when last looked at. The writer's.

	_       [64]byte
	head    atomic.Uint64 // Sequence of the next batch; they count from 1.
	_       [64]byte
	waiting atomic.Bool // The writer waits for a cursor to move.

	_ [64]byte // Shards read waiting at each Advance.
	// What follows decides something. The figures of the same name in stats are copies, which nobody but metrics reads.
	bytes    atomic.Uint64 // Bytes of the values of all batches published. The writer changes it.
	retained atomic.Int64  // Bytes that the ring holds: batches and their layouts. The writer and the shards change it.
	held     atomic.Int64  // Bytes of layouts of batches that the ring has released and somebody holds, see Pin.
	moved    chan struct{}
}

// New returns a ring to which no batch has been published.
func New(o Options) (*Ring, error) {
	switch {
	case o.Shards < 1 || o.Shards > routing.ShardsMax:
		return nil, fmt.Errorf("BUG: bus for %d shards, 1 to %d are possible", o.Shards, routing.ShardsMax)
	case o.Slots < 2 || o.Slots&(o.Slots-1) != 0:
		return nil, fmt.Errorf("bus.ring_batches is %d, it must be a power of two from 2 up", o.Slots)
	case o.BytesMax < 1:
		return nil, fmt.Errorf("bus.ring_bytes_max is %d, it must be positive", o.BytesMax)
	case o.StallMax <= 0:
		return nil, fmt.Errorf("bus.stall_max is %v, it must be positive", o.StallMax)
	case o.Wake == nil || o.Logger == nil:
		return nil, errors.New("BUG: bus options without Wake or Logger")
	}
	r := &Ring{
		o: o, slots: make([]atomic.Pointer[Batch], o.Slots), mask: uint64(o.Slots - 1), cursors: make([]Cursor, o.Shards),
		tail: 1, passed: 1, moved: make(chan struct{}, 1),
		stats: Stats{
			Detached: make([]atomic.Uint64, o.Shards), Wakeups: make([]atomic.Uint64, o.Shards), BatchSize: stats.NewHistogram(stats.BatchBounds()),
		},
	}
	r.head.Store(1)
	for i := range r.cursors {
		r.cursors[i].ring, r.cursors[i].shard = r, routing.ShardID(i)
		r.cursors[i].at.Store(1)
	}
	return r, nil
}

// Head returns the sequence that the next published batch gets. Any goroutine.
func (r *Ring) Head() uint64 { return r.head.Load() }

// Cursor returns the cursor of a shard.
func (r *Ring) Cursor(s routing.ShardID) *Cursor { return &r.cursors[s] }

// Shards returns how many shards read the ring. Any goroutine.
func (r *Ring) Shards() int { return len(r.cursors) }

// Stats returns the ring's counters.
func (r *Ring) Stats() *Stats { return &r.stats }

// Publish puts b at the head of the ring and wakes the shards that have a subscriber of it, each once. While the ring is full, by
// batches or by bytes, it waits for the shards that hold the oldest batch; those that make no progress within StallMax are
// detached. It returns an error only when ctx ends first; b has then not been published. The writer's goroutine.
func (r *Ring) Publish(ctx context.Context, b *Batch) error {
	seq := r.head.Load()
	for r.full(seq, b) {
		if r.tail < r.passed || r.look(seq) > r.tail {
			r.releaseTail()
			continue
		}
		if err := r.wait(ctx, seq); err != nil {
			return err
		}
	}
	b.Seq, b.ring, b.before = seq, r, r.bytes.Load()
	r.retain(int64(b.memory) + b.layouts.Load())
	r.slots[seq&r.mask].Store(b)
	r.bytes.Add(uint64(b.Bytes))
	r.head.Store(seq + 1)

	r.stats.Batches.Add(1)
	r.stats.Records.Add(uint64(b.Records))
	r.stats.Bytes.Add(uint64(b.Bytes))
	if b.Break == nil {
		r.stats.BatchSize.Observe(float64(b.Records), 1)
	}
	for s := range b.Shards.All() {
		if int(s) >= len(r.cursors) {
			break
		}
		r.stats.Wakeups[s].Add(1)
		r.o.Wake(s)
	}
	return nil
}

// full reports whether the oldest batch must go before b can come.
func (r *Ring) full(seq uint64, b *Batch) bool {
	if r.tail == seq {
		return false // Empty: even a batch above BytesMax goes in.
	}
	return seq-r.tail > r.mask || r.retained.Load()+int64(b.memory) > int64(r.o.BytesMax)
}

func (r *Ring) releaseTail() {
	slot := &r.slots[r.tail&r.mask]
	b := slot.Load()
	slot.Store(nil)
	r.retain(-b.release())
	r.tail++
}

// retain counts n more bytes that the ring holds, or fewer if n is negative. Any goroutine.
func (r *Ring) retain(n int64) {
	r.retained.Add(n)
	r.stats.RetainedBytes.Add(n)
}

// hold counts n more bytes of layouts that are held. Any goroutine.
func (r *Ring) hold(n int64) {
	r.held.Add(n)
	r.stats.PinnedBytes.Add(n)
}

// look returns the lowest sequence that an attached cursor still needs, seq when all have caught up, and moves those on that have
// no interest in what they are at.
func (r *Ring) look(seq uint64) uint64 {
	lowest := seq
	for i := range r.cursors {
		if at, attached := r.cursors[i].skip(seq); attached {
			lowest = min(lowest, at)
		}
	}
	r.passed = lowest
	return lowest
}

// wait waits until no attached cursor needs the oldest batch. Cursors that still do after StallMax are detached.
func (r *Ring) wait(ctx context.Context, seq uint64) error {
	began := time.Now()
	r.stats.Stalls.Add(1)
	defer func() { r.stats.StallNanos.Add(uint64(time.Since(began))) }()
	timer := time.NewTimer(r.o.StallMax)
	defer timer.Stop()
	defer r.waiting.Store(false)
	for {
		// Announce first, look second: a cursor that moves after the look sees the announcement.
		r.waiting.Store(true)
		if r.look(seq) > r.tail {
			return nil
		}
		select {
		case <-r.moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			r.detach(seq)
			return nil
		}
	}
}

// tellWriter says that a cursor has moved, if the writer waits for that. A shard's goroutine.
func (r *Ring) tellWriter() {
	if r.waiting.Load() {
		select {
		case r.moved <- struct{}{}:
		default: // There is one in the channel already.
		}
	}
}

// detach leaves the shards behind that hold the oldest batch.
func (r *Ring) detach(seq uint64) {
	for i := range r.cursors {
		c := &r.cursors[i]
		at, attached := c.skip(seq)
		if !attached || at > r.tail || !c.at.CompareAndSwap(at, at|detached) {
			continue
		}
		r.stats.Detached[i].Add(1)
		r.o.Logger.Warn("a shard made no progress and was detached from the bus; its subscribers will be told to come back when it moves again",
			"shard", i, "waited", r.o.StallMax, "batches", seq-at, "option", "bus.stall_max")
	}
	r.look(seq)
}
