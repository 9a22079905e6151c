package recovery

import (
	"sort"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// index is what a block holds of one channel, for its QueryLast queries. They need the last records, and a walk goes
// up. So a first walk notes where the records are, and a second one collects those that somebody needs.
type index struct {
	offsets []uint64
	sizes   []int   // The size of each record, as limits count it.
	times   []int64 // Their timestamps, while somebody asks for an age.
	timed   bool
	wanted  []bool
	records []bus.Record // Those that are wanted; the others are empty.
	next    int          // The record that the second walk comes to next.
}

// collectLast walks through a block for queries of kind QueryLast.
func (p *pass) collectLast(b source.Block, list []*query) error {
	defer p.walker.Close()
	from, to := b.To, b.From
	for _, q := range list {
		from = min(from, max(b.From, q.start))
		to = max(to, q.edge)
		if p.indexes[q.Channel] == nil {
			p.indexes[q.Channel] = &index{}
		}
		p.indexes[q.Channel].timed = p.indexes[q.Channel].timed || q.Oldest != 0
	}
	for p.walker.Open(p.st.Stream, b, from, to); p.walker.Next(); p.slot.walked() {
		if x := p.indexes[string(p.walker.Channel())]; x != nil {
			x.offsets = append(x.offsets, p.walker.Offset())
			x.sizes = append(x.sizes, p.walker.Bytes())
			if x.timed {
				x.times = append(x.times, p.walker.Millis())
			}
			if p.note(len(x.offsets)) && p.tooMuch() {
				return errMemory
			}
		}
	}
	if err := p.walker.Err(); err != nil {
		return err
	}
	for _, x := range p.indexes {
		x.wanted, x.records = make([]bool, len(x.offsets)), make([]bus.Record, len(x.offsets))
	}
	from, to = b.To, b.From
	for _, q := range list {
		x := p.indexes[q.Channel]
		lo, hi, _, _ := x.of(q)
		for i := lo; i < hi; i++ {
			x.wanted[i] = true
		}
		if lo < hi {
			from, to = min(from, inKafka(x.offsets[lo])-1), max(to, inKafka(x.offsets[hi-1]))
		}
	}
	for _, x := range p.indexes {
		x.next = sort.Search(len(x.offsets), func(i int) bool { return inKafka(x.offsets[i]) > from })
	}
	for p.walker.Open(p.st.Stream, b, from, to); p.walker.Next(); p.slot.walked() {
		x := p.indexes[string(p.walker.Channel())]
		if x == nil {
			continue
		}
		if x.wanted[x.next] {
			if p.memory > 0 && p.tooMuch() {
				return errMemory
			}
			x.records[x.next] = p.walker.Record()
			p.collect(&x.records[x.next])
		}
		x.next++
	}
	return p.walker.Err()
}

// of returns which of the records a query gets, their size, and whether its answer is full then.
func (x *index) of(q *query) (lo, hi, bytes int, full bool) {
	hi = sort.Search(len(x.offsets), func(i int) bool { return x.offsets[i] > published(q.edge) })
	for lo = hi; lo > 0 && x.offsets[lo-1] > q.After; lo-- {
		count, size := q.count+hi-lo, bytes+x.sizes[lo-1]
		if count == q.RecordsMax || count > 0 && q.bytes+size > q.BytesMax || q.Oldest != 0 && x.times[lo-1] < q.Oldest {
			return lo, hi, bytes, true
		}
		bytes = size
	}
	return lo, hi, bytes, q.count+hi-lo == q.RecordsMax
}

// settleLast gives a query what was collected for it, and answers it if it needs no more.
func (p *pass) settleLast(q *query, b *source.Block) {
	x := p.indexes[q.Channel]
	lo, hi, bytes, full := x.of(q)
	parts := len(q.parts)
	q.add(x.records[lo:hi], x.records, bytes)
	q.edge = max(b.From, q.start)
	if full || b.First || q.edge == q.start {
		p.settled(q, q.success())
		return
	}
	p.keep(q, q.parts[parts:])
}
