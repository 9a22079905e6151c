package bus

import (
	"bytes"
	"time"
	"unsafe"

	"wsd/internal/routing"
)

// BuilderOptions bounds a batch: it is full when it reaches either.
type BuilderOptions struct {
	RecordsMax int
	BytesMax   int // Bytes of values.
}

// Builder gathers records into a batch.
type Builder struct {
	o        BuilderOptions
	batch    *Batch
	segments map[routing.ChannelID]place
	newest   *Segment // That the last record went to; nil in an empty batch.
	stretch  uint32   // Segments of earlier stretches take no more records.
	arena    []byte   // The unused rest is arena[len:cap].
	next     int      // Size of the next piece of arena.
}

// place is where the records of a channel are put.
type place struct {
	segment *Segment
	stretch uint32
}

// The arena of a batch grows piece by piece, doubling, so that a batch of one small record stays small and a large one takes few
// allocations. A value that would waste much of a piece gets memory of its own.
const (
	arenaMin = 256
	arenaMax = 64 << 10
)

// NewBuilder returns a builder with an empty batch.
func NewBuilder(o BuilderOptions) *Builder {
	return &Builder{o: o, segments: make(map[routing.ChannelID]place)}
}

// Add puts a copy of r, which came at ts, behind the channel's other records and returns whether the batch is now full. Full or
// not, a batch takes every record.
func (b *Builder) Add(ch routing.Channel, r Record, ts time.Time) (full bool) {
	if b.batch == nil {
		b.batch = &Batch{Oldest: ts, memory: batchSize}
		b.arena, b.next = nil, arenaMin
	}
	batch := b.batch
	seg := b.newest // Records of one channel often come one behind the other.
	if seg == nil || seg.Channel != ch.ID {
		seg = b.segment(ch)
		b.newest = seg
	}
	size := len(r.Value)
	shared := len(r.JSON) > 0 && len(r.JSON) == size && unsafe.SliceData(r.JSON) == unsafe.SliceData(r.Value)
	r.Value = b.keep(r.Value)
	if shared {
		r.JSON = r.Value
	} else {
		r.JSON = b.keep(r.JSON)
	}
	seg.Records = append(seg.Records, r)
	seg.Bytes += size
	batch.Records++
	batch.Bytes += size
	seg.Shards.Union(&ch.Shards)
	batch.Shards.Union(&ch.Shards)
	if ts.Before(batch.Oldest) {
		batch.Oldest = ts
	}
	return batch.Records >= b.o.RecordsMax || batch.Bytes >= b.o.BytesMax
}

// segment returns where records of the channel are put, a new segment when there is none in this stretch.
func (b *Builder) segment(ch routing.Channel) *Segment {
	if at := b.segments[ch.ID]; at.segment != nil && at.stretch == b.stretch {
		return at.segment
	}
	seg := &Segment{Channel: ch.ID, Name: ch.Name, At: ch.At, batch: b.batch}
	b.segments[ch.ID] = place{seg, b.stretch}
	b.batch.Segments = append(b.batch.Segments, seg)
	b.batch.memory += segmentSize
	return seg
}

// AddMessage is Add for a message, which is to stand between the records that were added before it and those that come after it. Segments
// are delivered in their order, so that each is then continued in another one.
func (b *Builder) AddMessage(ch routing.Channel, r Record, ts time.Time) (full bool) {
	ch.Name = ""
	if b.newest == nil || b.newest.Channel != ch.ID {
		b.stretch++
	}
	return b.Add(ch, r, ts)
}

// AddKeyed is Add for a record whose key is kept: Segment.Key returns it. It takes either all records of a channel or none. Keys are
// apart from the records because most have no use for them.
func (b *Builder) AddKeyed(ch routing.Channel, r Record, key []byte, ts time.Time) (full bool) {
	full = b.Add(ch, r, ts)
	seg := b.newest
	if seg.keys == nil {
		seg.keys = new([][]byte)
	}
	*seg.keys = append(*seg.keys, b.keep(key))
	return full
}

// keep copies v into the batch's memory. Nil stays nil, and empty stays empty.
func (b *Builder) keep(v []byte) []byte {
	switch {
	case v == nil:
		return nil
	case len(v) == 0:
		return []byte{} // A slice of v would hold the memory that v is part of.
	}
	if cap(b.arena)-len(b.arena) < len(v) {
		if len(v) > b.next/4 {
			b.batch.memory += len(v)
			b.next = min(2*b.next, arenaMax) // So that the next ones of this size share a piece.
			return bytes.Clone(v)
		}
		b.arena = make([]byte, 0, b.next)
		b.batch.memory += b.next
		b.next = min(2*b.next, arenaMax)
	}
	start := len(b.arena)
	b.arena = append(b.arena, v...)
	return b.arena[start:len(b.arena):len(b.arena)]
}

// Seal returns the batch, nil when it is empty, and starts another.
func (b *Builder) Seal() *Batch {
	batch := b.batch
	if batch == nil {
		return nil
	}
	for _, seg := range batch.Segments {
		batch.memory += cap(seg.Records) * recordSize
		if seg.keys != nil {
			batch.memory += cap(*seg.keys) * keySize
		}
	}
	batch.memory += cap(batch.Segments) * pointerSize
	batch.sort()
	b.batch, b.arena, b.newest = nil, nil, nil
	clear(b.segments)
	return batch
}
