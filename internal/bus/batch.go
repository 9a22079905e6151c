package bus

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"wsd/internal/routing"
)

// Record is one publication in a batch. After Seal its slices are the batch's own memory and never change.
type Record struct {
	Offset uint64 // Kafka's offset + 1: 0 means none in the client protocol.
	Value  []byte // As in Kafka; nil for a Kafka null.
	JSON   []byte // The value as compact JSON, null for a Kafka null; nil when the value is not JSON. May be the same memory as Value.
	Text   bool   // Value is valid UTF-8.
}

// Variant is a form of a segment on the wire.
type Variant uint8

// The variants.
const (
	VariantRaw      Variant = iota // One WebSocket message a record.
	VariantJSON                    // The client protocol in JSON.
	VariantProtobuf                // The client protocol in Protobuf.
	VariantCount                   // How many there are, compressed ones not counted.
)

// Deflated returns the compressed form of a variant. It is a variant, too, for Segment alone.
func (v Variant) Deflated() Variant { return v + VariantCount }

// Plain returns the variant whose compressed form v is, or v when it is not compressed.
func (v Variant) Plain() Variant { return v % VariantCount }

// Segment is what a batch holds for one channel, or a part of it between messages: the unit of framing and writing.
type Segment struct {
	Channel routing.ChannelID
	Name    string           // Of the channel; empty: the records are messages, to a connection, a user or everybody.
	Records []Record         // At least one, in the order in which they were added.
	Bytes   int              // Of all values.
	Shards  routing.ShardSet // Those that had a subscriber when one of the records was routed: others need not look the channel up.
	At      uint32           // Where one of them keeps the channel (routing.Channel.At).

	keys    *[][]byte // Of the records, where the source keeps keys; else nil.
	batch   *Batch
	mu      sync.Mutex // Held while a layout is built.
	layouts [2 * VariantCount]atomic.Pointer[[]byte]
	waiting []waiter // For layouts that Provide is to bring; under mu.
}

// waiter is told of a layout.
type waiter struct {
	variant Variant
	ready   func()
}

// Key returns the Kafka key of record i: nil for a record without one, and for every record where keys are not kept.
func (s *Segment) Key(i int) []byte {
	if s.keys == nil {
		return nil
	}
	return (*s.keys)[i]
}

// Layout returns the segment in variant v, built once for the whole process by the first that asks; others wait for it. The bytes
// must not be changed; an empty result is kept as well. Any shard's goroutine.
func (s *Segment) Layout(v Variant, build func(*Segment) []byte) []byte {
	if p := s.layouts[v].Load(); p != nil {
		return *p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.layouts[v].Load(); p != nil {
		return *p
	}
	b := build(s)
	s.store(v, b)
	return b
}

// store puts b in place. One that is the plain layout as well holds no memory of its own.
func (s *Segment) store(v Variant, b []byte) {
	if p := s.layouts[v.Plain()].Load(); p == nil || unsafe.SliceData(*p) != unsafe.SliceData(b) {
		s.batch.grow(cap(b))
	}
	s.layouts[v].Store(&b)
}

// Built returns the segment in variant v if it is there. Any goroutine.
func (s *Segment) Built(v Variant) (b []byte, built bool) {
	if p := s.layouts[v].Load(); p != nil {
		return *p, true
	}
	return nil, false
}

// Await is Layout for a layout that is built elsewhere: if it is not there yet, ready is called when Provide has brought it, once.
// first says that nobody has waited for it before: then the caller must have Provide called, or nobody will. ready may be called
// from any goroutine, before Await returns, too, and must not block. Any shard's goroutine.
func (s *Segment) Await(v Variant, ready func()) (b []byte, built, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, built := s.Built(v); built {
		return b, true, false
	}
	first = true
	for _, w := range s.waiting {
		first = first && w.variant != v
	}
	s.waiting = append(s.waiting, waiter{v, ready})
	return nil, false, first
}

// Provide brings the layout that Await asked for, and tells those who wait. It is called once for a variant, by any goroutine.
func (s *Segment) Provide(v Variant, b []byte) {
	s.mu.Lock()
	s.store(v, b)
	waiting := s.waiting
	s.waiting = nil
	for _, w := range waiting {
		if w.variant != v {
			s.waiting = append(s.waiting, w)
		}
	}
	s.mu.Unlock()
	for _, w := range waiting {
		if w.variant == v {
			w.ready()
		}
	}
}

// Batch is a sealed set of segments.
type Batch struct {
	Seq      uint64 // Its place in the ring's sequence; from Publish on.
	Segments []*Segment
	Shards   routing.ShardSet // Shards that had a subscriber of some segment when its record was routed.
	Records  int
	Bytes    int       // Of all values.
	Oldest   time.Time // Timestamp of the oldest record.
	Break    *Break    // What the batch is about in place of records; nil for others.

	byShard []*Segment // Those of the first shard, the second, and so on; nil: most shards want most segments.
	ends    []uint32   // Where those of a shard end there, by shard.

	before  uint64       // Bytes of values of all batches published before it.
	memory  int          // Bytes held, layouts not counted.
	layouts atomic.Int64 // Bytes held by layouts, with gone added when the ring has released the batch.
	ring    *Ring        // Nil before Publish.
	pin     atomic.Pointer[Pin]
}

// gone makes Batch.layouts negative.
const gone = math.MinInt64 / 2

// SegmentsOf returns what shard s is to look through: the segments that it wants, in order, or all of them. Any shard's goroutine.
func (b *Batch) SegmentsOf(s routing.ShardID) []*Segment {
	switch {
	case b.ends == nil:
		return b.Segments
	case int(s) >= len(b.ends):
		return nil
	case s == 0:
		return b.byShard[:b.ends[0]]
	}
	return b.byShard[b.ends[s-1]:b.ends[s]]
}

// sort lists the segments by shard. Otherwise every shard that wants one of a batch would look at all, and a record for one client would
// cost more the more shards there are.
func (b *Batch) sort() {
	shards, total, last := 0, 0, routing.ShardID(0)
	for s := range b.Shards.All() {
		shards, last = shards+1, s
	}
	for _, seg := range b.Segments {
		total += seg.Shards.Len()
	}
	if 2*total >= shards*len(b.Segments) {
		return
	}
	b.ends = make([]uint32, last+1)
	for _, seg := range b.Segments {
		for s := range seg.Shards.All() {
			b.ends[s]++
		}
	}
	next := uint32(0) // Where a shard's begin; its ends is counted up from there.
	for s, n := range b.ends {
		b.ends[s] = next
		next += n
	}
	b.byShard = make([]*Segment, total)
	for _, seg := range b.Segments {
		for s := range seg.Shards.All() {
			b.byShard[b.ends[s]] = seg
			b.ends[s]++
		}
	}
	b.memory += total*pointerSize + len(b.ends)*4
}

// grow counts n more bytes of layouts. A shard that has the batch in hand when it is released may lay it out afterwards.
func (b *Batch) grow(n int) {
	switch {
	case b.layouts.Add(int64(n)) < 0:
		b.repin()
	case b.ring != nil:
		b.ring.retain(int64(n))
	}
}

// release ends the counting and returns what was counted. A shard may still hold the batch, and even lay it out, for a turn.
func (b *Batch) release() int64 {
	layouts := b.layouts.Add(gone) - gone
	b.repin()
	return int64(b.memory) + layouts
}

const (
	recordSize  = int(unsafe.Sizeof(Record{}))
	keySize     = int(unsafe.Sizeof([]byte{}))
	segmentSize = int(unsafe.Sizeof(Segment{}))
	batchSize   = int(unsafe.Sizeof(Batch{}))
	pointerSize = int(unsafe.Sizeof(uintptr(0)))
)
