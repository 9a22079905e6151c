package bus

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Bytes count from the release on while somebody holds them, once however many do.
func TestPin(t *testing.T) {
	stats := &Stats{}
	total := &stats.PinnedBytes
	b := &Batch{stats: stats}
	b.layouts.Store(100)
	p := b.Hold()
	require.Same(t, p, b.Hold())
	p.Drop()
	require.Zero(t, total.Load(), "the ring counts them")
	require.False(t, p.Released())
	b.release()
	require.True(t, p.Released())
	require.EqualValues(t, 100, total.Load())
	b.Hold().Drop()
	require.EqualValues(t, 100, total.Load())
	p.Drop()
	require.Zero(t, total.Load())

	b = &Batch{stats: stats}
	b.layouts.Store(70)
	b.release()
	p = b.Hold() // A shard that had the batch in hand when it was released.
	require.EqualValues(t, 70, total.Load())
	p.Drop()
	require.Zero(t, total.Load())
}

func TestPinConcurrent(t *testing.T) {
	stats := &Stats{}
	total := &stats.PinnedBytes
	for range 2000 {
		b := &Batch{stats: stats}
		b.layouts.Store(7)
		var running sync.WaitGroup
		for range 3 {
			running.Go(func() {
				for range 5 {
					b.Hold().Drop()
				}
			})
		}
		running.Go(func() { b.release() })
		running.Wait()
		require.Zero(t, total.Load())
	}
}
