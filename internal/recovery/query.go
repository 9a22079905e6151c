package recovery

import (
	"slices"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// stream is a stream in one epoch. A truncation of the log changes the epoch.
type stream struct {
	*source.Stream
	epoch string
}

// alive reports whether the stream still has the epoch.
func (st stream) alive() bool {
	_, now, ok := st.Position()
	return ok && now == st.epoch
}

// query is a query that has not been answered. A publication's offset is Kafka's plus 1, so it asks for [start, end) of
// Kafka's offsets.
type query struct {
	bus.Query
	start    int64
	end      int64
	st       stream
	done     func(bus.Answer)
	began    time.Time
	deadline time.Time
	over     atomic.Bool // It has been answered.

	// The rest belongs to the worker whose pass has the query, and to the clock while none has.

	// What has been walked through: [start, edge) of a QueryNext, [edge, end) of a QueryLast.
	edge    int64
	parts   [][]bus.Record // The records of the answer, block by block in the order of the walk.
	count   int            // Their number.
	bytes   int            // Their bytes, as limits count them.
	memory  int            // How much of Recovery.collected they are.
	full    bool           // The answer takes no more records.
	through uint64         // If it is full, and for a QueryNext: up to where it is complete.
	kafka   atomic.Bool    // A part of its range was read from Kafka again.

	counting bool // All records up to UpTo have to be counted.
	counted  int
	dropped  bool // The records were dropped to save memory. They are collected again when all have been counted.

	pass uint64 // The number of the last pass that walked through a block for it.
	join joined
}

func newQuery(b bus.Query, o *Options, now time.Time) *query {
	q := &query{Query: b, began: now, deadline: now.Add(o.Timeout)}
	q.start, q.end = inKafka(q.After), inKafka(q.UpTo)
	q.RecordsMax = max(q.RecordsMax, 1)
	if q.BytesMax <= 0 || q.BytesMax > o.BytesMax {
		q.BytesMax = o.BytesMax
	}
	q.reset()
	q.counting = q.Kind == bus.QueryNext && q.CountMax > 0 && q.UpTo > q.After && q.UpTo-q.After > uint64(q.CountMax)
	return q
}

// reset has the query begin anew, and count nothing.
func (q *query) reset() {
	q.edge = q.start
	if q.Kind == bus.QueryLast {
		q.edge = q.end
	}
	q.parts, q.count, q.bytes, q.full = nil, 0, 0, false
	q.counting, q.dropped = false, false
}

// inKafka returns the offset in Kafka that follows a publication. Of a query for an offset that is not routed it may be
// nonsense, but then nothing is walked through for the query.
func inKafka(offset uint64) int64 { return int64(offset) } //nolint:gosec // As above.

// published returns the highest offset of a publication that comes before an offset in Kafka.
func published(offset int64) uint64 { return uint64(offset) } //nolint:gosec // Not negative.

// need returns the offset that the query needs next.
func (q *query) need() int64 {
	if q.Kind == bus.QueryLast {
		return q.edge - 1
	}
	return q.edge
}

func (q *query) canceled() bool { return q.Canceled != nil && q.Canceled.Load() }

// add adds records of a block to the answer, which are bytes in all. They are a part of all that was collected of their
// channel in the block. A small part gets memory of its own, so that the answer does not keep all of it in memory.
func (q *query) add(part, all []bus.Record, bytes int) {
	if len(part) == 0 {
		return
	}
	if len(part) < len(all)/4 {
		part = slices.Clone(part)
	}
	q.parts = append(q.parts, slices.Clip(part))
	q.count += len(part)
	q.bytes += bytes
}

// records returns the records that have been collected, by offset.
func (q *query) records() []bus.Record {
	if q.Kind == bus.QueryLast {
		slices.Reverse(q.parts)
	}
	if len(q.parts) == 1 {
		return q.parts[0]
	}
	return slices.Concat(q.parts...)
}

// success returns the answer of a query that needs no more.
func (q *query) success() bus.Answer {
	a := bus.Answer{Records: q.records(), Through: q.UpTo}
	if q.Kind == bus.QueryNext && q.full && q.through < q.UpTo && q.counted != q.count {
		a.More, a.Through = true, q.through
	}
	return a
}

// partial returns the answer of a query that has to end with what it has, and result if that is not enough.
func (q *query) partial(result bus.Result) bus.Answer {
	if q.Kind == bus.QueryLast {
		return bus.Answer{Result: result, Records: q.records()}
	}
	if q.dropped || q.edge == q.start {
		return bus.Answer{Result: result}
	}
	a := bus.Answer{Records: q.records(), More: true, Through: published(q.edge)}
	if q.full {
		a.Through = q.through
	}
	return a
}
