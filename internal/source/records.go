package source

import (
	"errors"
	"fmt"
	"io"

	"wsd/internal/route"
)

// recordReader goes through the records of a batch where they lie in the response, or through a window over a compressed batch
// which is never larger than the largest record that is accepted needs.
type recordReader struct {
	data []byte // Bytes at hand.
	src  io.Reader
	f    *inflater
	max  int // Bytes of the largest record.
	done func()
}

const (
	windowBytes = 256 << 10 // Of the window, unless a record needs more. No less than an lz4 block, which is then decoded in place.
	varintMax   = 10
	// emptyReadsMax is how often a decompressor may return nothing.
	emptyReadsMax = 100
	// recordHead is more than what stands in front of a record's key: length, attributes, time and offset.
	recordHead = 1 + 3*varintMax
)

// records returns a reader of the batch's records. It must be closed, and is the only one of f until then.
func (f *inflater) records(bt *batch, recordMax int) (recordReader, error) {
	src, done, err := f.open(bt)
	r := recordReader{src: src, f: f, max: recordMax, done: done}
	if src == nil {
		r.data = bt.records
	}
	return r, err
}

func (r *recordReader) close() {
	r.done()
	if cap(r.f.buf) > inflaterKeeps {
		r.f.buf = nil
	}
}

// next decodes the next record into rec, whose slices are valid until the next call. tooLarge is the size of a record above the limit,
// which is passed over: of it rec has only the time and the offset.
func (r *recordReader) next(rec *record) (tooLarge int64, err error) {
	for {
		size, body, ok := route.Varint(r.data)
		switch {
		case ok && size < 1:
			return 0, errRecord
		case ok && size > int64(r.max):
			return size, r.skip(rec, size)
		case ok && size <= int64(len(body)):
			r.data = body[size:]
			return 0, rec.parse(body[:size])
		case !ok && len(r.data) >= varintMax:
			return 0, errRecord
		}
		if err := r.fill(varintMax + int(size)); err != nil {
			return 0, err
		}
	}
}

// skip passes over the record of so many bytes at the start of data.
func (r *recordReader) skip(rec *record, size int64) error {
	for len(r.data) < recordHead && r.src != nil {
		if err := r.fill(recordHead); errors.Is(err, errRecord) {
			break // The batch ends here, which a record that is complete may do.
		} else if err != nil {
			return err
		}
	}
	_, body, _ := route.Varint(r.data)
	if _, err := rec.parseHead(body); err != nil {
		return err
	}
	for left := size; ; {
		n := min(left, int64(len(body)))
		body, left = body[n:], left-n
		if r.data = body; left == 0 {
			return nil
		}
		if err := r.fill(1); err != nil {
			return err
		}
		body = r.data
	}
}

// fill gets more bytes, with room for need in all.
func (r *recordReader) fill(need int) error {
	if r.src == nil {
		return errRecord
	}
	f := r.f
	if size := max(need, windowBytes); cap(f.buf) < size {
		f.buf = append(make([]byte, 0, size), r.data...)
	} else {
		f.buf = f.buf[:copy(f.buf[:cap(f.buf)], r.data)]
	}
	n, err := 0, error(nil)
	for tries := 0; n == 0 && err == nil && tries < emptyReadsMax; tries++ {
		n, err = r.src.Read(f.buf[len(f.buf):cap(f.buf)])
	}
	f.buf = f.buf[:len(f.buf)+n]
	r.data = f.buf
	switch {
	case f.limit.N <= 0:
		return fmt.Errorf("%w: over %d bytes", errInflated, f.max)
	case n > 0:
		return nil
	case errors.Is(err, io.EOF):
		return errRecord
	case err != nil:
		return fmt.Errorf("decompress: %w", err)
	}
	return io.ErrNoProgress
}
