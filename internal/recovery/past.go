package recovery

import (
	"container/list"
	"sort"
	"sync"
	"time"

	"wsd/internal/source"
)

const (
	// pastIdle is how long a block is kept that nobody asks for.
	pastIdle = 10 * time.Second
	// pastOverhead is what a block counts besides its batches: one of aborted transactions only has none.
	pastOverhead = 512
	// pastShared is the part of past.bytesMax that shared blocks may take, in quarters.
	pastShared = 3
)

// How many offsets a block from Kafka covers: a power of two, so that all blocks fit into one grid. Blocks of
// blockOffsets are read as long as the size of records is not known.
const (
	blockOffsets    = 1 << 12
	blockOffsetsMax = 1 << 16
)

// past keeps blocks that were read again, for the queries that need them next. Any goroutine may use it. Blocks that
// more than one owner has used are not pushed out by those that one has, so that a client that goes through a large log
// alone does not make others read theirs again.
type past struct {
	bytesMax int

	mu    sync.Mutex
	bytes [2]int                  // By pastBlock.shared as 0 or 1.
	order [2]*list.List           // The blocks, likewise, that were used last first.
	kept  map[stream][]*pastBlock // By offset. No block overlaps another.
}

type pastBlock struct {
	source.Block
	st     stream
	used   time.Time
	owner  uint64 // Who used it first.
	known  bool   // Somebody has used it.
	shared int    // 1 if others have used it, too, else 0.
	place  *list.Element
}

func (b *pastBlock) size() int { return b.Bytes() + pastOverhead }

func (p *past) init(bytesMax int) {
	p.bytesMax, p.kept = bytesMax, make(map[stream][]*pastBlock)
	p.order = [2]*list.List{list.New(), list.New()}
}

// search returns the index of the first block of the list that ends after an offset.
func search(blocks []*pastBlock, offset int64) int {
	return sort.Search(len(blocks), func(i int) bool { return blocks[i].To > offset })
}

// find returns the block that holds an offset.
func (p *past) find(st stream, offset int64) (b source.Block, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := p.kept[st]
	if i := search(blocks, offset); i < len(blocks) && blocks[i].From <= offset {
		return blocks[i].Block, true
	}
	return source.Block{}, false
}

// gap returns the range to read for an offset that no block holds: a block of the grid, without what other blocks hold
// and what is not routed yet. The nearest block says how large records are.
func (p *past) gap(st stream, offset, routed int64) (from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := p.kept[st]
	i := search(blocks, offset)
	low, high, span := int64(0), routed, int64(blockOffsets)
	if i < len(blocks) {
		high = min(high, blocks[i].From)
		span = blocks[i].span()
	}
	if i > 0 {
		low = blocks[i-1].To
		span = blocks[i-1].span()
	}
	from = offset - offset%span
	return max(from, low), min(from+span, high)
}

// span returns how many offsets a block covers that is as dense as b.
func (b *pastBlock) span() int64 {
	offsets := b.To - b.From
	span := int64(1)
	for span < blockOffsetsMax && int64(b.Bytes())*2*span <= blockBytes*offsets {
		span *= 2
	}
	return span
}

// add keeps a block. It makes room by forgetting the blocks that were used longest ago.
func (p *past) add(st stream, block source.Block, now time.Time) {
	b := &pastBlock{Block: block, st: st, used: now}
	if b.size() > p.bytesMax {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.bytes[0]+p.bytes[1]+b.size() > p.bytesMax {
		p.forgetLocked(p.oldestLocked())
	}
	blocks := p.kept[st]
	i := search(blocks, b.From)
	blocks = append(blocks, nil)
	copy(blocks[i+1:], blocks[i:])
	blocks[i] = b
	p.kept[st] = blocks
	p.enterLocked(b)
}

// oldestLocked returns the block to forget first.
func (p *past) oldestLocked() *pastBlock {
	for _, order := range p.order {
		if last := order.Back(); last != nil {
			return last.Value.(*pastBlock)
		}
	}
	panic("BUG: no block is left to forget, but bytes are")
}

// enterLocked puts a block into its order, as the one that was used last.
func (p *past) enterLocked(b *pastBlock) {
	p.bytes[b.shared] += b.size()
	b.place = p.order[b.shared].PushFront(b)
}

// leaveLocked undoes enterLocked.
func (p *past) leaveLocked(b *pastBlock) {
	p.bytes[b.shared] -= b.size()
	p.order[b.shared].Remove(b.place)
}

func (p *past) forgetLocked(b *pastBlock) {
	p.leaveLocked(b)
	blocks := p.kept[b.st]
	i := search(blocks, b.From)
	copy(blocks[i:], blocks[i+1:])
	blocks[len(blocks)-1] = nil
	if p.kept[b.st] = blocks[:len(blocks)-1]; len(blocks) == 1 {
		delete(p.kept, b.st)
	}
}

// owners says whether a block is used by one owner or by several.
type owners struct {
	some, several bool
	first         uint64
}

func (o *owners) add(owner uint64) {
	if o.some && owner != o.first {
		o.several = true
	}
	if !o.some {
		o.some, o.first = true, owner
	}
}

// used notes that the block that begins at an offset is used by owners, if it is kept.
func (p *past) used(st stream, from int64, by *owners, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := p.kept[st]
	i := search(blocks, from)
	if i == len(blocks) || blocks[i].From != from {
		return
	}
	b := blocks[i]
	p.leaveLocked(b)
	if !b.known {
		b.known, b.owner = true, by.first
	}
	b.used = now
	if by.several || by.first != b.owner {
		b.shared = 1
	}
	p.enterLocked(b)
	for p.bytes[1] > p.bytesMax/4*pastShared { // The others have to have room as well.
		old := p.order[1].Back().Value.(*pastBlock)
		p.leaveLocked(old)
		old.shared = 0
		p.enterLocked(old)
	}
}

// expire forgets blocks that were not used lately.
func (p *past) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, order := range p.order {
		for e := order.Back(); e != nil && now.Sub(e.Value.(*pastBlock).used) > pastIdle; e = order.Back() {
			p.forgetLocked(e.Value.(*pastBlock))
		}
	}
}

// size returns how many bytes and streams are kept.
func (p *past) size() (bytes, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[0] + p.bytes[1], len(p.kept)
}
