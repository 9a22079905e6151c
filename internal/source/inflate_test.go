package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// windowBytes is the size of the window through which compressed batches are read.
const windowBytes = 256 << 10

// snappyMagic begins the framing of the Java snappy library.
const snappyMagic = "\x82SNAPPY\x00"

var compressions = []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}

// Records of any size up to the limit come through any compression as they are; larger ones are passed over, counted
// and said once.
func TestRecordSizes(t *testing.T) {
	const limit = 600 << 10
	for _, c := range compressions {
		t.Run(c.String(), func(t *testing.T) {
			b := newBench(t, Options{RecordBytesMax: limit})
			rnd := rand.New(rand.NewPCG(1, uint64(c)))
			batch := kafkatest.Batch{Attributes: int16(c), Producer: -1}
			var want []string
			var large []int64
			sizes := []int{0, 1, 100, windowBytes - 20, windowBytes, windowBytes + 1, limit - 100, limit + 1, 1, limit, 5 * limit, 3, limit + 1}
			for i, n := range sizes {
				v := make([]byte, n)
				for j := range v {
					v[j] = byte(rnd.IntN(7)) + 'a'
				}
				batch.Records = append(batch.Records, kafkatest.Record{Delta: int64(i), Key: "k", Value: string(v)})
				if n >= limit {
					large = append(large, int64(i))
				} else {
					want = append(want, string(v))
				}
			}
			batch.LastDelta = int32(len(sizes) - 1)
			b.feed(t, int64(len(sizes)), nil, kafkatest.Join(batch))
			b.wantValues(t, "a", want)
			require.EqualValues(t, len(sizes), b.p.routed.Load())
			require.EqualValues(t, len(large), b.topic(0).Lost[LossTooLarge].Load())
			require.EqualValues(t, len(large), lost(b.topic(0)))
			require.Equal(t, 1, b.logs.count("larger than kafka.max_record_bytes"))
			require.Contains(t, b.logs.String(), fmt.Sprintf("offset=%d ", large[0]))
			require.Empty(t, b.breaksOf("a"), "coming back would not help")
		})
	}
}

// A batch that expands without end holds no more memory than one that does not, and is given up at the limit.
func TestInflatedMemoryIsBounded(t *testing.T) {
	const expanded, batchMax, bound = 200 << 20, 96 << 20, 24 << 20
	for _, c := range compressions[1:] {
		t.Run(c.String(), func(t *testing.T) {
			// Records of one value each, far more than the limit of a batch in all.
			value := strings.Repeat("x", 512<<10)
			const records = expanded / (512 << 10)
			var body bytes.Buffer
			w := c.Codec().NewWriter(&body)
			for i := range records {
				one := binary.AppendVarint(binary.AppendVarint([]byte{0}, 1), int64(i))
				one = append(binary.AppendVarint(binary.AppendVarint(one, 0), int64(len(value))), value...)
				one = binary.AppendVarint(one, 0)
				_, err := w.Write(append(binary.AppendVarint(nil, int64(len(one))), one...))
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			b := newBench(t, Options{BatchBytesMax: batchMax, LogInterval: 1})
			b.interest.Remove("a", 0)
			batch := kafkatest.Batch{Attributes: int16(c), LastDelta: records - 1, Producer: -1, Count: records}.EncodeBody(body.Bytes())
			body = bytes.Buffer{}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.feed(t, records, nil, batch)
			runtime.ReadMemStats(&after)
			require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(bound), "of %d compressed bytes", len(batch))
			require.EqualValues(t, records, b.p.routed.Load())
			require.InDelta(t, batchMax/(512<<10), b.topic(0).Records.Load(), 2, "what came before the limit counts")
			require.EqualValues(t, records, b.topic(0).Records.Load()+b.topic(0).Lost[LossUnreadable].Load())
		})
	}
}

// Lengths in compressed data that are not true allocate nothing.
func TestForgedCompression(t *testing.T) {
	framed := append([]byte(snappyMagic), make([]byte, 8)...)
	for name, c := range map[string]struct {
		codec compress.Compression
		body  []byte
	}{
		"snappy block that says 4 GB":       {compress.Snappy, binary.AppendUvarint(nil, 1<<32-1)},
		"snappy block that says 100 MB":     {compress.Snappy, append(binary.AppendUvarint(nil, 100<<20), make([]byte, 100)...)},
		"snappy frame of 4 GB":              {compress.Snappy, binary.BigEndian.AppendUint32(framed, 1<<32-1)},
		"snappy frame that is cut":          {compress.Snappy, append(framed, 0, 0)},
		"snappy frame of nothing":           {compress.Snappy, binary.BigEndian.AppendUint32(framed, 0)},
		"zstd window of 512 MB":             {compress.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x03, 0x00, 0x00}},
		"zstd that is none":                 {compress.Zstd, []byte("nothing of the kind")},
		"gzip that is none":                 {compress.Gzip, []byte("nothing of the kind")},
		"lz4 that is none":                  {compress.Lz4, []byte("nothing of the kind")},
		"nothing at all, said to be snappy": {compress.Snappy, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{})
			data := kafkatest.Batch{Attributes: int16(c.codec), Producer: -1, Count: 1}.EncodeBody(c.body)
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for try := 0; b.p.routed.Load() < 1; try++ {
				require.Less(t, try, badTriesMax)
				b.feed(t, 1, nil, data)
			}
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
			require.EqualValues(t, 1, b.topic(0).Lost[LossUnreadable].Load())
		})
	}
}

// What clients write with another framing or a larger window is read too.
func TestOtherFraming(t *testing.T) {
	body := func(batch kafkatest.Batch) []byte { return batch.Encode()[kafkatest.HeadBytes:] }
	batch := kafkatest.Numbered(0, 2000)
	raw := body(batch)
	var framed []byte
	framed = append(append(framed, snappyMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	for rest := raw; len(rest) > 0; {
		n := min(len(rest), 1000)
		block := snappy.Encode(nil, rest[:n])
		framed = append(binary.BigEndian.AppendUint32(framed, uint32(len(block))), block...)
		rest = rest[n:]
	}
	var wide bytes.Buffer
	w, err := zstd.NewWriter(&wide, zstd.WithWindowSize(32<<20), zstd.WithSingleSegment(false))
	require.NoError(t, err)
	for rest := raw; len(rest) > 0; { // In pieces, so that the size is not known in front.
		n := min(len(rest), 1000)
		_, err = w.Write(rest[:n])
		require.NoError(t, err)
		rest = rest[n:]
	}
	require.NoError(t, w.Close())
	narrow, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20), zstd.WithSingleSegment(true))
	require.NoError(t, err)
	later := append(narrow.EncodeAll(raw[:100], nil), 0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3) // A skippable frame.
	wide2 := bytes.Buffer{}
	w.Reset(&wide2)
	for _, part := range [][]byte{raw[100:1000], raw[1000:]} {
		_, err = w.Write(part)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
	}
	require.NoError(t, w.Close())
	later = append(later, wide2.Bytes()...)
	for _, c := range []struct {
		codec compress.Compression
		body  []byte
	}{
		{compress.Snappy, framed}, {compress.Snappy, snappy.Encode(nil, raw)}, {compress.Zstd, wide.Bytes()},
		{compress.Zstd, later},
	} {
		b := newBench(t, Options{})
		b.feed(t, 2000, nil, kafkatest.Batch{Attributes: int16(c.codec), LastDelta: 1999, Producer: -1, Count: 2000}.EncodeBody(c.body))
		b.wantValues(t, "a", offsets(0, 2000))
		require.Zero(t, lost(b.topic(0)))
	}
}

// A frame of one segment has no window in its header: its whole content is the window.
func TestZstdOfOneSegment(t *testing.T) {
	const records, size = 24, 500 << 10 // 12 MB.
	var batch kafkatest.Batch
	random := rand.New(rand.NewPCG(1, 2))
	for i := range records {
		value := make([]byte, size)
		for j := range value {
			value[j] = 'a' + byte(random.Uint32N(16))
		}
		batch.Records = append(batch.Records, kafkatest.Record{Delta: int64(i), Value: string(value)})
	}
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(16<<20), zstd.WithSingleSegment(true))
	require.NoError(t, err)
	batch.LastDelta, batch.Producer = records-1, -1
	body := w.EncodeAll(batch.Encode()[kafkatest.HeadBytes:], nil)
	var h zstd.Header
	require.NoError(t, h.Decode(body))
	require.True(t, h.SingleSegment && h.WindowSize == 0)
	b := newBench(t, Options{})
	b.feed(t, records, nil, kafkatest.Batch{Attributes: int16(compress.Zstd), LastDelta: records - 1, Producer: -1,
		Count: records}.EncodeBody(body))
	require.EqualValues(t, records, b.topic(0).Records.Load())
	require.Zero(t, lost(b.topic(0)))
}
