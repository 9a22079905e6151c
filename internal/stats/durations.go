package stats

import (
	"math/bits"
	"sync/atomic"
)

const (
	durationBuckets = 16
	durationShift   = 20
	// DurationMin is the shortest duration, in nanoseconds, that Durations counts: 1.05 ms.
	DurationMin = 1 << durationShift
)

// Durations counts long durations by powers of two of DurationMin, with the sum of each bucket. Shorter ones cost one
// comparison. One goroutine adds, any may read.
type Durations struct {
	buckets [durationBuckets]struct{ count, nanos atomic.Uint64 }
}

// DurationCounts is a copy of Durations: for each bucket, from the shortest durations to the longest, their number and
// their sum in nanoseconds.
type DurationCounts [durationBuckets]struct{ Count, Nanos uint64 }

// Add counts a duration in nanoseconds.
func (d *Durations) Add(nanos uint64) {
	if nanos >= DurationMin {
		d.add(nanos)
	}
}

func (d *Durations) add(nanos uint64) {
	b := &d.buckets[durationBucket(nanos)]
	b.nanos.Add(nanos)
	b.count.Add(1)
}

func durationBucket(nanos uint64) int {
	return min(bits.Len64(nanos>>durationShift), durationBuckets) - 1
}

// Read copies the counts. A duration that is added meanwhile may be in the sum and not yet in the number.
func (d *Durations) Read(counts *DurationCounts) {
	for i := range d.buckets {
		counts[i].Count, counts[i].Nanos = d.buckets[i].count.Load(), d.buckets[i].nanos.Load()
	}
}

// Add counts a duration in nanoseconds. It ignores those shorter than DurationMin.
func (c *DurationCounts) Add(nanos uint64) {
	if nanos >= DurationMin {
		b := &c[durationBucket(nanos)]
		b.Count++
		b.Nanos += nanos
	}
}

// AddSince adds what now has counted since before.
func (c *DurationCounts) AddSince(now, before *DurationCounts) {
	for i := range c {
		c[i].Count += now[i].Count - before[i].Count
		c[i].Nanos += now[i].Nanos - before[i].Nanos
	}
}
