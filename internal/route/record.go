package route

import (
	"encoding/binary"

	"wsd/internal/kafka"
)

// Record is what a decision rests on. Its slices are only read, and only during Place.
type Record struct {
	Key, Value []byte // nil for a Kafka null.
	Headers    Headers
}

// Headers are the headers of a record as they lie in a record batch of format 2: their number, and of each the name and the value
// with their lengths before them, all numbers being zigzag varints. Nil is none. AppendHeaders makes them of pairs.
type Headers []byte

// Find returns the value of the last header with the name, nil when that is null, and whether there is one. A malformed header ends
// the search.
func (h Headers) Find(name string) (value []byte, there bool) {
	n, b, ok := kafka.Varint(h)
	for ; ok && n > 0; n-- {
		var k, v []byte
		if k, v, b, ok = next(b); ok && string(k) == name {
			value, there = v, true
		}
	}
	return value, there
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
