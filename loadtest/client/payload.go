package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// The layout of a record's value, all of fixed width:
//
//	{"seq":"000000000001","ts":1790000000000000000,"run":"0123abcd","pad":"…"}
//
// seq is a string because JSON has no number with leading zeros.
const (
	seqKey    = `{"seq":"`
	seqAt     = len(seqKey)
	seqDigits = 12
	tsKey     = `","ts":`
	tsAt      = seqAt + seqDigits + len(tsKey)
	tsDigits  = 19
	tailAt    = tsAt + tsDigits
	runKey    = `,"run":"`
	padKey    = `","pad":"`
	endKey    = `"}`
)

// SizeMin is the smallest record in bytes: one without padding.
const SizeMin = tailAt + len(runKey) + 8 + len(padKey) + len(endKey)

// seqMax is the largest number of a record.
const seqMax = 999_999_999_999

// Format makes and reads the records of one run. It does not change: any goroutine may use it.
type Format struct {
	size int
	tail []byte // Of every record, from the run on.
}

// NewTextFormat is NewFormat for records whose padding is not one byte again and again but text such as records have, to be compressed.
func NewTextFormat(run uint32, size int) (*Format, error) {
	f, err := NewFormat(run, size)
	if err != nil {
		return nil, err
	}
	pad := f.tail[len(runKey)+8+len(padKey) : len(f.tail)-len(endKey)]
	rnd := rand.New(rand.NewPCG(uint64(run), 0))
	for at := 0; at < len(pad); {
		at += copy(pad[at:], fmt.Sprintf("%s bid %d.%02d ask %d.%02d size %d; ", symbols[rnd.IntN(len(symbols))],
			rnd.IntN(500), rnd.IntN(100), rnd.IntN(500), rnd.IntN(100), rnd.IntN(10_000)))
	}
	return f, nil
}

// symbols are made up.
var symbols = [...]string{"ALPHA", "BRAVO", "CEDAR", "DELTA", "EMBER", "FJORD", "GAMMA", "HAZEL"}

// NewFormat returns the format of records of size bytes. run tells the records of this run from those of another one that are still
// on their way. It is an error when size is below SizeMin.
func NewFormat(run uint32, size int) (*Format, error) {
	if size < SizeMin {
		return nil, fmt.Errorf("record size %d is less than %d, which the number and the time in it need", size, SizeMin)
	}
	tail := fmt.Appendf(nil, "%s%08x%s", runKey, run, padKey)
	tail = append(tail, bytes.Repeat([]byte("."), size-SizeMin)...)
	return &Format{size: size, tail: append(tail, endKey...)}, nil
}

// Size is the length of a record in bytes.
func (f *Format) Size() int { return f.size }

// Append appends record number seq, made at ts, which is in nanoseconds since 1970.
func (f *Format) Append(dst []byte, seq uint64, ts int64) []byte {
	if seq > seqMax || ts < 1e18 {
		panic(fmt.Sprintf("BUG: record number %d or time %d does not fit its place", seq, ts))
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

// verdict is what a record is.
type verdict uint8

const (
	recordOK      verdict = iota
	recordForeign         // Well made, but of another run.
	recordCorrupt         // Of another length, or with other bytes than were produced.
)

// parse reads the record at the start of b, which may go on after it.
func (f *Format) parse(b []byte) (seq uint64, ts int64, v verdict) {
	if len(b) < tailAt+len(runKey)+8 || string(b[:seqAt]) != seqKey || string(b[tsAt-len(tsKey):tsAt]) != tsKey {
		return 0, 0, recordCorrupt
	}
	seq, okSeq := digits(b[seqAt : seqAt+seqDigits])
	nanos, okTS := digits(b[tsAt : tsAt+tsDigits])
	if !okSeq || !okTS || seq == 0 || nanos > 1<<63-1 {
		return 0, 0, recordCorrupt
	}
	run := len(runKey) + 8
	if !bytes.Equal(b[tailAt:tailAt+run], f.tail[:run]) {
		if string(b[tailAt:tailAt+len(runKey)]) == runKey {
			return 0, 0, recordForeign
		}
		return 0, 0, recordCorrupt
	}
	if len(b) < f.size || !bytes.Equal(b[tailAt:f.size], f.tail) {
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
