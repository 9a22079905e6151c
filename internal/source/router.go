package source

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/route"
	"wsd/internal/stats"
)

// router is the one writer of the bus. Everything in it belongs to Source.mu.
type router struct {
	s       *Source
	to      route.Placement // Of the record being routed.
	placing int64           // The offset behind a record that is being placed; else 0.
	name    []byte          // Scratch for a name in the interest table.
	json    []byte          // Scratch for a compacted value.
	touched []*partition    // Whose position moved since everything was on the bus.
	counts  counts
}

// counts collects what one partition's part of a response adds to the shared counters.
type counts struct {
	records, bytes, dropped, compacted uint64
	routed                             [route.ByCount]routed
}

// sealLocked publishes the batch being built, if there is one. It waits while the bus is full: that is what stops the fetching.
func (r *router) sealLocked() error {
	if b := r.s.builder.Seal(); b != nil {
		if err := r.publishLocked(b); err != nil {
			return err
		}
	}
	r.publishedLocked()
	return nil
}

// publishLocked puts b on the bus.
func (r *router) publishLocked(b *bus.Batch) error {
	if err := r.s.o.Ring.Publish(r.s.publishCtx, b); err != nil {
		r.s.stats.PublishErrors.Add(1)
		return &publishError{err}
	}
	return nil
}

// publishError: the bus did not take a batch, which happens only when stopping.
type publishError struct{ err error }

func (e *publishError) Error() string { return "publish: " + e.err.Error() }
func (e *publishError) Unwrap() error { return e.err }

// panicError is a panic in reading what a broker sent.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// recovered turns a panic into *err, except one that says BUG: a broken invariant of ours must not be survived.
func recovered(err *error) {
	v := recover() //nolint:revive // It is itself the deferred function.
	if v == nil {
		return
	}
	if text, ok := v.(string); ok && strings.HasPrefix(text, "BUG:") {
		panic(v)
	}
	*err = &panicError{value: v, stack: debug.Stack()}
}

// batchError is a batch that could not be read, with what its header said.
type batchError struct {
	bt  batch
	err error
}

func (e *batchError) Error() string { return e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }

// walkLocked routes the batches of one partition from its position on. It may be called again with the same bytes after an
// error: what has been routed is passed over. A *batchError or *panicError stands at the partition's position.
func (f *fetcher) walkLocked(p *partition, rp *kmsg.FetchResponseTopicPartition) (err error) {
	defer recovered(&err)
	defer f.s.router.flushLocked(p)
	defer f.s.recent.trim()
	f.s.router.touchLocked(p)
	f.aborted.reset(rp.AbortedTransactions)
	ts := p.topic.stats
	for rest := rp.RecordBatches; len(rest) > 0; {
		bt, after, err := parseBatch(rest)
		if errors.Is(err, errPartial) {
			return nil
		}
		if err != nil {
			return &batchError{bt, err}
		}
		raw := rest[:len(rest)-len(after)]
		rest = after
		f.aborted.advance(bt.last())
		next := p.routed.Load()
		fresh := bt.last() >= next
		if fresh && bt.base > next {
			if next, err = f.s.holeLocked(p, next, bt.base, rp.LogStartOffset); err != nil {
				return err
			}
		}
		switch {
		case bt.attributes.Control():
			var marker record
			if err := parseRecord(bt.records, &marker); err == nil {
				f.aborted.marker(&bt, &marker)
			}
			if fresh {
				ts.Markers.Add(1)
				f.s.recent.add(&p.window, next, bt.last()+1, nil)
			}
		case !fresh:
		case f.aborted.drops(&bt):
			ts.Aborted.Add(uint64(bt.count))
			f.s.recent.add(&p.window, next, bt.last()+1, nil)
		default:
			// Before anybody can learn of a position in it.
			f.s.recent.add(&p.window, next, bt.last()+1, raw)
			if err := f.s.router.batchLocked(p, &bt, &f.inflate); err != nil {
				return batchFault(bt, err)
			}
		}
		if fresh {
			p.routed.Store(bt.last() + 1)
			p.lastEpoch = bt.leaderEpoch
		}
	}
	return nil
}

// batchFault tells what is wrong with a batch from what only passes through it: errors of the bus, and a rule that stops the partition.
func batchFault(bt batch, err error) error {
	var pe *publishError
	var se *stopError
	if errors.As(err, &pe) || errors.As(err, &se) {
		return err
	}
	return &batchError{bt, err}
}

// batchLocked routes the records of one batch that lie at the partition's position or after it.
func (r *router) batchLocked(p *partition, bt *batch, f *inflater) error {
	records, err := f.records(bt, r.s.o.RecordBytesMax)
	defer records.close()
	if err != nil {
		return err
	}
	next := p.routed.Load()
	var rec record
	for range bt.count {
		tooLarge, err := records.next(&rec)
		if err != nil {
			return err
		}
		offset := bt.base + rec.delta
		if offset > bt.last() {
			return errRecord
		}
		if offset < next {
			continue // The broker sends whole batches: these were before the offset asked for.
		}
		if p.channel == nil && tooLarge == 0 {
			if err := r.placeLocked(p, &rec, offset); err != nil {
				return err
			}
		}
		r.counts.compacted += uint64(offset - next)
		next = offset + 1
		// The order matters: position first, interest second; a shard does it the other way round (design.md §3). A record that
		// we find unwanted is then covered by the position that the shard reads.
		p.routed.Store(next)
		if tooLarge > 0 {
			r.tooLarge(p, offset, tooLarge)
			continue
		}
		if err := r.recordLocked(p, bt, &rec, offset); err != nil {
			return err
		}
	}
	r.counts.compacted += uint64(bt.last() + 1 - next)
	return nil
}

// tooLarge counts a record above the limit, and logs the first of each topic. It is a loss for its subscribers, but no reason to come
// back: it would be the same again.
func (r *router) tooLarge(p *partition, offset, bytes int64) {
	ts := p.topic.stats
	ts.Lost[LossTooLarge].Add(1)
	if !ts.tooLargeNoted.Swap(true) {
		r.s.log.Warn("a record is larger than kafka.max_record_bytes and is not delivered; counted from now on", "topic", p.topic.name,
			"partition", p.id, "offset", offset, "bytes", bytes, "limit", r.s.o.RecordBytesMax)
	}
}

// flushLocked adds what was counted to the shared counters.
func (r *router) flushLocked(p *partition) {
	if r.placing != 0 { // Placing it panicked: like one that panics later, it is passed over.
		p.routed.Store(r.placing)
		r.placing = 0
	}
	c := &r.counts
	ts := p.topic.stats
	stats.Add(&ts.Records, c.records)
	stats.Add(&ts.Bytes, c.bytes)
	stats.Add(&ts.Dropped, c.dropped)
	stats.Add(&ts.Compacted, c.compacted)
	for by := range c.routed {
		to, n := &r.s.stats.Routed[by], &c.routed[by]
		stats.Add(&to.Broadcast, n.broadcast)
		stats.Add(&to.Targeted, n.targeted)
		stats.Add(&to.Unwanted, n.unwanted)
	}
	r.counts = counts{}
}
