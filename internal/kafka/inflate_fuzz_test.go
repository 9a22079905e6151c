package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// framedSnappy returns data as the Java library writes it, in blocks of the given size.
func framedSnappy(data []byte, size int) []byte {
	out := append([]byte(snappyMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(data) > 0 {
		n := min(size, len(data))
		block := snappy.Encode(nil, data[:n])
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...)
		data = data[n:]
	}
	return out
}

// FuzzSnappy reads bytes as snappy in pieces that the input chooses, and expects what a decoder of whole blocks makes of
// them, up to the first that is malformed. No block may take more memory than the format allows for its size.
func FuzzSnappy(f *testing.F) {
	long := []byte(strings.Repeat("0123456789", 40))
	f.Add(snappy.Encode(nil, long), []byte{200})
	f.Add(framedSnappy(long, 150), []byte{1, 7})
	f.Add(append(framedSnappy(nil, 1), 0, 0, 0, 1, 0), []byte{3})                  // A block of nothing.
	f.Add(append(framedSnappy(long[:50], 20), 0xff, 0xff, 0xff, 0xff), []byte{50}) // A block of 4 GB.
	f.Add(binary.AppendUvarint(nil, 1<<32-1), []byte{0})
	f.Add([]byte("\x40\x00a\xfe\x01\x00"), []byte{255}) // Three bytes that stand for 64.
	f.Add([]byte(snappyMagic), []byte{1})
	var used snappyReader
	f.Fuzz(func(t *testing.T, src, cuts []byte) {
		want, whole := plainSnappy(src)
		used.buf = nil
		used.reset(src)
		var out []byte
		var err error
		for i := 0; err == nil; i++ {
			piece := make([]byte, 1)
			if len(cuts) > 0 {
				piece = make([]byte, 1+int(cuts[i%len(cuts)]))
			}
			var n int
			n, err = used.Read(piece)
			out = append(out, piece[:n]...)
			if n == 0 && err == nil || len(used.buf) > snappyRatio*len(src) {
				t.Fatalf("read %d bytes, %v, with a buffer of %d bytes for %d", n, err, len(used.buf), len(src))
			}
		}
		require.Equal(t, whole, errors.Is(err, io.EOF), err)
		require.True(t, bytes.Equal(want, out), "%d bytes, want %d", len(out), len(want))
	})
}

// plainSnappy decodes the blocks of src, up to the first that is malformed; whole reports that none is.
func plainSnappy(src []byte) (out []byte, whole bool) {
	blocks := [][]byte{src}
	whole = true
	if len(src) >= 16 && bytes.HasPrefix(src, []byte(snappyMagic)) {
		blocks = nil
		for src = src[16:]; len(src) > 0 && whole; {
			if len(src) < 4 || uint64(binary.BigEndian.Uint32(src)) > uint64(len(src)-4) {
				whole = false
				break
			}
			n := binary.BigEndian.Uint32(src)
			blocks, src = append(blocks, src[4:4+n]), src[4+n:]
		}
	} else if len(src) == 0 {
		blocks = nil
	}
	for _, block := range blocks {
		size, n := binary.Uvarint(block)
		if n <= 0 || size > uint64(snappyRatio*len(block)) {
			return out, false
		}
		one, err := snappy.Decode(nil, block)
		if err != nil {
			return out, false
		}
		out = append(out, one...)
	}
	return out, whole
}

// FuzzInflate reads the records of a batch with each compression. With pack the bytes are records, which it compresses:
// they must be read as they are read uncompressed. Otherwise they are what claims to be compressed: then limits must
// hold, and memory of an earlier batch must not matter.
func FuzzInflate(f *testing.F) {
	records := kafkatest.Numbered(0, 20).Encode()[kafkatest.HeadBytes:]
	for c := range int8(8) {
		f.Add(records, c, uint16(500), true)
		if codec := compress.Compression(c).Codec(); codec != nil {
			f.Add(packed(f, compress.Compression(c), records), c, uint16(3), false)
		}
	}
	f.Add(packed(f, compress.Zstd, bytes.Repeat(records[:40], 2000)), int8(compress.Zstd), uint16(1000), false)
	f.Add(framedSnappy(records, 100), int8(compress.Snappy), uint16(1000), false)
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x03, 0x00, 0x00}, int8(compress.Zstd), uint16(9), false)
	used := map[int]*inflater{}
	f.Fuzz(func(t *testing.T, body []byte, kind int8, recordMax uint16, pack bool) {
		const inflatedMax = 1 << 20
		kind &= attrCompression
		if len(body) > 64<<10 {
			return
		}
		codec := compress.Compression(kind)
		want, wantErr := "", error(nil)
		if pack {
			if codec > compress.Zstd {
				return
			}
			want, wantErr = recordsOf(t, &inflater{max: inflatedMax}, compress.None, body, int(recordMax))
			body = packed(t, codec, body)
		}
		got, err := recordsOf(t, &inflater{max: inflatedMax}, codec, body, int(recordMax))
		if pack {
			require.Equal(t, want, got)
			require.Equal(t, wantErr == nil, err == nil, "%v and %v", wantErr, err)
		}
		if used[int(kind)] == nil {
			used[int(kind)] = &inflater{max: inflatedMax}
		}
		again, againErr := recordsOf(t, used[int(kind)], codec, body, int(recordMax))
		require.Equal(t, got, again)
		require.Equal(t, err == nil, againErr == nil, "%v and %v", err, againErr)
	})
}

// recordsOf describes what it can read of a batch with that body.
func recordsOf(tb testing.TB, f *inflater, codec compress.Compression, body []byte, recordMax int) (string, error) {
	tb.Helper()
	var out strings.Builder
	var r recordReader
	if err := f.open(&Batch{attributes: int16(codec), lastDelta: 1 << 30, records: body}, recordMax, &r); err != nil {
		return "", err
	}
	defer r.close()
	inflated := 0
	for {
		if len(r.data) == 0 && r.src == nil {
			return out.String(), nil
		}
		var rec Record
		ended := len(r.data) == 0
		n, err := r.next(&rec)
		for err == nil && r.skipping > 0 {
			var more int
			more, err = r.next(&rec)
			n += more
		}
		if err != nil {
			if ended && errors.Is(err, errRecord) && n == 0 && len(r.data) == 0 && r.skipping == 0 {
				err = nil // The end: a batch says how many records it has.
			}
			return out.String(), err
		}
		inflated += n
		size := len(rec.Key) + len(rec.Value) + len(rec.Headers)
		if size > recordMax || cap(f.window) > max(windowBytes, recordMax+varintMax) || inflated > f.max {
			tb.Fatalf("a record of %d bytes, a window of %d, %d bytes in all", size, cap(f.window), inflated)
		}
		_, _ = out.WriteString(string(rec.Key) + "=" + string(rec.Value) + "\n")
	}
}

func packed(tb testing.TB, codec compress.Compression, body []byte) []byte {
	tb.Helper()
	if codec == compress.None {
		return body
	}
	var out bytes.Buffer
	w := codec.Codec().NewWriter(&out)
	_, err := w.Write(body)
	require.NoError(tb, err)
	require.NoError(tb, w.Close())
	return out.Bytes()
}
