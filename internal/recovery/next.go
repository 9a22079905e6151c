package recovery

import (
	"cmp"
	"slices"
	"sort"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// join is what a walk through a block collects of one channel for all its QueryNext queries. Each of them gets the
// records from its edge on, as many as fit into its answer. So the records that they need are those that the first
// query needs that is not full, and no record is compared with more than one query.
type join struct {
	queries []*query // By edge.
	reached int      // How many of them the walk has reached.
	done    int      // How many of them, from the first, need no more records of the block.
	counts  int      // How many of those reached count records.
	needs   bool     // Some query that was reached needs records of the channel.

	records []bus.Record
	sizes   []int    // sizes[i] is the size of records[:i].
	times   []int64  // Their timestamps.
	offsets []uint64 // Those of all records, while somebody counts.
}

// joined is where a query joined the walk.
type joined struct {
	*join
	record int // Its first record in join.records.
	offset int // Its first offset in join.offsets.
}

// collectNext walks through a block for queries of kind QueryNext. It walks through what a query needs only, and stops
// when no query needs more. It returns the offset that it has not walked through because of too much memory, or the
// block's end.
func (p *pass) collectNext(b source.Block, list []*query) (to int64, err error) {
	slices.SortFunc(list, func(a, b *query) int { return cmp.Compare(a.edge, b.edge) })
	for _, q := range list {
		j := p.joins[q.Channel]
		if j == nil {
			j = &join{sizes: []int{0}}
			p.joins[q.Channel] = j
		}
		j.queries = append(j.queries, q)
		q.join.join = j
	}
	defer p.walker.Close()
	for to = b.To; len(list) > 0 && to == b.To && err == nil; {
		list, to, err = p.stretch(b, list)
	}
	return to, err
}

// stretch walks through what the first queries need without a gap. It returns the queries that it has not reached.
func (p *pass) stretch(b source.Block, list []*query) (left []*query, to int64, err error) {
	from, end, n := list[0].edge, list[0].edge, 0
	for ; n < len(list) && (n == 0 || list[n].edge < end); n++ {
		end = max(end, min(list[n].end, b.To))
	}
	needing, reached, enough := 0, 0, uint64(0)
	reach := func(before int64) {
		for ; reached < n && list[reached].edge < before; reached++ {
			if j := list[reached].join.join; j.reach(list[reached]) {
				needing++
			}
		}
	}
	p.walker.Open(p.st.Stream, b, from, end)
	for p.walker.Next() {
		p.slot.walked()
		offset := p.walker.Offset()
		if enough != 0 && offset != enough {
			end = inKafka(offset) - 1
			reach(end)
			return list[reached:], end, nil
		}
		reach(inKafka(offset))
		j := p.joins[string(p.walker.Channel())]
		if j == nil || !j.needs {
			continue
		}
		if j.take(p, offset) && p.tooMuch() {
			enough = offset // The other channels of the record come with it.
		}
		if !j.needs {
			needing--
		}
		if needing == 0 {
			return list[reached:], b.To, nil
		}
	}
	reach(end)
	for _, q := range list[:n] {
		q.join.needs, q.join.counts = false, 0
	}
	return list[n:], b.To, p.walker.Err()
}

// reach notes that the walk has reached the next query. It reports whether the channel's records are needed that were
// not needed before.
func (j *join) reach(q *query) (needed bool) {
	q.join.record, q.join.offset = len(j.records), len(j.offsets)
	j.reached++
	if q.counting {
		j.counts++
	}
	needed = !j.needs
	j.needs = true
	return needed
}

// wanted reports whether a query that was reached wants the next record in its answer, which has this offset or a
// higher one.
func (j *join) wanted(offset uint64) bool {
	for ; j.done < j.reached; j.done++ {
		q := j.queries[j.done]
		count := q.count + len(j.records) - q.join.record
		bytes := q.bytes + j.sizes[len(j.records)] - j.sizes[q.join.record]
		if !q.full && offset <= q.UpTo && (count == 0 || count < q.RecordsMax && bytes < q.BytesMax) {
			return true
		}
	}
	return false
}

// take collects and counts the walker's record, as far as it is needed. It reports whether that took memory.
func (j *join) take(p *pass, offset uint64) (collected bool) {
	if collected = j.wanted(offset); collected {
		r := p.walker.Record()
		p.collect(&r)
		j.records, j.times = append(j.records, r), append(j.times, p.walker.Millis())
		j.sizes = append(j.sizes, j.sizes[len(j.sizes)-1]+bus.RecordBytes(&r))
	}
	if j.counts > 0 {
		j.offsets = append(j.offsets, offset)
		collected = p.note(len(j.offsets)) || collected
	}
	j.needs = j.counts > 0 || j.wanted(offset+1)
	return collected
}

// settleNext gives a query what was collected for it up to an offset, and answers it if it needs no more.
func (p *pass) settleNext(q *query, to int64) {
	to = min(to, q.end)
	if to <= q.edge || q.over.Load() {
		return // The walk was stopped before.
	}
	parts := len(q.parts)
	first := q.count == 0
	if !q.full {
		if q.portion(published(to)); first && q.count > 0 && q.join.join.times[q.join.record] < q.Oldest {
			p.settled(q, bus.Answer{Result: bus.ResultGone})
			return
		}
	}
	if q.counting {
		list := q.join.offsets[q.join.offset:]
		q.counted += sort.Search(len(list), func(i int) bool { return list[i] > published(to) })
	}
	q.edge, q.join = to, joined{}
	switch {
	case q.counting && q.counted > q.CountMax:
		p.settled(q, bus.Answer{Result: bus.ResultLimit})
	case q.dropped && q.edge == q.end:
		q.reset()
	case q.edge == q.end || q.full && !q.counting:
		p.settled(q, q.success())
	default:
		p.keep(q, q.parts[parts:])
	}
}

// portion gives a query the records that were collected up to an offset, as many as fit into its answer.
func (q *query) portion(to uint64) {
	j, first := q.join.join, q.join.record
	list := j.records[first:]
	n := sort.Search(len(list), func(i int) bool {
		size := q.bytes + j.sizes[first+i+1] - j.sizes[first]
		return list[i].Offset > to || q.count+i >= q.RecordsMax || q.count+i > 0 && size > q.BytesMax
	})
	q.add(list[:n], j.records, j.sizes[first+n]-j.sizes[first])
	switch {
	case q.count >= q.RecordsMax || q.bytes >= q.BytesMax: // What follows may not have been collected.
		q.full, q.through = true, list[n-1].Offset
	case n < len(list) && list[n].Offset <= to: // It was collected for this query, but does not fit.
		q.full, q.through = true, list[n].Offset-1
	}
}
