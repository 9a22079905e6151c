package bus

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"wsd/internal/routing"
)

// Record is one record in a batch. After Seal its slices are the batch's own memory and never change.
type Record struct {
	Offset uint64 // Kafka's offset plus 1, since 0 means "no offset" in the client protocol.
	Value  []byte // The value as Kafka has it; nil for a Kafka null.
	JSON   []byte // The value as compact JSON, or nil if it is not JSON. It may share Value's memory.
	Text   bool   // Whether Value is valid UTF-8.
	Info   *Info  // Who published the record. Nil unless its topic is one that clients publish to.
}

// Info is what the headers of a record say that was published. It never changes.
type Info struct {
	Client, User string // Who published. Without a client the publication has no info.
	// What subscribers may know of the client, and of it in this channel, as JSON on one line. Nil: nothing.
	ConnInfo, ChanInfo []byte
	Tags               [][2]string // Names and values.
}

// Bytes returns how many bytes i takes, roughly.
func (i *Info) Bytes() int {
	if i == nil {
		return 0
	}
	n := int(unsafe.Sizeof(*i)) + len(i.Client) + len(i.User) + len(i.ConnInfo) + len(i.ChanInfo)
	for _, tag := range i.Tags {
		n += int(unsafe.Sizeof(tag)) + len(tag[0]) + len(tag[1])
	}
	return n
}

// Variant is one form that a segment takes on the wire.
type Variant uint8

// The variants.
const (
	VariantRaw      Variant = iota // One WebSocket message for each record.
	VariantJSON                    // The client protocol in JSON.
	VariantProtobuf                // The client protocol in Protobuf.
	VariantCount                   // The number of variants without the compressed ones.
)

// String returns the name of what clients in the variant speak, for logs.
func (v Variant) String() string {
	return [...]string{"raw", "json", "protobuf"}[v.Plain()]
}

// Deflated returns the compressed form of a variant. Only Segment takes it.
func (v Variant) Deflated() Variant { return v + VariantCount }

// Plain returns the variant that v is the compressed form of, or v if it is not compressed.
func (v Variant) Plain() Variant { return v % VariantCount }

// Segment is what a batch holds for one channel, or the part of it between two messages. It is the unit of framing and
// writing.
type Segment struct {
	Channel routing.ChannelID
	// The channel's name. It is empty if the records are messages to a connection, a user or everybody.
	Name    string
	Records []Record // At least one, in the order in which they were added.
	Bytes   int      // The size of all values.
	// The shards that had a subscriber when one of the records was routed. Others need not look the channel up.
	Shards   routing.ShardSet
	SlotHint uint32 // See routing.Channel.
	Stamps   Stamps

	keys    *[][]byte // The records' keys. Nil if the source does not keep keys.
	batch   *Batch
	mu      sync.Mutex // Held while a layout is built.
	layouts [2 * VariantCount]atomic.Pointer[[]byte]
	waiting []waiter // The callers of Await that wait for Provide. Guarded by mu.
}

// waiter is a caller of Await.
type waiter struct {
	variant Variant
	ready   func()
}

// Key returns the Kafka key of record i. It is nil if the record has none, or if the source does not keep keys.
func (s *Segment) Key(i int) []byte {
	if s.keys == nil {
		return nil
	}
	return (*s.keys)[i]
}

// Layout returns the segment in variant v. The first caller in the process builds it; others wait for it. Nobody may
// change the bytes. An empty result is kept as well. Any goroutine may call it.
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

// store keeps b as the layout for v. A compressed layout that is the same memory as the plain one counts as no memory.
func (s *Segment) store(v Variant, b []byte) {
	if p := s.layouts[v.Plain()].Load(); p == nil || unsafe.SliceData(*p) != unsafe.SliceData(b) {
		s.batch.grow(cap(b))
	}
	s.layouts[v].Store(&b)
}

// Built returns the segment in variant v if it has been built. Any goroutine may call it.
func (s *Segment) Built(v Variant) (b []byte, built bool) {
	if p := s.layouts[v].Load(); p != nil {
		return *p, true
	}
	return nil, false
}

// Await is Layout for a layout that is built elsewhere. If it has not been built, Provide will call ready, once. First
// reports that the caller is the first to wait for it, and so must see to it that somebody calls Provide. Ready may be
// called from any goroutine, even before Await returns, and must not block. Any goroutine may call Await.
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

// Provide stores the layout that Await asked for and calls ready for everybody who waits. It is called once for a
// variant, by any goroutine.
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
	Seq      uint64 // Its place in the ring's sequence. Publish sets it.
	Segments []*Segment
	Shards   routing.ShardSet // The shards that had a subscriber of a segment when one of its records was routed.
	Records  int              // The number of records in all segments.
	Bytes    int              // The size of all values.
	Oldest   time.Time        // The timestamp of the oldest record.
	Sealed   time.Time        // When Seal returned it.
	Times    Times
	Break    *Break // If it is not nil, the batch is a break and has no records.

	// The segments of the first shard, then those of the second, and so on. Nil if most shards want most segments.
	byShard []*Segment
	ends    []uint32 // For each shard, where its segments end in byShard.

	bytesBefore uint64       // The size of the values of all batches published before it.
	memory      int          // The bytes that the batch holds without its layouts.
	layoutBytes atomic.Int64 // The bytes that its layouts hold, plus released when the ring has released the batch.
	ring        *Ring        // Nil before Publish.
	hold        atomic.Pointer[Hold]
}

// released makes Batch.layoutBytes negative.
const released = math.MinInt64 / 2

// SegmentsOf returns the segments that shard s must look through, in order: those that it wants, or all. Any goroutine
// may call it.
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

// sort lists the segments by shard. Without the list, each shard that wants one segment would look through all of them,
// and a record for one client would cost more with every shard.
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
	next := uint32(0) // Where a shard's segments begin. Its end is counted up from there.
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

// grow counts n more bytes of layouts. A shard that has the batch in hand when the ring releases it may build a layout
// after that.
func (b *Batch) grow(n int) {
	switch {
	case b.layoutBytes.Add(int64(n)) < 0:
		b.updateHold()
	case b.ring != nil:
		b.ring.addRetained(int64(n))
	}
}

// release notes that the ring has released the batch, and returns how many bytes the ring had counted for it. A shard
// may go on using the batch for a turn, and even build a layout.
func (b *Batch) release() int64 {
	layouts := b.layoutBytes.Add(released) - released
	b.updateHold()
	return int64(b.memory) + layouts
}

const (
	recordSize  = int(unsafe.Sizeof(Record{}))
	keySize     = int(unsafe.Sizeof([]byte{}))
	segmentSize = int(unsafe.Sizeof(Segment{}))
	batchSize   = int(unsafe.Sizeof(Batch{}))
	pointerSize = int(unsafe.Sizeof(uintptr(0)))
)
