package stats

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHistogram(t *testing.T) {
	h := NewHistogram([]float64{1, 2, 5})
	for v, n := range map[float64]uint64{0: 1, 1: 2, 1.5: 4, 5: 8, 6: 16} {
		h.Observe(v, n)
	}
	require.Equal(t, HistogramSnapshot{
		Bounds: []float64{1, 2, 5}, Cumulative: []uint64{3, 7, 15}, Count: 31, Sum: 2 + 6 + 40 + 96,
	}, h.Snapshot())
}

func TestHistogramConcurrent(t *testing.T) {
	h := NewHistogram(BatchBounds())
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 1000 {
				h.Observe(3, 1)
			}
		})
	}
	running.Wait()
	s := h.Snapshot()
	require.EqualValues(t, 8000, s.Count)
	require.InDelta(t, 24000, s.Sum, 0)
}

func TestAdd(t *testing.T) {
	var c atomic.Uint64
	Add(&c, 0)
	Add(&c, 3)
	require.EqualValues(t, 3, c.Load())
}

func TestBounds(t *testing.T) {
	for _, bounds := range [][]float64{LatencyBounds(), BatchBounds()} {
		for i := 1; i < len(bounds); i++ {
			require.Less(t, bounds[i-1], bounds[i])
		}
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	h := NewHistogram(LatencyBounds())
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Observe(0.01, 1) }))
}

func TestDurations(t *testing.T) {
	var d Durations
	for _, nanos := range []uint64{0, DurationMin - 1, DurationMin, 2*DurationMin - 1, 2 * DurationMin, 1 << 62} {
		d.Add(nanos)
	}
	var now, sum DurationCounts
	d.Read(&now)
	require.EqualValues(t, 2, now[0].Count)
	require.EqualValues(t, 3*DurationMin-1, now[0].Nanos)
	require.EqualValues(t, 1, now[1].Count)
	require.EqualValues(t, 1, now[len(now)-1].Count, "the last bucket has no end")
	before := now
	d.Add(5 * DurationMin)
	d.Read(&now)
	sum.AddSince(&now, &before)
	sum.Add(6 * DurationMin)
	sum.Add(1)
	require.EqualValues(t, 2, sum[2].Count)
	require.EqualValues(t, 11*DurationMin, sum[2].Nanos)
	require.Zero(t, sum[0])
}
