package source

import (
	"sort"
	"sync"
	"sync/atomic"
)

// recent keeps the record batches that were read last, as Kafka sent them, so that a client which comes back is served without asking
// Kafka again. They are copied from the response into blocks, one allocation for many batches; the oldest block of all partitions goes
// first. Source.mu guards it; each partition's window has a lock of its own for those who read.
type recent struct {
	bytesMax int // 0: nothing is kept.
	bytes    int
	total    *atomic.Int64  // Shows bytes to others.
	blocks   []*recentBlock // Of all partitions by age, some already dropped.
	first    int            // Of those in blocks.
	free     [][]byte       // Of blocks that were dropped, to be used again: memory that is new costs as much as the copy.
}

// Sizes of a block: a partition's first are small, because thousands of quiet partitions may be read.
const (
	recentBlockMin = 4 << 10
	recentBlockMax = 256 << 10
	recentFreeMax  = 4
)

// window is a partition's part of recent: blocks without a hole between them.
type window struct {
	mu     sync.Mutex
	blocks []*recentBlock
	next   int // Bytes of the next block.
}

// recentBlock covers offsets from from to to, to excluded. Its batches begin there, but the first may begin before.
type recentBlock struct {
	w        *window
	from, to int64
	batches  []byte // Grows up to its capacity; what is in it does not change.
	dropped  bool   // Under recent's lock.

	readers atomic.Int32 // Who has it from find and not called Block.Done yet. It grows under the window's lock only.
}

// add notes that offsets from from to to have been read, to excluded; raw is the batch with their records, nil if there is nothing to
// deliver. What was added before is left out.
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
		case from > end: // Something between was passed over.
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

// trim drops the oldest blocks until what is kept is within its limit. It is apart from add because it takes other windows' locks.
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
			panic("BUG: the oldest block of all is not the oldest of its partition")
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

// drop forgets a block that is in no window any more: nobody finds it from now on.
func (r *recent) drop(b *recentBlock) {
	r.bytes -= cap(b.batches)
	if cap(b.batches) >= recentBlockMax && b.readers.Load() == 0 {
		if len(r.free) == recentFreeMax {
			r.free = append(r.free[:0], r.free[1:]...) // Of the sizes that were in use longest ago.
		}
		r.free = append(r.free, b.batches[:0])
	}
	b.dropped, b.batches = true, nil
}

// memory returns room for so many bytes, or more.
func (r *recent) memory(size int) []byte {
	for i, m := range r.free {
		if cap(m) >= size && cap(m) <= 2*size {
			r.free = append(r.free[:i], r.free[i+1:]...)
			return m
		}
	}
	return make([]byte, 0, size)
}

// dropAll forgets the whole window, whose lock is held.
func (r *recent) dropAll(w *window) {
	for _, b := range w.blocks {
		r.drop(b)
	}
	w.blocks, w.next = nil, 0
}

// forget drops the whole window.
func (r *recent) forget(w *window) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.dropAll(w)
}

// find returns what the window has of the block that holds the offset before to. Its memory is used again after Block.Done. Any goroutine.
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
