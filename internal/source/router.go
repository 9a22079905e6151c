package source

import (
	"fmt"

	"wsd/internal/bus"
	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/stats"
)

// router is the only writer of the bus. Source.mu guards everything in it.
type router struct {
	s       *Source
	to      route.Placement // Where the record in hand goes.
	placing int64           // The offset after the record that is being placed, or 0.
	name    []byte          // Scratch for a name in the interest table.
	json    []byte          // Scratch for a compacted value.
	touched []*partition    // The partitions whose position has moved since everything was last on the bus.
	counts  counts
	taken   uint64 // The records read from the partition's part of the response that is being taken.
}

// counts collects what one partition's part of a response adds to the shared counters.
type counts struct {
	records, bytes, dropped, compacted uint64
	routed                             [route.ByCount]routed
}

// sealLocked publishes the batch being built, if there is one. It waits while the bus is full, which stops all
// fetching.
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

// publishError: the bus did not take a batch. That happens only when the source stops.
type publishError struct{ err error }

func (e *publishError) Error() string { return "publish: " + e.err.Error() }
func (e *publishError) Unwrap() error { return e.err }

// walkLocked does a slice of a walk: it routes batches of one partition from its position on, until the walk is at its
// end or has paused. It may be called again after an error: what has been routed is skipped. A *kafka.BatchError or
// *panicError is about what stands at the partition's position.
func (f *fetcher) walkLocked(w *walk) (err error) {
	p, walker := w.p, w.walker
	defer catchPanic(&err)
	defer f.s.router.flushLocked(p)
	defer f.s.recent.trim()
	defer w.close()
	f.s.router.touchLocked(p)
	defer f.s.router.touchLocked(p) // Again, because a batch that is full is published on the way.
	if !w.open {
		walker.Open(w.rp.RecordBatches, w.rp.AbortedTransactions, p.routed.Load())
		w.open = true
	}
	walker.Allow(sliceWork)
	f.walked.base = -1
	if w.inBatch {
		f.walked.base, f.walked.last = walker.Batch().Base, walker.Batch().Last()
	}
	for {
		if !w.inBatch {
			if !walker.NextBatch() {
				return walker.Err()
			}
			if err := f.beginBatchLocked(w, walker.Batch()); err != nil {
				return err
			}
		}
		b := walker.Batch()
		if b.Kind == kafka.BatchRecords {
			if err := f.s.router.batchLocked(p, walker); err != nil || walker.Paused() {
				return err
			}
		}
		w.inBatch = false
		p.routed.Store(b.Last() + 1)
	}
}

// beginBatchLocked takes the walk into its next batch.
func (f *fetcher) beginBatchLocked(w *walk, b *kafka.Batch) (err error) {
	p := w.p
	f.walked.base, f.walked.last = b.Base, b.Last()
	from := b.Next
	if from < b.Base {
		if from, err = f.s.holeLocked(p, from, b.Base, w.rp.LogStartOffset); err != nil {
			return err
		}
	}
	// The position may be committed, or the leader change, while it is inside the batch.
	if b.LeaderEpoch >= 0 {
		p.lastEpoch = b.LeaderEpoch
	}
	switch b.Kind {
	case kafka.BatchMarker:
		p.topic.stats.Markers.Add(1)
		f.s.recent.add(&p.window, from, b.Last()+1, nil)
	case kafka.BatchAborted:
		p.topic.stats.Aborted.Add(uint64(b.Count))
		f.s.recent.add(&p.window, from, b.Last()+1, nil)
	case kafka.BatchRecords:
		// The batch must be in recent before anybody can learn of a position in it.
		f.s.recent.add(&p.window, from, b.Last()+1, b.Raw)
	}
	w.inBatch = true
	p.batchMillis = b.MaxMillis()
	p.topic.stats.noteTimes(b.LogAppendTime())
	return nil
}

// batchLocked routes the records of the walker's batch that lie at the partition's position or after it.
func (r *router) batchLocked(p *partition, w *kafka.Walker) error {
	if p.breaks.due > 0 {
		return errBreakDue
	}
	next := p.routed.Load()
	for w.NextRecord() {
		rec := w.Record()
		if p.channel == nil && rec.TooLarge == 0 {
			if err := r.placeLocked(p, rec); err != nil {
				r.counts.compacted += uint64(rec.Offset - next)
				p.routed.Store(rec.Offset) // So that an operator skips this record, not an offset before it.
				return err
			}
		}
		if rec.Offset < next {
			panic(fmt.Sprintf("BUG: the walker of %s/%d is at offset %d, before the position %d",
				p.topic.name, p.id, rec.Offset, next))
		}
		r.counts.compacted += uint64(rec.Offset - next)
		next = rec.Offset + 1
		// The order matters: position first, interest second. A shard does it the other way round, see
		// routing.Interest. A record that we find unwanted is then covered by the position that the shard reads.
		p.routed.Store(next)
		if rec.TooLarge > 0 {
			r.tooLarge(p, rec)
			continue
		}
		if err := r.recordLocked(p, rec); err != nil {
			return err
		}
	}
	if err := w.Err(); err != nil || w.Paused() {
		return err
	}
	r.counts.compacted += uint64(w.Batch().Last() + 1 - next)
	return nil
}

// tooLarge counts a record above the limit, and logs the first one of each topic. The record is lost for its
// subscribers, but they need not resubscribe: that would not bring it.
func (r *router) tooLarge(p *partition, rec *kafka.Record) {
	ts := p.topic.stats
	ts.Lost[LossTooLarge].Add(1)
	if !p.topic.tooLargeNoted {
		p.topic.tooLargeNoted = true
		r.s.noteRecord(eventTooLarge, "", p, rec.Offset, []any{"limit", r.s.o.RecordBytesMax}, "bytes", rec.TooLarge)
	}
}

// flushLocked adds counts to the shared counters.
func (r *router) flushLocked(p *partition) {
	if r.placing != 0 { // Placing the record panicked. Like a record that panics later, it is skipped.
		p.routed.Store(r.placing)
		r.placing = 0
	}
	c := &r.counts
	ts := p.topic.stats
	r.taken += c.records
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
