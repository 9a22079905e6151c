package kafka

import "encoding/binary"

// Varint takes a zigzag varint off b, as numbers stand in a record. It reports false if the varint is incomplete or too
// long.
func Varint(b []byte) (v int64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		u := uint64(b[0])
		return int64(u>>1) ^ -int64(u&1), b[1:], true
	}
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// NullBytes takes a length and that many bytes off b, as keys, values and headers stand in a record. A negative length
// is null. The result points into b.
func NullBytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := Varint(b)
	switch {
	case !ok || n > int64(len(b)):
		return nil, nil, false
	case n < 0:
		return nil, b, true
	default:
		return b[:n:n], b[n:], true
	}
}
