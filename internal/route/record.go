package route

import (
	"encoding/binary"

	"wsd/internal/kafka"
)

// Record is what Place decides by. Place only reads the slices, and keeps none.
type Record struct {
	Key, Value []byte // Nil for a Kafka null.
	Headers    Headers
}

// Headers are the headers of a record as they stand in a record batch of format 2: their number and, for each, its name
// and value, each after its length. All numbers are zigzag varints. Nil means no headers. AppendHeaders encodes pairs.
type Headers []byte

// headersMax is how many headers a record may have where rules or overrides look at them. Each condition may walk over
// all of them, and a record has room for half a million. A record with more goes nowhere, rather than where it would
// without those beyond: they may say that it is for one user.
const headersMax = 1024

// tooMany reports whether there are more than headersMax.
func (h Headers) tooMany() bool {
	if len(h) <= 2*headersMax { // A header has two bytes at least.
		return false
	}
	n, _, ok := kafka.Varint(h)
	return ok && n > headersMax
}

// Find returns the value of the last header with the name, which is nil for a null. It reports false if there is no
// such header. A malformed header ends the search.
func (h Headers) Find(name string) (value []byte, exists bool) {
	n, b, ok := kafka.Varint(h)
	for ; ok && n > 0; n-- {
		var k, v []byte
		if k, v, b, ok = next(b); ok && string(k) == name {
			value, exists = v, true
		}
	}
	return value, exists
}

// Each calls do with each header, in order, until it returns false. It reports whether do has always returned true, and
// the headers are well formed and not too many.
func (h Headers) Each(do func(name, value []byte) bool) bool {
	if h.tooMany() {
		return false
	}
	n, b, ok := kafka.Varint(h)
	for ; ok && n > 0; n-- {
		var k, v []byte
		if k, v, b, ok = next(b); ok {
			ok = do(k, v)
		}
	}
	return ok || len(h) == 0
}

// AppendHeaders encodes pairs of name and value.
func AppendHeaders(dst []byte, pairs ...[2]string) Headers {
	dst = binary.AppendVarint(dst, int64(len(pairs)))
	for _, pair := range pairs {
		for _, s := range pair {
			dst = binary.AppendVarint(dst, int64(len(s)))
			dst = append(dst, s...)
		}
	}
	return dst
}

// next takes one header off b.
func next(b []byte) (name, value, rest []byte, ok bool) {
	if name, b, ok = kafka.NullBytes(b); !ok {
		return nil, nil, nil, false
	}
	value, rest, ok = kafka.NullBytes(b)
	return name, value, rest, ok
}
