package wire

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// bitDeflated is RSV1: the message is compressed (RFC 7692 §6).
const bitDeflated = 0x40

// headerMax is the length of the longest header of an unmasked frame.
const headerMax = 10

// DeflatedMax returns the largest size on the wire of a compressed message of up to messageMax bytes. Data that does
// not compress grows a little.
func DeflatedMax(messageMax int) int { return messageMax + messageMax>>10 + 64 }

// AppendDeflated appends the given frames, and compresses messages of at least sizeMin bytes, except for those that do
// not get smaller. The frames must be complete, unmasked and unfragmented. compress appends the data of a compressed
// message (RFC 7692 §7.2.1) to its first argument.
func AppendDeflated(dst, frames []byte, sizeMin int, compress func(dst, payload []byte) []byte) []byte {
	for len(frames) > 0 {
		size, payload := cutFrame(frames)
		frame := frames[:size+payload]
		frames = frames[size+payload:]
		if payload < sizeMin {
			dst = append(dst, frame...)
			continue
		}
		start := len(dst)
		dst = compress(append(dst, make([]byte, headerMax)...), frame[size:])
		n := len(dst) - start - headerMax
		if n >= payload {
			dst = append(dst[:start], frame...)
			continue
		}
		// The length of the header depends on n. Write the header, and move the data to follow it.
		header := AppendHeader(dst[start:start], ws.OpCode(frame[0]&0xf), n)
		header[0] |= bitDeflated
		dst = append(dst[:start+len(header)], dst[start+headerMax:]...)
	}
	return dst
}

// cutFrame returns the lengths of the header and the payload of the unmasked frame at the start of b.
func cutFrame(b []byte) (header, payload int) {
	switch n := int(b[1] & 0x7f); n {
	case 126:
		return 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return 10, int(binary.BigEndian.Uint64(b[2:])) //nolint:gosec // The bytes are in memory.
	default:
		return 2, n
	}
}

// Inflater decompresses messages, each independently of the others. Its zero value is ready to use. It serves any
// number of connections of one goroutine. From the first compressed message on it takes 45 KiB and up to twice the
// largest message.
type Inflater struct {
	in     []byte       // Compressed message, followed by deflateEnd.
	out    []byte       // Decompressed message.
	source bytes.Reader // Reads in.

	// reader decompresses source; it is also a flate.Resetter. It is the standard library's, because klauspost's
	// (v1.20.3) reads some malformed data differently depending on earlier data, as FuzzInflate found.
	reader io.Reader
}

// deflateEnd is appended to the data of a compressed message: the end of the empty block that a sender omits (RFC 7692
// §7.2.2), and a final block, without which complete data and truncated data would look the same.
const deflateEnd = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// streamsMax is the maximum number of blocks with BFINAL in one message (RFC 7692 §7.2.3.4). The reader starts again
// after each. Senders that use such blocks use one.
const streamsMax = 4

var errBadDeflate = &CloseError{uint16(ws.StatusInvalidFramePayloadData), "compressed data is malformed"}

// Inflate decompresses the payload of an EventDeflatedText or EventDeflatedBinary. It returns the event for the
// uncompressed message, and its payload, which is valid until the next call.
//
// An error means that the connection must be failed with the error's code: 1009 if the message has more than messageMax
// bytes, of which Inflate decompresses at most one too many; 1007 if the data is malformed, or if it is text that is
// not UTF-8.
func (f *Inflater) Inflate(ev Event, payload []byte, messageMax int) (Event, []byte, *CloseError) {
	f.in = append(append(f.in[:0], payload...), deflateEnd...)
	f.source.Reset(f.in)
	f.out = f.out[:0]
	for range streamsMax {
		if bad := f.stream(messageMax); bad != nil {
			return EventNone, nil, bad
		}
		if f.source.Len() > 0 {
			continue // This was a final block of the sender; deflateEnd has another one.
		}
		if ev == EventDeflatedBinary {
			return EventBinary, f.out, nil
		}
		if !utf8.Valid(f.out) {
			return EventNone, nil, errBadUTF8
		}
		return EventText, f.out, nil
	}
	return EventNone, nil, errBadDeflate
}

// stream decompresses up to the end of the next block with BFINAL.
func (f *Inflater) stream(messageMax int) *CloseError {
	if f.reader == nil {
		f.reader = flate.NewReader(&f.source)
	} else if err := f.reader.(flate.Resetter).Reset(&f.source, nil); err != nil {
		return errBadDeflate
	}
	for {
		if len(f.out) == cap(f.out) {
			f.grow(messageMax)
		}
		n, err := f.reader.Read(f.out[len(f.out):cap(f.out)])
		f.out = f.out[:len(f.out)+n]
		switch {
		case len(f.out) > messageMax:
			return errTooBig
		case err == io.EOF:
			return nil
		case err != nil:
			return errBadDeflate
		}
	}
}

// grow makes room for more output, up to one byte more than messageMax. That byte shows that the message is too large.
func (f *Inflater) grow(messageMax int) {
	const first = 4096
	room := min(max(first, 2*cap(f.out)), messageMax+1)
	f.out = append(make([]byte, 0, room), f.out...)
}
