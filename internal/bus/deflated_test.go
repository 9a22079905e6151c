package bus

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One asker of many is the first, all are told once, and the bytes count once.
func TestAwait(t *testing.T) {
	r := newRing(t, Options{Shards: 1})
	batch := batchFor(10, 0)
	require.NoError(t, r.Publish(t.Context(), batch))
	seg := batch.Segments[0]
	before := r.Stats().RetainedBytes.Load()
	form := VariantJSON.Deflated()
	require.Equal(t, VariantJSON, form.Plain())
	require.Equal(t, VariantJSON, VariantJSON.Plain())

	var firsts, told, others atomic.Int32
	var askers sync.WaitGroup
	for range 32 {
		askers.Go(func() {
			_, built, first := seg.Await(form, func() { told.Add(1) })
			if built {
				told.Add(1)
			}
			if first {
				firsts.Add(1)
				go seg.Provide(form, make([]byte, 50))
			}
		})
	}
	_, built, first := seg.Await(VariantRaw.Deflated(), func() { others.Add(1) })
	require.False(t, built)
	require.True(t, first, "another variant is another wait")
	askers.Wait()
	require.Eventually(t, func() bool { return told.Load() == 32 }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, firsts.Load())
	require.Zero(t, others.Load())
	b, built := seg.Built(form)
	require.True(t, built)
	require.Len(t, b, 50)
	require.Equal(t, before+50, r.Stats().RetainedBytes.Load())

	// A compressed layout that is the plain one holds nothing more.
	plain := seg.Layout(VariantRaw, func(*Segment) []byte { return make([]byte, 100) })
	seg.Provide(VariantRaw.Deflated(), plain)
	require.EqualValues(t, 1, others.Load())
	require.Equal(t, before+150, r.Stats().RetainedBytes.Load())
	got := seg.Layout(VariantRaw.Deflated(), func(*Segment) []byte { panic("BUG: it is there") })
	require.Same(t, &plain[0], &got[0])
}
