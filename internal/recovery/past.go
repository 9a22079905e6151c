package recovery

import (
	"sort"
	"sync"
	"time"

	"wsd/internal/source"
)

// pastIdle is how long a block is kept that nobody asks for.
const pastIdle = 10 * time.Second

// past keeps blocks that were read again, for the queries that need them next. Any goroutine may use it.
type past struct {
	bytesMax int

	mu    sync.Mutex
	bytes int
	kept  map[stream][]*pastBlock // By offset. No block overlaps another.
}

type pastBlock struct {
	source.Block
	used time.Time
}

func (p *past) init(bytesMax int) {
	p.bytesMax, p.kept = bytesMax, make(map[stream][]*pastBlock)
}

// find returns the block that holds the offset before to. If there is none, below is where the next lower block ends,
// or 0 if there is no lower block.
func (p *past) find(st stream, to int64, now time.Time) (b source.Block, ok bool, below int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.kept[st]
	i := sort.Search(len(list), func(i int) bool { return list[i].To >= to })
	if i < len(list) && list[i].From < to {
		list[i].used = now
		return list[i].Block, true, 0
	}
	if i > 0 {
		below = list[i-1].To
	}
	return source.Block{}, false, below
}

// add keeps a block. It makes room by forgetting the blocks that were used longest ago.
func (p *past) add(st stream, b source.Block, now time.Time) {
	if b.Bytes() > p.bytesMax {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.bytes+b.Bytes() > p.bytesMax {
		p.forgetOldestLocked()
	}
	list := p.kept[st]
	i := sort.Search(len(list), func(i int) bool { return list[i].To >= b.To })
	list = append(list, nil)
	copy(list[i+1:], list[i:])
	list[i] = &pastBlock{b, now}
	p.kept[st] = list
	p.bytes += b.Bytes()
}

func (p *past) forgetOldestLocked() {
	var oldest *pastBlock
	var oldestStream stream
	for st, list := range p.kept {
		for _, b := range list {
			if oldest == nil || b.used.Before(oldest.used) {
				oldest, oldestStream = b, st
			}
		}
	}
	p.removeLocked(oldestStream, func(b *pastBlock) bool { return b == oldest })
}

// expire forgets blocks that were not used lately.
func (p *past) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for st := range p.kept {
		p.removeLocked(st, func(b *pastBlock) bool { return now.Sub(b.used) > pastIdle })
	}
}

// removeLocked forgets the stream's blocks for which gone returns true.
func (p *past) removeLocked(st stream, gone func(*pastBlock) bool) {
	list := p.kept[st]
	kept := list[:0]
	for _, b := range list {
		if gone(b) {
			p.bytes -= b.Bytes()
		} else {
			kept = append(kept, b)
		}
	}
	clear(list[len(kept):])
	if p.kept[st] = kept; len(kept) == 0 {
		delete(p.kept, st)
	}
}

// size returns how many bytes and streams are kept. A stream may have no bytes: a block of nothing but aborted
// transactions is empty.
func (p *past) size() (bytes, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes, len(p.kept)
}
