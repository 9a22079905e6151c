package stats

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Both scales count each duration where its value belongs.
func TestLatencies(t *testing.T) {
	var l Latencies
	durations := []time.Duration{-time.Second, 0, 1, 7 * time.Microsecond, 8 * time.Microsecond, time.Second, time.Second + 1,
		time.Second - 1, 30 * time.Hour, math.MaxInt64}
	for _, bound := range LatencyBounds() {
		d := time.Duration(math.Round(bound * 1e9))
		durations = append(durations, d-1, d, d+1)
	}
	for range 2000 {
		durations = append(durations, time.Duration(math.Exp(rand.Float64()*34)))
	}
	want := LatencyCounts{Bounds: LatencyBounds()}
	for i, d := range durations {
		n := uint64(i%3 + 1)
		l.Observe(d, n)
		seconds := max(0, d.Seconds())
		want.Count += n
		want.Sum += seconds * float64(n)
		for i, bound := range want.Bounds {
			if seconds <= bound {
				want.Cumulative[i] += n
			}
		}
		if seconds <= LatencyZero {
			want.Zero += n
			continue
		}
		index := LatencyFirst
		for index < latencyLast && seconds > math.Exp2(float64(index)/4) {
			index++
		}
		want.Buckets[index-LatencyFirst] += n
	}
	var got LatencyCounts
	got.Add(&l)
	require.InEpsilon(t, want.Sum, got.Sum, 1e-9)
	got.Sum = want.Sum
	require.Equal(t, want, got)
	got.Add(&l)
	require.Equal(t, 2*want.Count, got.Count)
	require.Equal(t, 2*want.Cumulative[17], got.Cumulative[17])
}

func TestDeliveries(t *testing.T) {
	d := NewDeliveries("a", 3)
	d.Shard(1).Observe(time.Second, time.Millisecond, 5, true)
	d.Shard(2).Observe(-time.Second, time.Millisecond, 2, true)
	d.Shard(2).Observe(0, time.Millisecond, 1, false)
	var c DeliveryCounts
	c.Add(d)
	require.EqualValues(t, 7, c.Latency.Count, "what has no timestamp has no latency")
	require.EqualValues(t, 2, c.Latency.Zero)
	require.EqualValues(t, 8, c.InWsd.Count)
	require.EqualValues(t, 2, c.Ahead)
	require.Nil(t, d.shards[0].Load(), "a shard that delivers nothing takes no memory")
	require.Zero(t, testing.AllocsPerRun(100, func() { d.Shard(1).Observe(time.Second, time.Second, 1, true) }))
}

func BenchmarkLatencies(b *testing.B) {
	d := NewDeliveries("a", 1)
	for b.Loop() {
		d.Shard(0).Observe(3*time.Millisecond, 200*time.Microsecond, 1, true)
	}
}
