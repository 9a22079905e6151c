package bus

import (
	"bytes"
	"time"
	"unsafe"

	"wsd/internal/routing"
)

// BuilderOptions bounds a batch. It is full when it reaches either limit.
type BuilderOptions struct {
	RecordsMax int
	BytesMax   int // Size of all values in bytes.
}

// Builder gathers records into a batch.
type Builder struct {
	o        BuilderOptions
	batch    *Batch
	segments map[routing.ChannelID]openSegment
	newest   *Segment // The segment of the last record. Nil in an empty batch.
	stretch  uint32   // Counts the stretches between messages. Segments of earlier stretches take no more records.
	arena    []byte   // Where values are copied to. The unused rest is arena[len:cap].
	next     int      // The size of the arena's next piece.
}

// openSegment is the segment that takes a channel's records during a stretch.
type openSegment struct {
	segment *Segment
	stretch uint32
}

// The arena of a batch grows piece by piece. Each piece is twice as large as the last, so that a batch of one small
// record stays small and a large batch takes few allocations. A value that would waste much of a piece gets memory of
// its own.
const (
	arenaMin = 256
	arenaMax = 64 << 10
)

// NewBuilder returns a builder with an empty batch.
func NewBuilder(o BuilderOptions) *Builder {
	return &Builder{o: o, segments: make(map[routing.ChannelID]openSegment)}
}

// Add appends a copy of r, whose timestamp is ts, to the channel's records and reports whether the batch is now full. A
// full batch takes records all the same.
func (b *Builder) Add(ch routing.Channel, r Record, ts time.Time) (full bool) {
	if b.batch == nil {
		b.batch = &Batch{Oldest: ts, memory: batchSize}
		b.arena, b.next = nil, arenaMin
	}
	batch := b.batch
	seg := b.newest // Records of one channel often follow each other.
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
	if r.Info != nil {
		batch.memory += r.Info.Bytes()
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

// segment returns the segment that takes the channel's records in this stretch. It makes one if there is none.
func (b *Builder) segment(ch routing.Channel) *Segment {
	if open := b.segments[ch.ID]; open.segment != nil && open.stretch == b.stretch {
		return open.segment
	}
	seg := &Segment{Channel: ch.ID, Name: ch.Name, SlotHint: ch.SlotHint, batch: b.batch}
	b.segments[ch.ID] = openSegment{seg, b.stretch}
	b.batch.Segments = append(b.batch.Segments, seg)
	b.batch.memory += segmentSize
	return seg
}

// AddMessage is Add for a message. The message must be delivered after the records that were added before it and before
// those that are added after it. Shards deliver segments in order, so records that follow go into new segments.
func (b *Builder) AddMessage(ch routing.Channel, r Record, ts time.Time) (full bool) {
	ch.Name = ""
	if b.newest == nil || b.newest.Channel != ch.ID {
		b.stretch++
	}
	return b.Add(ch, r, ts)
}

// AddKeyed is Add for a record whose key is kept for Segment.Key. Of one channel either all records are added with
// AddKeyed or none. Keys are apart from the records because most users of the bus do not need them.
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
		return []byte{} // A slice of v would keep the memory that v is part of.
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

// Seal returns the batch and starts another. It returns nil if the batch is empty.
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
	batch.Sealed = time.Now()
	b.batch, b.arena, b.newest = nil, nil, nil
	clear(b.segments)
	return batch
}
