package bus

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Bytes count from the release on while somebody holds them, once however many do.
func TestHold(t *testing.T) {
	ring := &Ring{}
	total := &ring.held
	b := &Batch{ring: ring}
	b.layoutBytes.Store(100)
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

	b = &Batch{ring: ring}
	b.layoutBytes.Store(70)
	b.release()
	p = b.Hold() // A shard that had the batch in hand when it was released.
	require.EqualValues(t, 70, total.Load())
	p.Drop()
	require.Zero(t, total.Load())
}

// A shard that has the batch in hand when it is released may still lay it out, which others hold by then.
func TestHoldGrows(t *testing.T) {
	ring := &Ring{}
	total := &ring.held
	b := &Batch{ring: ring}
	seg := &Segment{batch: b}
	seg.store(VariantRaw, make([]byte, 100))
	p := b.Hold()
	b.release()
	require.EqualValues(t, 100, total.Load())
	seg.store(VariantJSON, make([]byte, 50))
	require.EqualValues(t, 150, total.Load())
	p.Drop()
	require.Zero(t, total.Load())
	seg.store(VariantProtobuf, make([]byte, 7))
	require.Zero(t, total.Load(), "nobody holds it")
	p = b.Hold()
	require.EqualValues(t, 157, total.Load())
	p.Drop()
	require.Zero(t, total.Load())
}

func TestHoldConcurrent(t *testing.T) {
	ring := &Ring{}
	total := &ring.held
	for range 2000 {
		b := &Batch{ring: ring}
		b.layoutBytes.Store(7)
		var running sync.WaitGroup
		for range 3 {
			running.Go(func() {
				for range 5 {
					b.Hold().Drop()
					b.grow(1)
				}
			})
		}
		last := make(chan *Hold, 1)
		running.Go(func() { last <- b.Hold() })
		running.Go(func() { b.release() })
		running.Wait()
		require.EqualValues(t, 7+3*5, total.Load())
		(<-last).Drop()
		require.Zero(t, total.Load())
	}
}
