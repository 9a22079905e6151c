package routing

// clientIDBytes is the length of a client id: nonce and ConnID, 16 hexadecimal digits each.
const clientIDBytes = 32

// AppendClientID appends the id by which the client protocol knows a connection. The nonce distinguishes processes,
// each of which may have a connection with this ConnID.
func AppendClientID(dst []byte, nonce uint64, id ConnID) []byte {
	const digits = "0123456789abcdef"
	for _, v := range [2]uint64{nonce, uint64(id)} {
		for shift := 60; shift >= 0; shift -= 4 {
			dst = append(dst, digits[v>>shift&15])
		}
	}
	return dst
}

// ParseClientID parses what AppendClientID writes, and accepts nothing else. It allocates nothing.
func ParseClientID(b []byte) (nonce uint64, id ConnID, ok bool) {
	if len(b) != clientIDBytes {
		return 0, 0, false
	}
	var v [2]uint64
	for i, c := range b {
		var digit byte
		switch {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		default:
			return 0, 0, false
		}
		v[i/16] = v[i/16]<<4 | uint64(digit)
	}
	return v[0], ConnID(v[1]), true
}
