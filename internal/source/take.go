package source

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/kafka"
	"wsd/internal/stats"
)

// errNoRecords: the broker says that there are records, but sends none.
var errNoRecords = kafka.NewError(kafka.ErrorTimeout,
	errors.New("the broker has had records for too long without sending any"))

// take routes a response. Moved reports that the position of some partition has changed. Bytes is how much there was to
// read. If there was something to read and nothing moved, asking again immediately is useless.
func (f *fetcher) take(resp *kmsg.FetchResponse) (moved bool, bytes int, err error) {
	records, starved, answered, now := uint64(0), false, 0, time.Now()
	f.fetched = stats.Clock(now)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			bytes += len(resp.Topics[i].Partitions[j].RecordBatches)
		}
	}
	if bytes > 0 {
		f.eachWithData(resp, func(p *partition) { p.noteWaiting(now) })
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			a, ok := f.asked[keyOf(t.TopicID, t.Topic, rp.Partition, resp.Version)]
			if !ok {
				continue
			}
			answered++
			r := f.takeOne(a, rp, bytes)
			if r.err != nil {
				return moved, bytes, r.err
			}
			moved = moved || r.moved
			// Other partitions can keep one out of the response unless it was first, or the response is empty.
			starved = starved || r.starved && (a.first && !f.fetches.incremental || bytes == 0)
			records += r.records
		}
	}
	if records > 0 {
		f.s.stats.BatchSize.Observe(float64(records), 1)
		f.gather.took(int(records), bytes)
	}
	f.s.mu.Lock()
	err = f.s.router.sealLocked()
	f.s.mu.Unlock()
	if bytes > 0 && err == nil {
		now := time.Now()
		f.eachWithData(resp, func(p *partition) { p.noteOnBus(now) })
	}
	if err == nil && starved {
		f.s.stats.Stalls.Add(1)
		err = errNoRecords
	}
	if answered == 0 && !f.fetches.incremental {
		bytes = max(bytes, 1) // A response about nothing leads nowhere, too.
	}
	return moved, bytes, err
}

// eachWithData calls do for the partitions that have something to read in a response.
func (f *fetcher) eachWithData(resp *kmsg.FetchResponse, do func(*partition)) {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			if len(rp.RecordBatches) == 0 {
				continue
			}
			if a, ok := f.asked[keyOf(t.TopicID, t.Topic, rp.Partition, resp.Version)]; ok {
				do(a.p)
			}
		}
	}
}

// taken is what came of one partition's part of a response.
type taken struct {
	moved, starved bool
	records        uint64
	err            error // Always a *publishError.
}

// takeLocked does a slice of a walk: it routes what comes next of one partition's part of a response. It ends the walk
// if the partition has moved since the request or the last slice.
func (f *fetcher) takeLocked(w *walk) (r taken) {
	p, rp := w.p, w.rp
	first := !w.begun
	if first {
		w.begun, w.at, w.epoch, p.awaitsPlace = true, w.offset, p.leaderEpoch, false
	}
	w.done = true // Unless it pauses.
	if p.owner != f || p.resolve != resolveNothing || p.routed.Load() != w.at || p.leaderEpoch != w.epoch {
		return taken{moved: true} // Another broker leads it now, or its position was reset.
	}
	if rp.ErrorCode != 0 {
		f.refusedLocked(p, kafka.Code(rp.ErrorCode))
		return taken{moved: true}
	}
	if first && f.redirectLocked(p, rp) {
		return taken{moved: true}
	}
	if first {
		if rp.HighWatermark >= 0 { // Otherwise the broker does not know it.
			p.high.Store(rp.HighWatermark)
		}
		if !f.s.o.ReadUncommitted {
			p.stableLocked(rp.LastStableOffset, rp.HighWatermark, time.Now())
		}
	}
	end := f.s.o.endOf(rp)
	f.s.router.taken = 0
	f.s.builder.From(bus.Origin{Topic: p.topic.stats.Deliveries, Fetched: w.fetched, Partition: p.id})
	good, err := f.readLocked(w)
	r.err = err
	r.records = f.s.router.taken

	now := time.Now()
	position := p.routed.Load()
	r.moved = position != w.at || w.open
	w.at, w.done = position, !w.open
	wasCaughtUp := p.caughtUp.Swap(position >= end)
	if position >= end {
		p.noteEnd()
		p.readUpTo.Store(readAll)
	} else {
		p.readUpTo.Store(p.batchMillis)
	}
	if good {
		p.badOffset = -1
		p.goodLocked(f.s)
	}
	if r.moved || position >= end || !good || wasCaughtUp { // There may have been no response about it for long.
		p.progressAt = now
	} else {
		r.starved = now.Sub(p.progressAt) > f.s.o.StallAfter
	}
	return r
}

// readLocked routes what can be routed in a slice of the walk and deals with what cannot be read. Good reports that
// everything could be read.
func (f *fetcher) readLocked(w *walk) (good bool, err error) {
	p, rp := w.p, w.rp
	for {
		from := p.routed.Load()
		err := f.walkLocked(w)
		if err == nil {
			return true, nil // Return before errors.As needs the variables below, which it moves to the heap.
		}
		var pub *publishError
		var bad *kafka.BatchError
		var pan *panicError
		var stop *stopError
		switch {
		case errors.As(err, &pub):
			return false, pub
		case errors.Is(err, errBreakDue):
			p.fetchFrom = p.breaks.at()
			return false, nil
		case errors.As(err, &stop):
			f.s.stopLocked(p, stop)
			return false, nil
		case errors.As(err, &bad):
			return false, f.badBatchLocked(p, bad, bad.Last, rp.HighWatermark, bad.Permanent())
		case errors.As(err, &pan):
			again, err := f.panickedLocked(p, pan, from, rp.HighWatermark)
			if err != nil || !again {
				return false, err
			}
		default:
			return false, err
		}
	}
}

// badTriesMax is how often a batch that cannot be read is fetched before it is skipped.
const badTriesMax = 3

// badBatchLocked deals with a batch that cannot be read because of cause. The batch is fetched again, since the damage
// may have happened on the way, and from the leader if a replica sent it. If that does not help, or cannot help, the
// batch is skipped as lost. Last is the batch's last offset according to its header, -1 if that is not known, and high
// the partition's high watermark. The error is a *publishError.
func (f *fetcher) badBatchLocked(p *partition, cause error, last, high int64, permanent bool) error {
	if f.replicaFailedLocked(p, kafka.NewError(kafka.ErrorCorrupt, cause)) {
		p.badOffset = -1 // The leader may have an intact copy, and gets all tries.
		return nil
	}
	position := p.routed.Load()
	if p.badOffset != position {
		p.badOffset, p.badTries = position, 0
	}
	p.badTries++
	if p.badTries < badTriesMax && !permanent {
		f.s.failLocked(p, kafka.NewError(kafka.ErrorCorrupt, cause), false)
		return nil
	}
	f.s.stats.FetchErrors[kafka.ErrorCorrupt].Add(1)
	// The header may itself be damaged. Skipping a single offset is the least that cannot loop for ever.
	to := position + 1
	if last >= position && last < high {
		to = last + 1
	}
	tries := p.badTries
	p.routed.Store(to)
	p.badOffset, p.badTries = to, badTriesMax-1 // If the damage goes on, it is not tried three times at each offset.
	return f.s.loseLocked(p, LossUnreadable, position, to, "tries", tries, "err", cause)
}

// refusedLocked deals with a broker's error code for one partition.
func (f *fetcher) refusedLocked(p *partition, code kafka.Code) {
	if f.replicaFailedLocked(p, code) {
		return
	}
	switch kafka.KindOfCode(code) {
	case kafka.ErrorOffset:
		// Somebody may have created the topic again, so the metadata is refreshed before the range of offsets is looked
		// up.
		p.resolve = resolveRange
		p.vouchLocked()
		f.s.failLocked(p, code, true)
	case kafka.ErrorLeader, kafka.ErrorUnknownTopic:
		f.s.failLocked(p, code, true)
	default:
		f.s.failLocked(p, code, false)
	}
}

// restartStallClocks gives each partition of f the full time until it counts as starved.
func (s *Source) restartStallClocks(f *fetcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range f.parts {
		p.progressAt = now
	}
}
