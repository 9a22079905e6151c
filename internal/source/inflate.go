package source

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

// inflater decompresses batches piece by piece, so that what it holds depends on the largest record and not on how far a batch
// expands. A fetcher owns it.
type inflater struct {
	src    bytes.Reader
	zstd   *zstd.Decoder // For ordinary windows.
	snappy snappyReader
	buf    []byte // Of the recordReader.
	limit  io.LimitedReader
	max    int // Bytes of the largest batch.
}

// inflaterKeeps is what a buffer may keep between two batches.
const inflaterKeeps = 4 << 20

// A zstd frame names the window that its decoder must hold. Up to level 19 that is 8 MiB. A larger one gets a decoder of its own,
// which is not kept.
const (
	zstdWindow    = 8 << 20
	zstdWindowMax = 128 << 20 // Level 22.
)

var errInflated = errors.New("batch is too large when decompressed")

// open returns a reader of bt's decompressed bytes, nil when they are not compressed. It is valid until the next call; done must be
// called after it.
func (f *inflater) open(bt *batch) (r io.Reader, done func(), err error) {
	done = func() {}
	switch c := bt.attributes.Compression(); c {
	case compress.None:
		return nil, done, nil
	case compress.Snappy:
		f.snappy.reset(bt.records)
		r = &f.snappy
	case compress.Zstd:
		if r, err = f.openZstd(bt.records); err != nil {
			return nil, done, err
		}
	default:
		codec := c.Codec()
		if codec == nil {
			return nil, done, fmt.Errorf("unknown compression %d", int8(c))
		}
		f.src.Reset(bt.records)
		z := codec.NewReader(&f.src)
		r, done = z, func() { _ = z.Close() }
	}
	f.limit = io.LimitedReader{R: r, N: int64(f.max) + 1}
	return &f.limit, done, nil
}

func (f *inflater) openZstd(src []byte) (io.Reader, error) {
	f.src.Reset(src)
	var h zstd.Header
	if err := h.Decode(src); err == nil && h.WindowSize > zstdWindow {
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

func newZstd(r io.Reader, window uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
}

// snappyReader reads snappy as Kafka has it: one block, or the blocks of the Java library's framing, each with its length in front.
type snappyReader struct {
	src    []byte
	framed bool
	out    []byte // Decoded and not read yet; part of buf.
	buf    []byte
}

const (
	snappyMagic     = "\x82SNAPPY\x00"
	snappyHeadBytes = 16 // With two version numbers.
	// snappyRatio is more than the format can expand a block: three bytes stand for 64 at most.
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
