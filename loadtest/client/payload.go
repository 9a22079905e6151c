package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// The format of a record's value, with fields of fixed width:
//
//	{"seq":"000000000001","ts":1790000000000000000,"run":"0123abcd","pad":"…"}
//
// seq is a string because JSON has no number with leading zeros.
const (
	seqKey    = `{"seq":"`
	seqStart  = len(seqKey)
	seqDigits = 12
	tsKey     = `","ts":`
	tsStart   = seqStart + seqDigits + len(tsKey)
	tsDigits  = 19
	tailStart = tsStart + tsDigits
	runKey    = `,"run":"`
	padKey    = `","pad":"`
	endKey    = `"}`
)

// SizeMin is the smallest record in bytes: one without padding.
const SizeMin = tailStart + len(runKey) + 8 + len(padKey) + len(endKey)

// seqMax is the largest number of a record.
const seqMax = 999_999_999_999

// Format creates and reads the records of one run. It does not change, so any goroutine may use it.
type Format struct {
	size int    // Bytes of a record.
	tail []byte // End of every record, from runKey on.
}

// NewTextFormat is NewFormat for records whose padding is realistic text, for measuring compression, rather than one
// repeated byte.
func NewTextFormat(run uint32, size int) (*Format, error) {
	f, err := NewFormat(run, size)
	if err != nil {
		return nil, err
	}
	pad := f.tail[len(runKey)+8+len(padKey) : len(f.tail)-len(endKey)]
	rnd := rand.New(rand.NewPCG(uint64(run), 0))
	for filled := 0; filled < len(pad); {
		filled += copy(pad[filled:], fmt.Sprintf("%s bid %d.%02d ask %d.%02d size %d; ",
			symbols[rnd.IntN(len(symbols))],
			rnd.IntN(500), rnd.IntN(100), rnd.IntN(500), rnd.IntN(100), rnd.IntN(10_000)))
	}
	return f, nil
}

// symbols are the words of the text.
var symbols = [...]string{"ALPHA", "BRAVO", "CEDAR", "DELTA", "EMBER", "FJORD", "GAMMA", "HAZEL"}

// NewFormat returns the format of records of size bytes. run distinguishes the records of this run from those of
// earlier runs. The error means that size is below SizeMin.
func NewFormat(run uint32, size int) (*Format, error) {
	if size < SizeMin {
		return nil, fmt.Errorf("record size %d must be at least %d", size, SizeMin)
	}
	tail := fmt.Appendf(nil, "%s%08x%s", runKey, run, padKey)
	tail = append(tail, bytes.Repeat([]byte("."), size-SizeMin)...)
	return &Format{size: size, tail: append(tail, endKey...)}, nil
}

// Size is the length of a record in bytes.
func (f *Format) Size() int { return f.size }

// Append appends record number seq with the time ts, in nanoseconds since 1970.
func (f *Format) Append(dst []byte, seq uint64, ts int64) []byte {
	if seq > seqMax || ts < 1e18 {
		panic(fmt.Sprintf("BUG: record number %d or time %d does not fit its field", seq, ts))
	}
	dst = appendDigits(append(dst, seqKey...), seq, seqDigits)
	dst = appendDigits(append(dst, tsKey...), uint64(ts), tsDigits)
	return append(dst, f.tail...)
}

func appendDigits(dst []byte, n uint64, width int) []byte {
	var b [20]byte
	for i := width - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, b[:width]...)
}

// verdict is the result of checking a record.
type verdict uint8

const (
	recordOK      verdict = iota
	recordForeign         // Well-formed, but of another run.
	recordCorrupt         // With another length or other bytes than were produced.
)

// parse reads the record at the start of b, which may be longer.
func (f *Format) parse(b []byte) (seq uint64, ts int64, v verdict) {
	if len(b) < tailStart+len(runKey)+8 || string(b[:seqStart]) != seqKey ||
		string(b[tsStart-len(tsKey):tsStart]) != tsKey {
		return 0, 0, recordCorrupt
	}
	seq, okSeq := digits(b[seqStart : seqStart+seqDigits])
	nanos, okTS := digits(b[tsStart : tsStart+tsDigits])
	if !okSeq || !okTS || seq == 0 || nanos > 1<<63-1 {
		return 0, 0, recordCorrupt
	}
	run := len(runKey) + 8
	if !bytes.Equal(b[tailStart:tailStart+run], f.tail[:run]) {
		if string(b[tailStart:tailStart+len(runKey)]) == runKey {
			return 0, 0, recordForeign
		}
		return 0, 0, recordCorrupt
	}
	if len(b) < f.size || !bytes.Equal(b[tailStart:f.size], f.tail) {
		return 0, 0, recordCorrupt
	}
	return seq, int64(nanos), recordOK
}

func digits(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, true
}
