package stats

import (
	"math"
	"sort"
	"sync/atomic"
)

// Add adds n to c unless n is 0: an atomic addition takes the cache line from its readers even then.
func Add(c *atomic.Uint64, n uint64) {
	if n != 0 {
		c.Add(n)
	}
}

// Count adds n, which must not be negative, to c. Any goroutine may call it.
func Count[N ~int | ~int64](c *atomic.Uint64, n N) {
	c.Add(uint64(n))
}

// Histogram counts observations in fixed buckets. It allocates nothing after NewHistogram.
type Histogram struct {
	bounds  []float64       // Upper bounds, ascending; fixed after NewHistogram.
	counts  []atomic.Uint64 // One a bound, then one for everything above.
	sumBits atomic.Uint64   // float64 bits of the sum.
}

// HistogramSnapshot is what a histogram held at one moment. Counts are cumulative by upper bound, as Prometheus wants
// them.
type HistogramSnapshot struct {
	Bounds     []float64
	Cumulative []uint64 // One a bound: observations at or below it.
	Count      uint64
	Sum        float64
}

// NewHistogram returns a histogram with the given upper bounds, which must ascend and are kept, not copied.
func NewHistogram(bounds []float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts n observations of the value v.
func (h *Histogram) Observe(v float64, n uint64) {
	h.counts[sort.SearchFloat64s(h.bounds, v)].Add(n)
	for {
		old := h.sumBits.Load()
		sum := math.Float64frombits(old) + v*float64(n)
		if h.sumBits.CompareAndSwap(old, math.Float64bits(sum)) {
			return
		}
	}
}

// Snapshot returns the current counts. Observations made meanwhile may be in the counts and not yet in the sum.
func (h *Histogram) Snapshot() HistogramSnapshot {
	s := HistogramSnapshot{Bounds: h.bounds, Cumulative: make([]uint64, len(h.bounds))}
	for i := range h.bounds {
		s.Count += h.counts[i].Load()
		s.Cumulative[i] = s.Count
	}
	s.Count += h.counts[len(h.bounds)].Load()
	s.Sum = math.Float64frombits(h.sumBits.Load())
	return s
}

// LatencyBounds are the upper bounds, in seconds, of delivery latency: 100 µs to 60 s.
func LatencyBounds() []float64 {
	return []float64{100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5,
		10, 30, 60}
}

// BatchBounds are the upper bounds, in records, of batch sizes.
func BatchBounds() []float64 {
	return []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
}
