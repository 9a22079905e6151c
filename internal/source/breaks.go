package source

import (
	"errors"
	"time"
)

// A break costs every subscriber a new subscription. In a log with damage everywhere, one break for each loss would
// keep them from anything else, so the breaks of a partition are limited in rate. A break that has to wait stands for
// all losses until its time comes. No record of the partition is routed meanwhile, so that it still stands where it
// belongs: after what came before the losses, and before what follows them.

const (
	breaksAtOnce = 50                     // Breaks of a partition that never wait.
	breakEvery   = 100 * time.Millisecond // The time between two others.
)

// errBreakDue: a record comes after a loss whose break has to wait.
var errBreakDue = errors.New("a break has to wait")

// breakPace says when the next break of a partition may be published. Source.mu guards it.
type breakPace struct {
	due  int       // The losses that wait for their break.
	paid time.Time // When the breaks so far would all have been published, one each breakEvery.
}

// at returns when the next break may be published.
func (b *breakPace) at() time.Time { return b.paid.Add(-(breaksAtOnce - 1) * breakEvery) }

// published notes that a break is published now.
func (b *breakPace) published(now time.Time) {
	if b.paid.Before(now) {
		b.paid = now
	}
	b.paid = b.paid.Add(breakEvery)
}

// payBreakLocked publishes the break that is due for the partition's losses, unless it has to wait. The error is a
// *publishError.
func (s *Source) payBreakLocked(p *partition, now time.Time) error {
	pace := &p.breaks
	if pace.due == 0 || now.Before(pace.at()) {
		return nil
	}
	notified, err := s.breakLocked(p)
	if notified {
		p.topic.stats.BreaksMerged.Add(uint64(pace.due - 1))
		pace.published(now)
	}
	pace.due = 0
	return err
}

// payBreaks publishes the breaks that were due when the last plan was made. The error is a *publishError.
func (f *fetcher) payBreaks() error {
	if len(f.broken) == 0 {
		return nil
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	now := time.Now()
	for _, p := range f.broken {
		if err := f.s.payBreakLocked(p, now); err != nil {
			return err
		}
	}
	clear(f.broken)
	f.broken = f.broken[:0]
	return nil
}
