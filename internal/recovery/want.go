package recovery

import (
	"sort"

	"wsd/internal/bus"
)

// want is what a pass collects of one channel. All queries of kind QueryAll share one want; any other query has its
// own. Offsets here are Kafka's: a query asks for those in [After, UpTo).
type want struct {
	kind    bus.QueryKind
	queries []*query
	after   int64 // The lowest After of the queries.
	upTo    int64 // The highest UpTo of the queries.
	down    int64 // Everything from this offset up to upTo has been collected.

	records []bus.Record // Block by block from the newest down, ascending within a block. See join.
	ends    []int        // Where in records each block ends.
	bytes   int          // The size of the records.
}

func newWant(kind bus.QueryKind) *want { return &want{kind: kind, after: -1} }

func (w *want) add(q *query) {
	// Neither is above the stream's position, or the query would be ahead.
	after, upTo := int64(q.After), int64(q.UpTo) // Both are Kafka's offset plus 1.
	if w.after < 0 || after < w.after {
		w.after = after
	}
	w.upTo = max(w.upTo, upTo)
	w.down = w.upTo
	w.queries = append(w.queries, q)
}

// wants reports whether a record belongs to it.
func (w *want) wants(offset uint64) bool {
	return int64(offset) > w.after && int64(offset) <= w.down // Kafka's offset plus 1.
}

func (w *want) take(r bus.Record) {
	w.records = append(w.records, r)
	w.bytes += sizeOf(&r)
}

// sizeOf returns how much memory a record of an answer takes, roughly.
func sizeOf(r *bus.Record) int {
	const overhead = 96
	return len(r.Value) + len(r.JSON) + overhead
}

// covered notes that everything from offset from on has been collected.
func (w *want) covered(from int64) {
	w.down = from
	w.ends = append(w.ends, len(w.records))
}

// join makes one block, in ascending order, of all.
func (w *want) join() []bus.Record {
	if len(w.ends) > 1 {
		joined := make([]bus.Record, 0, len(w.records))
		for i := len(w.ends) - 1; i >= 0; i-- {
			begin := 0
			if i > 0 {
				begin = w.ends[i-1]
			}
			joined = append(joined, w.records[begin:w.ends[i]]...)
		}
		w.records = joined
	}
	w.ends = append(w.ends[:0], len(w.records))
	return w.records
}

// keepFirst drops the records that are not among the first recordsMax.
func (w *want) keepFirst(recordsMax int) {
	list := w.join()
	for i := recordsMax; i < len(list); i++ {
		w.bytes -= sizeOf(&list[i])
		list[i] = bus.Record{}
	}
	w.records = list[:min(recordsMax, len(list))]
	w.ends[0] = len(w.records)
}

// recordsOf returns the records that a query asks for, as far as they have been collected.
func (w *want) recordsOf(q *query) []bus.Record {
	list := w.join()
	begin := sort.Search(len(list), func(i int) bool { return list[i].Offset > q.After })
	end := sort.Search(len(list), func(i int) bool { return list[i].Offset > q.UpTo })
	return list[begin:end:end]
}
