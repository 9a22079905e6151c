package shard

import (
	"slices"
	"sort"

	"wsd/internal/bus"
)

// HistoryRange is which part of a channel's stream a request for its history asks for, by the client protocol or the
// server API.
type HistoryRange struct {
	Since   *uint64 // Offset of a position; nil: none.
	Limit   int     // Publications of the reply; negative: as many as possible. HistoryQuery bounds it.
	Reverse bool    // The newest first: without a position the last ones, with one those before it.

	whole bool // The query is for all of the stream, and Of cuts it.
}

// HistoryQuery returns the query for r in a channel's stream, which stands at a position. If r.Limit is then 0, or the
// query's range is empty, there is nothing to ask.
//
// Without a position the history is that of the last publications, at most o.HistoryMax.
func (o *RecoveryOptions) HistoryQuery(channel, epoch string, position uint64, r *HistoryRange) bus.Query {
	if r.Limit < 0 || r.Limit > o.HistoryMax {
		r.Limit = o.HistoryMax
	}
	q := bus.Query{
		Channel: channel, Epoch: epoch, UpTo: position, RecordsMax: r.Limit, BytesMax: o.BytesMax, Kind: bus.QueryLast,
	}
	switch {
	case r.Since == nil && !r.Reverse:
		q.RecordsMax = o.HistoryMax // The first of the last.
	case r.Since == nil:
	case r.Reverse:
		q.UpTo = min(position, max(*r.Since, 1)-1)
	default:
		q.After, q.Kind = *r.Since, bus.QueryNext
	}
	depth, oldest, own := o.depth(channel)
	if q.Oldest = oldest; own && depth <= o.HistoryMax {
		// The last publications are the stream, whichever of them are asked for.
		q.After, q.UpTo, q.Kind, q.RecordsMax = 0, position, bus.QueryLast, depth
		r.whole = true
	}
	return q
}

// Of returns those of the records that the query has found which are asked for, in the order of the stream.
func (r *HistoryRange) Of(records []bus.Record) []bus.Record {
	if !r.whole || r.Since == nil {
		return records
	}
	after := sort.Search(len(records), func(i int) bool { return records[i].Offset > *r.Since })
	if !r.Reverse {
		return records[after:]
	}
	if after > 0 && records[after-1].Offset == *r.Since {
		after--
	}
	return records[:after]
}

// Cut returns as many publications as are asked for, in their order.
func Cut[T any](r *HistoryRange, list []T) []T {
	if r.Reverse {
		slices.Reverse(list)
	}
	return list[:min(r.Limit, len(list))]
}
