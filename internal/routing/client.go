package routing

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// ClientID is the id by which the client protocol knows a connection. Whoever knows it can send that connection a
// message, so it must not be possible to guess it, not even from the ids of other connections.
type ClientID [aes.BlockSize]byte

// clientIDBytes is the length of a ClientID as text: 32 hexadecimal digits.
const clientIDBytes = 2 * len(ClientID{})

// Append appends the id as text.
func (id ClientID) Append(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for _, b := range id {
		dst = append(dst, digits[b>>4], digits[b&15])
	}
	return dst
}

// ParseClientID parses what Append writes, and accepts nothing else. It allocates nothing.
func ParseClientID(b []byte) (id ClientID, ok bool) {
	if len(b) != clientIDBytes {
		return ClientID{}, false
	}
	for i, c := range b {
		var digit byte
		switch {
		case c >= '0' && c <= '9':
			digit = c - '0'
		case c >= 'a' && c <= 'f':
			digit = c - 'a' + 10
		default:
			return ClientID{}, false
		}
		id[i/2] = id[i/2]<<4 | digit
	}
	return id, true
}

// ClientIDs makes the ids of the connections of one process, and finds the connections again, without state for each.
// An id is the connection's number and 8 zero bytes, encrypted with a key that is random for the process. The zeros
// show whether an id is of this process. Any goroutine may call it.
type ClientIDs struct{ block cipher.Block }

// NewClientIDs returns a ClientIDs. The key must be random for the process and unpredictable.
func NewClientIDs(key [16]byte) *ClientIDs {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error()) // A key of 16 bytes is valid.
	}
	return &ClientIDs{block}
}

// Of returns the id of a connection.
func (c *ClientIDs) Of(conn ConnID) (id ClientID) {
	binary.BigEndian.PutUint64(id[:], uint64(conn))
	c.block.Encrypt(id[:], id[:])
	return id
}

// Conn returns the connection that has the id. ok is false if the id is not of this process, or if c is nil.
func (c *ClientIDs) Conn(id ClientID) (conn ConnID, ok bool) {
	if c == nil {
		return 0, false
	}
	c.block.Decrypt(id[:], id[:])
	return ConnID(binary.BigEndian.Uint64(id[:])), binary.BigEndian.Uint64(id[8:]) == 0
}
