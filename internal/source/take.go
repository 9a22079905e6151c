package source

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// errStalled: the broker says that there are records, and sends none.
var errStalled = kafka.NewError(kafka.ErrorTimeout, errors.New("records are waiting but none has come for too long: connecting anew"))

// take routes a response. moved: some partition went on; bytes: how much there was to read. Something to read and nothing moved
// means that asking again at once is useless.
func (f *fetcher) take(resp *kmsg.FetchResponse) (moved bool, bytes int, err error) {
	records, stalled, answered := uint64(0), false, 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			bytes += len(resp.Topics[i].Partitions[j].RecordBatches)
		}
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
			r := f.takeOne(a, rp)
			if r.err != nil {
				return moved, bytes, r.err
			}
			moved = moved || r.moved
			// Only one that stood first, or had the whole response for itself, could not be kept out by others.
			stalled = stalled || r.stalled && (a.first || bytes == 0)
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
	if err == nil && stalled {
		f.s.stats.Stalls.Add(1)
		err = errStalled
	}
	if answered == 0 {
		bytes = max(bytes, 1) // An answer about nothing leads nowhere too.
	}
	return moved, bytes, err
}

type taken struct {
	moved, stalled bool
	records        uint64
	err            error // Only a *publishError.
}

func (f *fetcher) takeOne(a asked, rp *kmsg.FetchResponseTopicPartition) taken {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.takeLocked(a, rp)
}

// takeLocked routes one partition's part of a response, unless the partition is no longer where it was asked for.
func (f *fetcher) takeLocked(a asked, rp *kmsg.FetchResponseTopicPartition) (r taken) {
	p := a.p
	if p.owner != f || p.resolve != resolveNothing || p.routed.Load() != a.offset {
		return taken{moved: true} // Led elsewhere, or reset, meanwhile.
	}
	if rp.ErrorCode != 0 {
		f.refusedLocked(p, kafka.Code(rp.ErrorCode))
		return taken{moved: true}
	}
	p.high.Store(rp.HighWatermark)
	end := rp.LastStableOffset
	if end < 0 {
		end = rp.HighWatermark
	}
	f.s.router.taken = 0
	good, err := f.readLocked(p, rp)
	r.err = err
	r.records = f.s.router.taken

	now := time.Now()
	at := p.routed.Load()
	r.moved = at != a.offset
	p.caughtUp.Store(at >= end)
	if good {
		p.badOffset = -1
		p.goodLocked(f.s)
	}
	if r.moved || at >= end || !good {
		p.progressAt = now
	} else {
		r.stalled = now.Sub(p.progressAt) > f.s.o.StallAfter
	}
	return r
}

// readLocked routes what can be routed and deals with what cannot be read. good: there was nothing of that kind.
func (f *fetcher) readLocked(p *partition, rp *kmsg.FetchResponseTopicPartition) (good bool, err error) {
	for {
		from := p.routed.Load()
		err := f.walkLocked(p, rp)
		if err == nil {
			return true, nil // Before what errors.As needs is allocated.
		}
		var pub *publishError
		var bad *kafka.BatchError
		var pan *panicError
		var stop *stopError
		switch {
		case errors.As(err, &pub):
			return false, pub
		case errors.As(err, &stop):
			f.s.stopLocked(p, stop)
			return false, nil
		case errors.As(err, &bad):
			return false, f.badBatchLocked(p, bad.Last, bad, bad.Permanent(), rp.HighWatermark)
		case errors.As(err, &pan):
			at := p.routed.Load()
			f.s.stats.Panics.Add(1)
			f.s.log.Error("BUG: reading a record panicked", "topic", p.topic.name, "partition", p.id, "offset", max(from, at-1), "panic", pan.value, "stack", string(pan.stack))
			if at == from { // Not even the next record could be found.
				return false, f.badBatchLocked(p, -1, pan, false, rp.HighWatermark)
			}
			if err := f.s.loseLocked(p, LossUnreadable, at-1, at); err != nil { // The walk goes on after it.
				return false, err
			}
		default:
			return false, err
		}
	}
}

// badTriesMax is how often a batch that cannot be read is fetched before it is given up.
const badTriesMax = 3

// badBatchLocked deals with a batch that cannot be read: it is fetched again, since the damage may have happened on the way; if
// that does not help, it is passed over as lost. The error is a *publishError.
func (f *fetcher) badBatchLocked(p *partition, last int64, err error, permanent bool, high int64) error {
	at := p.routed.Load()
	if p.badOffset != at {
		p.badOffset, p.badTries = at, 0
	}
	p.badTries++
	if p.badTries < badTriesMax && !permanent {
		f.s.failLocked(p, kafka.NewError(kafka.ErrorCorrupt, err), false)
		return nil
	}
	f.s.stats.FetchErrors[kafka.ErrorCorrupt].Add(1)
	// The header may be part of the damage. One offset further is the least that cannot loop for ever.
	to := at + 1
	if last >= at && last < high {
		to = last + 1
	}
	tries := p.badTries
	p.routed.Store(to)
	p.badOffset, p.badTries = to, badTriesMax-1 // Damage that goes on is not tried three times at each offset.
	return f.s.loseLocked(p, LossUnreadable, at, to, "tries", tries, "err", err)
}

// refusedLocked deals with a broker's error for one partition.
func (f *fetcher) refusedLocked(p *partition, code kafka.Code) {
	switch kafka.KindOfCode(code) {
	case kafka.ErrorOffset:
		// The topic may have been recreated, so the metadata is looked at before the range of offsets.
		p.resolve = resolveRange
		p.vouchLocked()
		f.s.failLocked(p, code, true)
	case kafka.ErrorLeader, kafka.ErrorUnknownTopic:
		f.s.failLocked(p, code, true)
	default:
		f.s.failLocked(p, code, false)
	}
}

// restartStallClocks gives every partition of f the full time again.
func (s *Source) restartStallClocks(f *fetcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range f.parts {
		p.progressAt = now
	}
}
