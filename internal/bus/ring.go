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
	Slots    int           // How many batches the ring holds. A power of two.
	BytesMax int           // How many bytes the ring holds: batches with their layouts. One batch alone may be larger.
	StallMax time.Duration // How long the writer waits for a shard that makes no progress.
	Wake     func(routing.ShardID)
	Logger   *slog.Logger
}

// Stats counts what the ring does. Any goroutine may read it. The ring decides nothing by it.
type Stats struct {
	Batches       atomic.Uint64
	Records       atomic.Uint64
	Bytes         atomic.Uint64 // The size of all values published.
	Stalls        atomic.Uint64 // How often the writer waited for a shard.
	StallNanos    atomic.Uint64 // How long it waited in all.
	RetainedBytes atomic.Int64  // The bytes that the ring holds now.
	// The bytes of layouts of batches that the ring has released and somebody still holds.
	PinnedBytes atomic.Int64
	Detached    []atomic.Uint64 // By shard: how often it was detached.
	Wakeups     []atomic.Uint64 // By shard: how many batches were announced to it.
	BatchSize   *stats.Histogram
}

// Ring is the bus. The package comment says who may call what.
type Ring struct {
	o       Options
	stats   Stats
	slots   []atomic.Pointer[Batch]
	mask    uint64
	cursors []Cursor

	tail   uint64 // The oldest sequence that the ring holds. The writer owns it.
	passed uint64 // Every attached cursor was at or past this sequence at the last check. The writer owns it.

	_       [64]byte
	head    atomic.Uint64 // The sequence of the next batch. Sequences count from 1.
	_       [64]byte
	waiting atomic.Bool // The writer waits for a cursor to move. Shards read it at each Advance.
	moved   chan struct{}
	_       [64]byte

	// The ring decides by these three. The fields of Stats with the same meaning are copies for metrics.
	bytes atomic.Uint64 // The size of all values published. The writer changes it.
	// The bytes that the ring holds: batches and their layouts. The writer and the shards change it.
	retained atomic.Int64
	// The bytes of layouts of batches that the ring has released and somebody still holds, see Hold.
	held atomic.Int64
}

// New returns a ring to which no batch has been published.
func New(o Options) (*Ring, error) {
	switch {
	case o.Shards < 1 || o.Shards > routing.ShardsMax:
		return nil, fmt.Errorf("BUG: bus for %d shards, 1 to %d are possible", o.Shards, routing.ShardsMax)
	case o.Slots < 2 || o.Slots&(o.Slots-1) != 0:
		return nil, fmt.Errorf("bus.ring_batches is %d: it must be a power of two and at least 2", o.Slots)
	case o.BytesMax < 1:
		return nil, fmt.Errorf("bus.ring_bytes_max is %d: it must be positive", o.BytesMax)
	case o.StallMax <= 0:
		return nil, fmt.Errorf("bus.stall_max is %v: it must be positive", o.StallMax)
	case o.Wake == nil || o.Logger == nil:
		return nil, errors.New("BUG: bus options without Wake or Logger")
	}
	r := &Ring{
		o: o, slots: make([]atomic.Pointer[Batch], o.Slots), mask: uint64(o.Slots - 1),
		cursors: make([]Cursor, o.Shards),
		tail:    1, passed: 1, moved: make(chan struct{}, 1),
		stats: Stats{
			Detached: make([]atomic.Uint64, o.Shards), Wakeups: make([]atomic.Uint64, o.Shards),
			BatchSize: stats.NewHistogram(stats.BatchBounds()),
		},
	}
	r.head.Store(1)
	for i := range r.cursors {
		r.cursors[i].ring, r.cursors[i].shard = r, routing.ShardID(i)
		r.cursors[i].next.Store(1)
	}
	return r, nil
}

// Head returns the sequence that the next published batch gets. Any goroutine may call it.
func (r *Ring) Head() uint64 { return r.head.Load() }

// Shards returns how many shards read the ring. Any goroutine may call it.
func (r *Ring) Shards() int { return len(r.cursors) }

// Cursor returns the cursor of a shard.
func (r *Ring) Cursor(s routing.ShardID) *Cursor { return &r.cursors[s] }

// Stats returns the ring's counters.
func (r *Ring) Stats() *Stats { return &r.stats }

// Publish puts b at the head of the ring and wakes each shard that has a subscriber of it, once. While the ring is
// full, by batches or by bytes, Publish waits for the shards that need the oldest batch, and detaches those that make
// no progress within StallMax. It returns an error only if ctx ends first; b has then not been published. The writer's
// goroutine calls it.
func (r *Ring) Publish(ctx context.Context, b *Batch) error {
	if b.ring != nil {
		panic(fmt.Sprintf("BUG: batch %d is published twice", b.Seq))
	}
	seq := r.head.Load()
	for r.full(seq, b) {
		if r.tail < r.passed || r.slowest(seq) > r.tail {
			r.releaseTail()
			continue
		}
		if err := r.wait(ctx, seq); err != nil {
			return err
		}
	}
	b.Seq, b.ring, b.bytesBefore = seq, r, r.bytes.Load()
	b.Times.Published = now()
	r.addRetained(int64(b.memory) + b.layoutBytes.Load())
	stats.Count(&r.bytes, b.Bytes)
	r.slots[seq&r.mask].Store(b)
	r.head.Store(seq + 1)

	r.stats.Batches.Add(1)
	stats.Count(&r.stats.Records, b.Records)
	stats.Count(&r.stats.Bytes, b.Bytes)
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

// full reports whether the ring must release its oldest batch before it can take b.
func (r *Ring) full(seq uint64, b *Batch) bool {
	if r.tail == seq {
		return false // The ring is empty. It takes even a batch above BytesMax.
	}
	return seq-r.tail > r.mask || r.retained.Load()+int64(b.memory) > int64(r.o.BytesMax)
}

func (r *Ring) releaseTail() {
	slot := &r.slots[r.tail&r.mask]
	b := slot.Load()
	if b == nil || b.Seq != r.tail {
		panic(fmt.Sprintf("BUG: the ring's oldest batch %d is not in its slot", r.tail))
	}
	slot.Store(nil)
	r.addRetained(-b.release())
	r.tail++
}

// addRetained counts n more bytes that the ring holds, or fewer if n is negative. Any goroutine may call it.
func (r *Ring) addRetained(n int64) {
	r.retained.Add(n)
	r.stats.RetainedBytes.Add(n)
}

// addHeld counts n more bytes of layouts that somebody holds, or fewer if n is negative. Any goroutine may call it.
func (r *Ring) addHeld(n int64) {
	r.held.Add(n)
	r.stats.PinnedBytes.Add(n)
}

// slowest returns the lowest sequence that an attached cursor still needs, or seq if all have caught up. It moves
// cursors past batches that their shard does not want.
func (r *Ring) slowest(seq uint64) uint64 {
	lowest := seq
	for i := range r.cursors {
		if next, attached := r.cursors[i].skip(seq); attached {
			lowest = min(lowest, next)
		}
	}
	r.passed = lowest
	return lowest
}

// wait waits until no attached cursor needs the oldest batch. After StallMax it detaches the cursors that still do.
func (r *Ring) wait(ctx context.Context, seq uint64) error {
	began := time.Now()
	r.stats.Stalls.Add(1)
	defer func() { stats.Count(&r.stats.StallNanos, time.Since(began)) }()
	timer := time.NewTimer(r.o.StallMax)
	defer timer.Stop()
	defer r.waiting.Store(false)
	for {
		// Announce first and check second: a cursor that moves after the check sees the announcement.
		r.waiting.Store(true)
		if r.slowest(seq) > r.tail {
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

// wakeWriter wakes the writer if it waits for a cursor to move. A shard's goroutine calls it.
func (r *Ring) wakeWriter() {
	if r.waiting.Load() {
		select {
		case r.moved <- struct{}{}:
		default: // The channel has one already.
		}
	}
}

// detach detaches the cursors that need the oldest batch.
func (r *Ring) detach(seq uint64) {
	for i := range r.cursors {
		c := &r.cursors[i]
		next, attached := c.skip(seq)
		if !attached || next > r.tail || !c.next.CompareAndSwap(next, next|detached) {
			continue
		}
		r.stats.Detached[i].Add(1)
		r.o.Logger.Warn("a shard made no progress and was detached from the bus; its subscribers must resubscribe",
			"shard", i, "waited", r.o.StallMax, "batches", seq-next, "option", "bus.stall_max")
	}
	r.slowest(seq)
}
