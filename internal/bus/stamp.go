package bus

import (
	"time"
	"unsafe"

	"wsd/internal/stats"
)

// Origin is where records come from, for measuring how late they are delivered. The zero Origin is not measured.
type Origin struct {
	Topic     *stats.Deliveries // What counts the deliveries. Nil if nothing does.
	Fetched   int64             // When the response with the records had been read, see stats.Clock.
	Partition int32
}

// Stamp is the origin and the time of some records of a segment.
type Stamp struct {
	Origin
	Millis  int64  // The records' timestamp in milliseconds of Unix time. Negative if they have none.
	Offset  uint64 // Of the first record, as Record has it.
	Records uint32
}

// Stamps are the stamps of a segment's records, in the order of the records. They do not keep the records in memory.
type Stamps struct {
	first Stamp
	rest  *[]Stamp // Nil if there is only the first.
}

// stampsMax bounds the stamps of a segment. Records after that count with the last one.
const stampsMax = 16

const stampSize = int(unsafe.Sizeof(Stamp{}))

// add counts a record.
func (s *Stamps) add(o Origin, millis int64, offset uint64) {
	last := &s.first
	if s.rest != nil {
		last = &(*s.rest)[len(*s.rest)-1]
	}
	switch {
	case last.Records == 0:
		*last = Stamp{o, millis, offset, 1}
	case last.Origin == o && last.Millis == millis:
		last.Records++
	case s.rest == nil:
		s.rest = &[]Stamp{{o, millis, offset, 1}}
	case len(*s.rest)+1 < stampsMax || last.Topic != o.Topic && len(*s.rest) < 2*stampsMax:
		*s.rest = append(*s.rest, Stamp{o, millis, offset, 1})
	default:
		last.Records++
	}
}

// memory returns the bytes that the stamps take beside the segment.
func (s *Stamps) memory() int {
	if s.rest == nil {
		return 0
	}
	return cap(*s.rest) * stampSize
}

// Each calls fn for each stamp that is measured. Any goroutine may call it once the batch is sealed.
func (s *Stamps) Each(fn func(*Stamp)) {
	if s.first.Topic != nil {
		fn(&s.first)
	}
	if s.rest == nil {
		return
	}
	for i := range *s.rest {
		if st := &(*s.rest)[i]; st.Topic != nil {
			fn(st)
		}
	}
}

// Times is when a batch passed a stage on its way, see stats.Clock. Its records were fetched before.
type Times struct {
	Sealed    int64 // Seal returned it.
	Published int64 // The ring had room for it.
}

// From says where the records come from that are added from now on.
func (b *Builder) From(o Origin) { b.origin = o }

// now is what the bus stamps batches with.
func now() int64 { return stats.Clock(time.Now()) }
