package dev

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// requestMax bounds a request to the cluster, in bytes. kfake allocates what the first four bytes say, and those of an HTTP request say
// a gigabyte.
const requestMax = 32 << 20

// guardedListener hands out connections on which no request is larger than requestMax.
type guardedListener struct{ net.Listener }

// Accept implements net.Listener.
func (l guardedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: c}, nil
}

// guardedConn follows the sizes that precede the requests.
type guardedConn struct {
	net.Conn
	size [4]byte
	head []byte // What of size has not been read yet.
	left int    // Bytes of the request behind it.
}

// Read implements io.Reader.
func (c *guardedConn) Read(b []byte) (int, error) {
	if len(c.head) == 0 && c.left == 0 {
		if _, err := io.ReadFull(c.Conn, c.size[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(c.size[:])
		if size > requestMax {
			return 0, fmt.Errorf("a request of %d bytes, more than %d: this is Kafka's port", size, requestMax)
		}
		c.head, c.left = c.size[:], int(size)
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
