package kafka

import (
	"errors"
	"fmt"
	"io"
)

// recordReader decodes the records of a batch. It reads an uncompressed batch where it lies in the response, and a
// compressed one through a window, which is never larger than the largest accepted record needs.
type recordReader struct {
	batch     *Batch
	data      []byte // Bytes that have not been decoded.
	src       io.Reader
	inflate   *inflater
	recordMax int
	skipping  int64  // How many bytes are left of a record above recordMax.
	done      func() // Nil if src is nil.
}

const (
	// The size of the window, unless a record needs more. An lz4 block fits, and is then decoded in place.
	windowBytes = 256 << 10
	varintMax   = 10
	// emptyReadsMax is how often in a row a decompressor may return nothing.
	emptyReadsMax = 100
	// recordHead is more than what stands before a record's key: length, attributes, time and offset.
	recordHead = 1 + 3*varintMax
)

// close gives back what a compressed batch took.
func (r *recordReader) close() {
	if r.done != nil {
		r.done()
	}
	if r.inflate != nil && cap(r.inflate.window) > inflaterKeeps {
		r.inflate.window = nil
	}
	*r = recordReader{}
}

// next decodes the next record, and returns how many bytes it has read. The slices in rec are valid until the following
// call. A record above recordMax is skipped: rec has only its offset, time and size. While r.skipping is not 0, next
// has to be called again for the same record, so that a large one does not take long at once.
func (r *recordReader) next(rec *Record) (n int, err error) {
	if r.skipping > 0 {
		return r.skip()
	}
	for {
		size, body, ok := Varint(r.data)
		switch {
		case ok && size < 1:
			return 0, errRecord
		case ok && size > int64(r.recordMax):
			return r.beginSkip(rec, size)
		case ok && size <= int64(len(body)):
			r.data = body[size:]
			return int(size), rec.parse(body[:size], r.batch)
		case !ok && len(r.data) >= varintMax:
			return 0, errRecord
		}
		if err := r.fill(varintMax + int(size)); err != nil {
			return 0, err
		}
	}
}

// beginSkip begins to skip the record of the given size at the start of data.
func (r *recordReader) beginSkip(rec *Record, size int64) (n int, err error) {
	for len(r.data) < recordHead && r.src != nil {
		if err := r.fill(recordHead); errors.Is(err, errRecord) {
			break // The batch ends here. If the record is complete that is no fault.
		} else if err != nil {
			return 0, err
		}
	}
	_, body, _ := Varint(r.data)
	if len(body) == 0 {
		return 0, errRecord
	}
	if _, err := rec.parseHead(body, r.batch); err != nil {
		return 0, err
	}
	rec.Key, rec.Value, rec.Headers, rec.TooLarge = nil, nil, nil, size
	r.data, r.skipping = body, size
	return r.skip()
}

// skip skips what data has of the record, or one window more.
func (r *recordReader) skip() (n int, err error) {
	if len(r.data) == 0 {
		if err := r.fill(1); err != nil {
			return 0, err
		}
	}
	n = int(min(r.skipping, int64(len(r.data))))
	r.data, r.skipping = r.data[n:], r.skipping-int64(n)
	return n, nil
}

// fill gets more bytes into data. The window then has room for at least need bytes.
func (r *recordReader) fill(need int) error {
	if r.src == nil {
		return errRecord
	}
	f := r.inflate
	if size := max(need, windowBytes); cap(f.window) < size {
		f.window = append(make([]byte, 0, size), r.data...)
	} else {
		f.window = f.window[:copy(f.window[:cap(f.window)], r.data)]
	}
	n, err := 0, error(nil)
	for tries := 0; n == 0 && err == nil && tries < emptyReadsMax; tries++ {
		n, err = r.src.Read(f.window[len(f.window):cap(f.window)])
	}
	f.window = f.window[:len(f.window)+n]
	r.data = f.window
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
