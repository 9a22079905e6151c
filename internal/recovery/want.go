package recovery

import (
	"sort"

	"wsd/internal/bus"
)

// want is what a pass collects of one channel: for all queries of QueryAll together, for any other query by itself. Offsets are Kafka's
// here: a query is about those from After to UpTo, to UpTo excluded.
type want struct {
	kind    bus.QueryKind
	queries []*query
	after   int64 // The lowest of the queries,
	upTo    int64 // and the highest.
	down    int64 // What lies from here up has been collected.

	records []bus.Record // In descending blocks, ascending within a block: see join.
	ends    []int        // Where in records each block ends.
	bytes   int          // Of the records' values.
}

func newWant(kind bus.QueryKind) *want { return &want{kind: kind, after: -1} }

func (w *want) add(q *query) {
	after, upTo := int64(q.After), int64(q.UpTo) //nolint:gosec // At most the stream's position, or the query would be ahead.
	if w.after < 0 || after < w.after {
		w.after = after
	}
	w.upTo = max(w.upTo, upTo)
	w.down = w.upTo
	w.queries = append(w.queries, q)
}

// wants reports whether a record belongs to it.
func (w *want) wants(offset uint64) bool {
	return int64(offset) > w.after && int64(offset) <= w.down //nolint:gosec // Kafka's plus one.
}

func (w *want) take(r bus.Record) {
	w.records = append(w.records, r)
	w.bytes += sizeOf(&r)
}

// sizeOf is what a record of an answer takes.
func sizeOf(r *bus.Record) int {
	const overhead = 96
	return len(r.Value) + len(r.JSON) + overhead
}

// covered notes that everything from offset from up has been collected.
func (w *want) covered(from int64) {
	w.down = from
	w.ends = append(w.ends, len(w.records))
}

// join puts the blocks into ascending order, as one.
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

// keepFirst forgets what cannot be among the first most records any more.
func (w *want) keepFirst(most int) {
	list := w.join()
	for i := most; i < len(list); i++ {
		w.bytes -= sizeOf(&list[i])
		list[i] = bus.Record{}
	}
	w.records = list[:min(most, len(list))]
	w.ends[0] = len(w.records)
}

// of returns the records that a query is about, as far as they have been collected.
func (w *want) of(q *query) []bus.Record {
	list := w.join()
	begin := sort.Search(len(list), func(i int) bool { return list[i].Offset > q.After })
	end := sort.Search(len(list), func(i int) bool { return list[i].Offset > q.UpTo })
	return list[begin:end:end]
}
