package source

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
)

// recent keeps the record batches that were read last, as Kafka sent them, so that a client that comes back gets them
// without another read from Kafka. It copies batches from the response into blocks, so that many batches take one
// allocation. It drops the oldest block of all partitions first. Source.mu guards it; each partition's window also has
// a lock of its own for readers.
type recent struct {
	bytesMax int // Zero means that nothing is kept.
	bytes    int
	total    *atomic.Int64  // A copy of bytes, for metrics.
	blocks   []*recentBlock // The blocks of all partitions by age. Some have been dropped.
	first    int            // The index of the oldest block in blocks.
	free     [][]byte       // The memory of dropped blocks, for reuse: new memory costs as much as the copy.
}

// The sizes of a block. A partition's first blocks are small, because there may be thousands of quiet partitions.
const (
	recentBlockMin = 4 << 10
	recentBlockMax = 256 << 10
	recentFreeMax  = 4
)

// window is a partition's part of recent: its blocks, without a hole between them.
type window struct {
	mu     sync.Mutex
	blocks []*recentBlock
	next   int // The size of the next block.
}

// recentBlock covers the offsets [from, to). Its first batch may begin before from.
type recentBlock struct {
	w        *window
	from, to int64
	batches  []byte // It grows up to its capacity. What is in it does not change.
	dropped  bool   // Source.mu guards it.

	// How many callers of find have not called Block.Done yet. It grows under the window's lock only.
	readers atomic.Int32
}

// add notes that the offsets [from, to) have been read. Raw is the batch with their records, or nil if there is nothing
// to deliver. Offsets that were added before are ignored.
func (r *recent) add(w *window, from, to int64, raw []byte) {
	if r.bytesMax == 0 || to <= from {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.blocks); n > 0 {
		switch end := w.blocks[n-1].to; {
		case to <= end:
			return
		case from > end: // Something in between was skipped.
			r.dropAll(w)
		}
	}
	var b *recentBlock
	if n := len(w.blocks); n > 0 {
		b = w.blocks[n-1]
		from = b.to
	}
	if b == nil || len(raw) > cap(b.batches)-len(b.batches) {
		if len(raw) > r.bytesMax {
			r.dropAll(w)
			return
		}
		w.next = min(max(2*w.next, recentBlockMin), recentBlockMax)
		size := min(max(w.next, len(raw)), r.bytesMax)
		b = &recentBlock{w: w, from: from, batches: r.memory(size)}
		w.blocks = append(w.blocks, b)
		r.blocks = append(r.blocks, b)
		r.bytes += cap(b.batches)
	}
	b.batches = append(b.batches, raw...)
	b.to = to
}

// trim drops the oldest blocks until the rest is within the limit. It is apart from add because it takes other windows'
// locks.
func (r *recent) trim() {
	if r.bytesMax == 0 {
		return
	}
	for r.bytes > r.bytesMax && r.first < len(r.blocks) {
		b := r.blocks[r.first]
		r.blocks[r.first] = nil
		r.first++
		if b.dropped {
			continue
		}
		b.w.mu.Lock()
		if b.w.blocks[0] != b {
			panic(fmt.Sprintf("BUG: the oldest block [%d, %d) of all is not the oldest of its partition", b.from, b.to))
		}
		b.w.blocks[0] = nil
		b.w.blocks = b.w.blocks[1:]
		b.w.mu.Unlock()
		r.drop(b)
	}
	r.total.Store(int64(r.bytes))
	if r.first > 64 && r.first > len(r.blocks)/2 {
		r.blocks = append([]*recentBlock(nil), r.blocks[r.first:]...)
		r.first = 0
	}
}

// drop drops a block that is no longer in a window, so that nobody can find it.
func (r *recent) drop(b *recentBlock) {
	r.bytes -= cap(b.batches)
	if cap(b.batches) >= recentBlockMax && b.readers.Load() == 0 {
		if len(r.free) == recentFreeMax {
			r.free = append(r.free[:0], r.free[1:]...) // Drop the memory that was freed first.
		}
		r.free = append(r.free, b.batches[:0])
	}
	b.dropped, b.batches = true, nil
}

// memory returns an empty slice with room for at least size bytes.
func (r *recent) memory(size int) []byte {
	for i, m := range r.free {
		if cap(m) >= size && cap(m) <= 2*size {
			r.free = append(r.free[:i], r.free[i+1:]...)
			return m
		}
	}
	return make([]byte, 0, size)
}

// dropAll drops all blocks of the window. The caller holds the window's lock.
func (r *recent) dropAll(w *window) {
	for _, b := range w.blocks {
		r.drop(b)
	}
	w.blocks, w.next = nil, 0
}

// forget drops all blocks of the window.
func (r *recent) forget(w *window) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.dropAll(w)
}

// find returns the block that holds the offset before to, as far as it has been filled. Block.Done frees its memory for
// reuse. Any goroutine may call it.
func (w *window) find(to int64) (Block, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.blocks)
	i := sort.Search(n, func(i int) bool { return w.blocks[i].to >= to })
	if i == n || w.blocks[i].from >= to {
		return Block{}, false
	}
	b := w.blocks[i]
	b.readers.Add(1)
	return Block{recent: b, From: b.from, To: b.to, batches: b.batches}, true
}
