package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// describe walks through data and returns one line for each batch: kind, missing offsets in front, offsets, records.
func describe(w *Walker, data []byte, aborted []AbortedTransaction, next int64) (lines []string) {
	for w.Open(data, aborted, next); w.NextBatch(); {
		b := w.Batch()
		line := []string{"records", "marker", "aborted"}[b.Kind]
		if b.Next < b.Base {
			line += fmt.Sprintf(" gap %d-%d", b.Next, b.Base-1)
		}
		line += fmt.Sprintf(" %d-%d:", b.Base, b.Last())
		for w.NextRecord() {
			r := w.Record()
			line += fmt.Sprintf(" %d=%s", r.Offset, r.Value)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestWalker(t *testing.T) {
	transaction := func(base, producer int64, n int) kafkatest.Batch {
		b := kafkatest.Numbered(base, n)
		b.Attributes, b.Producer = kafkatest.Transactional, producer
		return b
	}
	for name, c := range map[string]struct {
		batches []kafkatest.Batch
		aborted []AbortedTransaction
		next    int64
		want    []string
	}{
		"from inside a batch": {batches: []kafkatest.Batch{kafkatest.Numbered(0, 2), kafkatest.Numbered(2, 3)}, next: 3, want: []string{"records 2-4: 3=3 4=4"}},
		"gap between batches": {
			batches: []kafkatest.Batch{kafkatest.Numbered(0, 1), kafkatest.Numbered(5, 1)}, want: []string{"records 0-0: 0=0", "records gap 1-4 5-5: 5=5"},
		},
		"gap in front": {batches: []kafkatest.Batch{kafkatest.Numbered(5, 1)}, next: 2, want: []string{"records gap 2-4 5-5: 5=5"}},
		"compacted": {
			batches: []kafkatest.Batch{{Base: 0, LastDelta: 9, Producer: -1, Records: []kafkatest.Record{{Delta: 2, Value: "x"}}}, {Base: 10, LastDelta: 4, Producer: -1}, kafkatest.Numbered(15, 1)},
			want:    []string{"records 0-9: 2=x", "records 10-14:", "records 15-15: 15=15"},
		},
		"aborted, beside a committed transaction": {
			batches: []kafkatest.Batch{transaction(0, 5, 1), transaction(1, 6, 1), kafkatest.Marker(2, 5, false), transaction(3, 5, 1), kafkatest.Marker(4, 6, true)},
			aborted: []AbortedTransaction{{ProducerID: 5, FirstOffset: 0}},
			want:    []string{"aborted 0-0:", "records 1-1: 1=1", "marker 2-2:", "records 3-3: 3=3", "marker 4-4:"},
		},
		"aborted, with its marker before the position": {
			batches: []kafkatest.Batch{transaction(0, 5, 1), kafkatest.Marker(1, 5, false), transaction(2, 5, 1)},
			aborted: []AbortedTransaction{{ProducerID: 5, FirstOffset: 0}}, next: 2,
			want: []string{"records 2-2: 2=2"},
		},
		"aborted, listed in any order": {
			batches: []kafkatest.Batch{transaction(0, 5, 1), kafkatest.Marker(1, 5, false), transaction(2, 5, 1), kafkatest.Marker(3, 5, true), transaction(4, 5, 1)},
			aborted: []AbortedTransaction{{ProducerID: 5, FirstOffset: 4}, {ProducerID: 5, FirstOffset: 0}},
			want:    []string{"aborted 0-0:", "marker 1-1:", "records 2-2: 2=2", "marker 3-3:", "aborted 4-4:"},
		},
		"of an aborting producer, outside a transaction": {
			batches: []kafkatest.Batch{{Base: 0, Producer: 5, Records: []kafkatest.Record{{Value: "x"}}}},
			aborted: []AbortedTransaction{{ProducerID: 5, FirstOffset: 0}}, want: []string{"records 0-0: 0=x"},
		},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWalker(1<<20, 1<<20)
			require.Equal(t, c.want, describe(w, kafkatest.Join(c.batches...), c.aborted, c.next))
			require.NoError(t, w.Err())
			require.False(t, w.Partial())
			require.False(t, w.NextBatch() || w.NextRecord(), "at the end")
		})
	}
}

// A walk may be left anywhere. The next one begins anew, also from a compressed batch.
func TestWalkerLeftInTheMiddle(t *testing.T) {
	for _, c := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		batch := kafkatest.Numbered(0, 3)
		batch.Attributes = int16(c)
		data := kafkatest.Join(batch, kafkatest.Numbered(3, 1))
		w := NewWalker(1<<20, 1<<20)
		for range 3 {
			w.Open(data, nil, 1)
			require.True(t, w.NextBatch() && w.NextRecord())
			require.EqualValues(t, 1, w.Record().Offset)
		}
		require.True(t, w.NextBatch())
		require.EqualValues(t, 3, w.Batch().Next, "the rest of a batch is passed with it")
		require.Equal(t, []string{"records 0-2: 0=0 1=1 2=2", "records 3-3: 3=3"}, describe(w, data, nil, 0))
	}
}

func TestWalkerEnds(t *testing.T) {
	data := kafkatest.Join(kafkatest.Numbered(0, 2), kafkatest.Numbered(2, 2))
	w := NewWalker(1<<20, 1<<20)
	require.Len(t, describe(w, data[:len(data)-1], nil, 0), 1)
	require.NoError(t, w.Err())
	require.True(t, w.Partial())

	data[len(data)-1] ^= 1
	require.Len(t, describe(w, data, nil, 0), 1)
	var bad *BatchError
	require.ErrorAs(t, w.Err(), &bad)
	require.EqualValues(t, 3, bad.Last)
	require.False(t, bad.Permanent())
	require.False(t, w.Partial())
	require.False(t, w.NextBatch(), "after an error")

	old := kafkatest.Numbered(0, 1).Encode()
	old[magicAt] = 1
	require.Empty(t, describe(w, old, nil, 0))
	require.ErrorAs(t, w.Err(), &bad)
	require.True(t, bad.Permanent())
}

// Records have the time of their producer or the broker's, as the batch says.
func TestRecordTime(t *testing.T) {
	for attributes, want := range map[int16]int64{0: kafkatest.FirstTime + 1, attrLogAppendTime: kafkatest.MaxTime} {
		batch := kafkatest.Numbered(0, 1)
		batch.Attributes = attributes
		w := NewWalker(1<<20, 1<<20)
		w.Open(batch.Encode(), nil, 0)
		require.True(t, w.NextBatch() && w.NextRecord())
		require.Equal(t, want, w.Record().Time().UnixMilli())
	}
}

// The window over a compressed batch is no larger than the largest accepted record needs.
func TestWindow(t *testing.T) {
	const limit = 600 << 10
	for _, c := range []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		batch := kafkatest.Batch{Attributes: int16(c), LastDelta: 3, Producer: -1}
		for i, n := range []int{1, limit - 100, 5 * limit, 3} {
			batch.Records = append(batch.Records, kafkatest.Record{Delta: int64(i), Value: strings.Repeat("x", n)})
		}
		w := NewWalker(1<<30, limit)
		w.Open(batch.Encode(), nil, 0)
		require.True(t, w.NextBatch())
		var sizes []int
		for w.NextRecord() {
			r := w.Record()
			sizes = append(sizes, len(r.Value))
			require.Equal(t, r.Offset == 2, r.TooLarge > 5*limit)
		}
		require.NoError(t, w.Err())
		require.Equal(t, []int{1, limit - 100, 0, 3}, sizes)
		require.LessOrEqual(t, cap(w.inflate.window), 2*limit, c)
	}
}

func TestWalkerAllocates(t *testing.T) {
	data := kafkatest.Join(kafkatest.Numbered(0, 100), kafkatest.Marker(100, 5, false), kafkatest.Numbered(101, 100))
	aborted := []AbortedTransaction{{ProducerID: 5, FirstOffset: 50}, {ProducerID: 6, FirstOffset: 10}}
	w := NewWalker(1<<20, 1<<20)
	records := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for w.Open(data, aborted, 0); w.NextBatch(); {
			for w.NextRecord() {
				records++
			}
		}
	}))
	require.Equal(t, 101*200, records)
}

// A walk pauses when its work is used up, anywhere, and then goes on as if it had not.
func TestWalkerPauses(t *testing.T) {
	const limit = 100 << 10
	for _, c := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		large := kafkatest.Batch{Base: 3, Attributes: int16(c), LastDelta: 2, Producer: -1, Records: []kafkatest.Record{
			{Delta: 0, Value: "3"}, {Delta: 1, Value: strings.Repeat("x", 20*limit)}, {Delta: 2, Value: "5"},
		}}
		many := kafkatest.Numbered(7, 500)
		many.Attributes = int16(c)
		data := kafkatest.Join(kafkatest.Numbered(0, 3), large, kafkatest.Marker(6, 5, true), many, kafkatest.Numbered(507, 1))
		w := NewWalker(1<<30, limit)
		want := describe(w, data, nil, 2)
		require.Len(t, want, 5)
		for _, work := range []int{1, 100, 1000, 100_000, 1 << 30} {
			pauses := 0
			goOn := func(next func() bool) bool {
				for !next() {
					if !w.Paused() {
						return false
					}
					pauses++
					w.Allow(work)
				}
				return true
			}
			var got []string
			w.Open(data, nil, 2)
			for w.Allow(work); goOn(w.NextBatch); {
				b := w.Batch()
				line := fmt.Sprintf("%s %d-%d:", []string{"records", "marker", "aborted"}[b.Kind], b.Base, b.Last())
				for goOn(w.NextRecord) {
					line += fmt.Sprintf(" %d=%s", w.Record().Offset, w.Record().Value)
				}
				got = append(got, line)
			}
			require.NoError(t, w.Err())
			require.Equal(t, want, got, "%v, %d", c, work)
			require.Equal(t, work > 1<<20, pauses == 0)
			if work <= 1000 && c != compress.None { // A record that is skipped does not take long at once.
				require.Greater(t, pauses, 20*limit/(windowBytes+work))
			}
		}
	}
}
