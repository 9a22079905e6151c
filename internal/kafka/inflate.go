package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

// inflater decompresses batches piece by piece, so that its memory depends on the largest record and not on how far a
// batch expands. A walker owns it.
type inflater struct {
	max    int // Size in bytes of the largest batch, decompressed.
	src    bytes.Reader
	zstd   *zstd.Decoder // For windows of ordinary size.
	snappy snappyReader
	window []byte // The recordReader's.
	limit  io.LimitedReader
}

// inflaterKeeps is how many bytes a buffer keeps between two batches.
const inflaterKeeps = 4 << 20

// A zstd frame names the window that its decoder must hold. Up to level 19 that is at most 8 MiB. Data with a larger
// window gets a decoder of its own, which is not kept.
const (
	zstdWindow    = 8 << 20
	zstdWindowMax = 128 << 20 // Level 22.
)

var errInflated = errors.New("batch is too large when decompressed")

// open makes r the reader of the batch's records. It must be closed before the next open.
func (f *inflater) open(b *Batch, recordMax int, r *recordReader) error {
	*r = recordReader{batch: b, recordMax: recordMax}
	var src io.Reader
	switch codec := compress.Compression(b.attributes & attrCompression); codec {
	case compress.None:
		r.data = b.records
		return nil
	case compress.Snappy:
		f.snappy.reset(b.records)
		src = &f.snappy
	case compress.Zstd:
		var err error
		if src, err = f.openZstd(b.records); err != nil {
			return err
		}
	case compress.Gzip, compress.Lz4:
		f.src.Reset(b.records)
		z := codec.Codec().NewReader(&f.src)
		src, r.done = z, func() { _ = z.Close() }
	default:
		return fmt.Errorf("unknown compression %d", int8(codec))
	}
	f.limit = io.LimitedReader{R: src, N: int64(f.max) + 1}
	r.src, r.inflate = &f.limit, f
	return nil
}

func (f *inflater) openZstd(src []byte) (io.Reader, error) {
	f.src.Reset(src)
	if windowOf(src) > zstdWindow {
		return newZstd(&f.src, zstdWindowMax)
	}
	if f.zstd == nil {
		d, err := newZstd(nil, zstdWindow)
		if err != nil {
			return nil, err
		}
		f.zstd = d
	}
	return f.zstd, f.zstd.Reset(&f.src)
}

// windowOf returns the largest window of the zstd frames in src. A frame that is a single segment has no window in its
// header: its content is the window. It stops at what is not zstd, which the decoder reports.
func windowOf(src []byte) (largest uint64) {
	for len(src) > 0 {
		var h zstd.Header
		if h.Decode(src) != nil {
			return largest
		}
		if h.Skippable {
			n := min(int64(h.HeaderSize)+int64(h.SkippableSize), int64(len(src)))
			src = src[n:]
			continue
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		largest = max(largest, window)
		src = src[min(h.HeaderSize, len(src)):]
		if src = afterBlocks(src); h.HasCheckSum {
			src = src[min(4, len(src)):]
		}
	}
	return largest
}

// afterBlocks returns what follows the blocks of a zstd frame, which begin at src. See RFC 8878, section 3.1.1.2.
func afterBlocks(src []byte) []byte {
	const headBytes, typeRLE = 3, 1
	for last := false; !last && len(src) >= headBytes; {
		head := uint32(src[0]) | uint32(src[1])<<8 | uint32(src[2])<<16
		last = head&1 != 0
		size := int(head >> 3)
		if head>>1&3 == typeRLE {
			size = 1
		}
		src = src[min(headBytes+size, len(src)):]
	}
	return src
}

func newZstd(r io.Reader, window uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
}

// snappyReader reads snappy as Kafka has it: a single block, or the blocks of the Java library's framing, each after
// its length.
type snappyReader struct {
	src    []byte
	framed bool
	out    []byte // The decoded bytes that nobody has read yet; a part of buf.
	buf    []byte
}

const (
	snappyMagic     = "\x82SNAPPY\x00"
	snappyHeadBytes = 16 // With two version numbers.
	// snappyRatio is more than the format can expand a block: three bytes stand for at most 64.
	snappyRatio = 22
)

var errSnappy = errors.New("malformed snappy block")

func (s *snappyReader) reset(src []byte) {
	s.src, s.out = src, nil
	if s.framed = len(src) >= snappyHeadBytes && string(src[:len(snappyMagic)]) == snappyMagic; s.framed {
		s.src = src[snappyHeadBytes:]
	}
	if cap(s.buf) > inflaterKeeps {
		s.buf = nil
	}
}

// Read implements io.Reader.
func (s *snappyReader) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if len(s.src) == 0 {
			return 0, io.EOF
		}
		block := s.src
		s.src = nil
		if s.framed {
			if len(block) < 4 {
				return 0, errSnappy
			}
			n := uint64(binary.BigEndian.Uint32(block))
			if block = block[4:]; n > uint64(len(block)) {
				return 0, errSnappy
			}
			block, s.src = block[:n], block[n:]
		}
		size, err := snappy.DecodedLen(block)
		if err != nil || size > snappyRatio*len(block) {
			return 0, errSnappy
		}
		if cap(s.buf) < size {
			s.buf = make([]byte, size)
		}
		if s.out, err = snappy.Decode(s.buf[:cap(s.buf)], block); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}
