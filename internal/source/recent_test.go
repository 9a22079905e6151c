package source

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// mark makes a batch whose bytes tell its offsets, and its partition.
func mark(partition int, from, to int64, size int) []byte {
	b := make([]byte, max(size, 3))
	b[0], b[1], b[2] = byte(partition), byte(from), byte(to)
	return b
}

// Partitions that are read in turns, with holes, with parts read twice, and with large batches: what find returns is
// always one run of what was added, and what is kept is within the limit.
func TestRecent(t *testing.T) {
	const limit = 64 << 10
	random := rand.New(rand.NewPCG(5, 6))
	r := &recent{bytesMax: limit, total: new(atomic.Int64)}
	windows := make([]*window, 5)
	at := make([]int64, len(windows))     // How far each has been read.
	begins := make([]int64, len(windows)) // Where the run that can be found begins at the earliest.
	for i := range windows {
		windows[i] = &window{}
	}
	for range 20_000 {
		i := random.IntN(len(windows))
		from, to := at[i], at[i]+1+random.Int64N(3)
		size := random.IntN(500)
		switch random.IntN(100) {
		case 0: // Passed over.
			from += 3
			to += 3
			begins[i] = from
		case 1: // Again.
			if len(windows[i].blocks) > 0 {
				from = max(0, from-2)
			}
		case 2:
			size = 20 << 10
		case 3: // Too large to be kept.
			size = limit + 1
			begins[i] = to
		}
		var raw []byte
		if random.IntN(10) > 0 || size > limit {
			raw = mark(i, from, to, size)
		}
		r.add(windows[i], from, to, raw)
		r.trim()
		at[i] = to

		held, live := 0, 0
		for j, w := range windows {
			for n, b := range w.blocks {
				held += cap(b.batches)
				live++
				require.GreaterOrEqual(t, b.from, begins[j])
				require.Less(t, b.from, b.to)
				if n > 0 {
					require.Equal(t, w.blocks[n-1].to, b.from, "a hole")
				}
			}
			if n := len(w.blocks); n > 0 {
				require.Equal(t, at[j], w.blocks[n-1].to)
				b, ok := w.find(at[j])
				require.True(t, ok)
				require.Equal(t, at[j], b.To)
				b.Done()
			}
			_, ok := w.find(at[j] + 1)
			require.False(t, ok)
			_, ok = w.find(begins[j])
			require.False(t, ok, "the offset before where it begins")
		}
		require.Equal(t, held, r.bytes)
		require.LessOrEqual(t, held, limit)
		require.EqualValues(t, held, r.total.Load())
		require.LessOrEqual(t, len(r.blocks), 2*live+2048, "blocks that were dropped are forgotten")
	}
	require.Positive(t, r.bytes)
}

// Who reads sees what was there when it looked, while more is added behind it and the oldest goes.
func TestRecentConcurrent(t *testing.T) {
	r := &recent{bytesMax: 1 << 20, total: new(atomic.Int64)}
	w := &window{}
	var stop atomic.Bool
	var end atomic.Int64
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for !stop.Load() {
				b, ok := w.find(end.Load())
				if !ok {
					continue
				}
				for i := 0; i < len(b.batches); i += 1000 {
					if b.batches[i] != 0 || b.batches[i+2] != b.batches[i+1]+1 || b.batches[i+999] != 0 {
						t.Errorf("at %d of %d: %v", i, len(b.batches), b.batches[i:i+3])
						return
					}
				}
				b.Done()
			}
		})
	}
	for n := range int64(100_000) {
		r.add(w, n, n+1, mark(0, n, n+1, 1000))
		r.trim()
		end.Store(n + 1)
	}
	stop.Store(true)
	running.Wait()
}

func TestRecentAllocatesLittle(t *testing.T) {
	r := &recent{bytesMax: 4 << 20, total: new(atomic.Int64)}
	w := &window{}
	raw, n := mark(0, 0, 1, 100), int64(0)
	perBatch := testing.AllocsPerRun(100_000, func() {
		r.add(w, n, n+1, raw)
		r.trim()
		n++
	})
	require.Less(t, perBatch, 0.01)
}
