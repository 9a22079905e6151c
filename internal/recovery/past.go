package recovery

import (
	"container/list"
	"slices"
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

// How many offsets a block from Kafka covers: a power of two, so that all blocks fit into one grid. The block that was
// read last says how large records are, and thus how many offsets the next one covers. Blocks of blockOffsets are read
// if there is none.
const (
	blockOffsets    = 1 << 8
	blockOffsetsMax = 1 << 16
)

// past keeps blocks that were read again, for the queries that need them next. Any goroutine may use it. Blocks that
// more than one owner has used are not pushed out by those that one has, so that a client that goes through a large log
// alone does not make others read theirs again.
type past struct {
	bytesMax   int // Fixed after init, like blockBytes.
	blockBytes int // The size at which a block from Kafka ends.

	mu      sync.Mutex
	bytes   [2]int        // By pastBlock.shared as 0 or 1.
	order   [2]*list.List // The blocks, likewise, that were used last first.
	streams map[stream]*pastStream
}

// pastStream is what is kept of a stream.
type pastStream struct {
	blocks []*pastBlock // By offset. No block overlaps another.
	span   int64        // How many offsets the next block covers.
	read   time.Time    // When the last block was read.
}

type pastBlock struct {
	source.Block
	of     *pastStream
	used   time.Time
	owner  uint64 // Who used it first.
	known  bool   // Somebody has used it.
	shared int    // 1 if others have used it, too, else 0.
	place  *list.Element
}

func (b *pastBlock) size() int { return b.Bytes() + pastOverhead }

func (p *past) init(bytesMax, blockBytes int) {
	p.bytesMax, p.blockBytes, p.streams = bytesMax, blockBytes, make(map[stream]*pastStream)
	p.order = [2]*list.List{list.New(), list.New()}
}

// search returns the index of the stream's first block that ends after an offset.
func (s *pastStream) search(offset int64) int {
	return sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].To > offset })
}

// holdingLocked returns the block that holds an offset, or nil.
func (p *past) holdingLocked(st stream, offset int64) *pastBlock {
	s := p.streams[st]
	if s == nil {
		return nil
	}
	if i := s.search(offset); i < len(s.blocks) && s.blocks[i].From <= offset {
		return s.blocks[i]
	}
	return nil
}

// find returns the block that holds an offset.
func (p *past) find(st stream, offset int64) (b source.Block, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.holdingLocked(st, offset); b != nil {
		return b.Block, true
	}
	return source.Block{}, false
}

// gap returns the range to read for an offset that no block holds: a block of the grid, without what other blocks hold
// and what is not routed yet. The block may go on up to toMax.
func (p *past) gap(st stream, offset, routed int64) (from, to, toMax int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[st]
	if s == nil {
		s = &pastStream{span: blockOffsets}
	}
	from = offset - offset%s.span
	toMax = routed
	i := s.search(offset)
	if i < len(s.blocks) {
		toMax = min(toMax, s.blocks[i].From)
	}
	to = min(from+s.span, toMax)
	if i > 0 {
		from = max(from, s.blocks[i-1].To)
	}
	return from, to, toMax
}

// add keeps a block. It makes room by forgetting the blocks that were used longest ago.
func (p *past) add(st stream, block source.Block, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[st]
	if s == nil {
		s = &pastStream{}
		p.streams[st] = s
	}
	s.read, s.span = now, 1
	for s.span < blockOffsetsMax && int64(block.Bytes())*2*s.span <= int64(p.blockBytes)*(block.To-block.From) {
		s.span *= 2
	}
	b := &pastBlock{Block: block, of: s, used: now}
	if b.size() > p.bytesMax {
		return
	}
	for p.bytes[0]+p.bytes[1]+b.size() > p.bytesMax {
		p.forgetLocked(p.oldestLocked())
	}
	s.blocks = slices.Insert(s.blocks, s.search(b.From), b)
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
	i := b.of.search(b.From)
	b.of.blocks = slices.Delete(b.of.blocks, i, i+1)
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
	b := p.holdingLocked(st, from)
	if b == nil || b.From != from {
		return
	}
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
	for st, s := range p.streams {
		if len(s.blocks) == 0 && now.Sub(s.read) > pastIdle {
			delete(p.streams, st)
		}
	}
}

// size returns how many bytes are kept, and of how many streams. A stream may have no bytes.
func (p *past) size() (bytes, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[0] + p.bytes[1], len(p.streams)
}
