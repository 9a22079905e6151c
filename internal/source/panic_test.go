package source

import (
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// A batch that panics again and again costs two lines, two breaks and two panics at most, however many offsets it
// claims.
func TestPanicsOfOneBatch(t *testing.T) {
	b := newBench(t, Options{})
	pan := &panicError{value: "defect"}
	panics := func(from, position int64) {
		t.Helper()
		b.Source.mu.Lock()
		defer b.Source.mu.Unlock()
		b.p.routed.Store(position)
		again, err := b.f.panickedLocked(b.p, pan, from, 1<<40)
		require.NoError(t, err)
		require.True(t, again)
	}
	b.f.walked.base, b.f.walked.last = 10, 30_409
	panics(10, 13) // While the record at 12 was read.
	require.EqualValues(t, 13, b.p.routed.Load())
	require.EqualValues(t, 1, lost(b.topic(0)))
	panics(13, 15)
	require.EqualValues(t, 30_410, b.p.routed.Load())
	require.EqualValues(t, 1+30_410-14, lost(b.topic(0)))
	require.EqualValues(t, 2, b.topic(0).Breaks.Load())

	// Behind a hole, and without a record: the whole batch at once.
	b.f.walked.base, b.f.walked.last = 40_000, 50_000
	panics(30_410, 40_000)
	require.EqualValues(t, 50_001, b.p.routed.Load())
	require.EqualValues(t, 3, b.topic(0).Breaks.Load())
	require.EqualValues(t, 3, b.Stats().Panics.Load())
	require.Equal(t, 1, b.logs.count("reading a record panicked"))
}

// A few bytes may decompress to millions of records that claim the same offset. They are not walked to their end, and
// not fetched again.
func TestOffsetsMustAscend(t *testing.T) {
	for wantLost, deltas := range map[uint64][]int64{3: {0, 0, 0, 0}, 1: {0, 2, 1, 3}} {
		b := newBench(t, Options{})
		bad := kafkatest.Batch{Base: 0, LastDelta: 3, Producer: -1}
		for _, d := range deltas {
			bad.Records = append(bad.Records, kafkatest.Record{Delta: d, Value: "x"})
		}
		b.feed(t, 6, nil, kafkatest.Join(bad, kafkatest.Numbered(4, 2)))
		b.feed(t, 6, nil, kafkatest.Join(bad, kafkatest.Numbered(4, 2)))
		require.EqualValues(t, 6, b.p.routed.Load())
		require.Equal(t, wantLost, lost(b.topic(0)))
		require.Contains(t, b.logs.String(), "do not ascend")
	}
}
