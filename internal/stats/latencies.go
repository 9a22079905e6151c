package stats

import (
	"math"
	"sync/atomic"
	"time"
)

// The buckets of Latencies are those of Prometheus's native histograms with schema LatencySchema: bucket i holds what
// is above 2^((i-1)/4) and at most 2^(i/4) seconds. Four buckets to a power of two make a quantile known to 9 %.
const (
	LatencySchema = 2
	// LatencyFirst is the index of the first bucket. What is at most LatencyZero is in the zero bucket before it.
	LatencyFirst = -17<<LatencySchema + 1
	// latencyLast is the index of the last bucket, which ends at 2^16 s, 18 hours, and takes what is longer as well.
	latencyLast    = 16 << LatencySchema
	latencyBuckets = latencyLast - LatencyFirst + 1
)

// LatencyZero is the end of the zero bucket in seconds: 7.6 µs.
const LatencyZero = 1.0 / (1 << 17)

// quarters are the mantissas at which buckets end: 2^(-1), 2^(-3/4), 2^(-1/2) and 2^(-1/4), as math.Frexp has them.
var quarters = [...]float64{0.5, math.Exp2(-0.75), math.Sqrt2 / 2, math.Exp2(-0.25)}

// latencyBounds are LatencyBounds; splits has for each bucket the place of the bound inside it, or -1.
var latencyBounds, latencySplits = func() ([]float64, [latencyBuckets]int8) {
	bounds, splits := LatencyBounds(), [latencyBuckets]int8{}
	for i := range splits {
		splits[i] = -1
	}
	for i, bound := range bounds {
		splits[latencyBucket(bound)-LatencyFirst] = int8(i)
	}
	return bounds, splits
}()

// Latencies counts durations in two scales at once: in the buckets of a native histogram, and by LatencyBounds. An
// observation is two additions. One goroutine observes, any may read. The zero value is ready to use; it is 1.2 KB.
type Latencies struct {
	sum    atomic.Uint64 // float64 bits, in seconds.
	zero   atomic.Uint64
	counts [latencyBuckets]atomic.Uint64
	above  [18]atomic.Uint64 // By bound: what is in its bucket and above it. Not in counts.
}

// latencyBucket returns the index of the bucket for a number of seconds above LatencyZero.
func latencyBucket(seconds float64) int {
	m, e := math.Frexp(seconds)
	i := e << LatencySchema
	switch {
	case m <= quarters[0]:
		i -= 4
	case m <= quarters[1]:
		i -= 3
	case m <= quarters[2]:
		i -= 2
	case m <= quarters[3]:
		i--
	}
	return min(i, latencyLast)
}

// Observe counts n observations of d. A negative d counts as none.
func (l *Latencies) Observe(d time.Duration, n uint64) {
	seconds := max(0, d).Seconds()
	l.sum.Store(math.Float64bits(math.Float64frombits(l.sum.Load()) + seconds*float64(n)))
	if seconds <= LatencyZero {
		l.zero.Add(n)
		return
	}
	i := latencyBucket(seconds) - LatencyFirst
	if bound := latencySplits[i]; bound >= 0 && seconds > latencyBounds[bound] {
		l.above[bound].Add(n)
		return
	}
	l.counts[i].Add(n)
}

// LatencyCounts is what Latencies held at one moment, or the sum of several.
type LatencyCounts struct {
	Count, Zero uint64
	Sum         float64                // In seconds.
	Buckets     [latencyBuckets]uint64 // By index from LatencyFirst on.
	Bounds      []float64              // LatencyBounds.
	Cumulative  [18]uint64             // By bound: observations at or below it.
}

// Add adds what l holds. Observations made meanwhile may be in one figure and not yet in another.
func (c *LatencyCounts) Add(l *Latencies) {
	c.Bounds = latencyBounds
	c.Sum += math.Float64frombits(l.sum.Load())
	below := l.zero.Load() // What is at or below the end of the bucket at hand.
	c.Zero += below
	for i := range l.counts {
		n, above := l.counts[i].Load(), uint64(0)
		below += n
		if bound := latencySplits[i]; bound >= 0 {
			above = l.above[bound].Load()
			c.Cumulative[bound] += below
			below += above
		}
		c.Buckets[i] += n + above
	}
	c.Count += below
}
