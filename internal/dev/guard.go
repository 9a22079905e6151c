package dev

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// requestMax is the largest request to the cluster, in bytes. kfake allocates as many bytes as the first four bytes
// say, and for an HTTP request these say a gigabyte.
const requestMax = 32 << 20

// guardedListener returns connections that fail at a request larger than requestMax.
type guardedListener struct{ net.Listener }

// Accept implements net.Listener.
func (l guardedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: c}, nil
}

// guardedConn checks the size before each request.
type guardedConn struct {
	net.Conn
	size [4]byte // Size of the current request, as sent.
	head []byte  // Part of size that the caller has not read yet.
	left int     // Bytes of the current request that have not been read yet.
}

// Read implements io.Reader.
func (c *guardedConn) Read(b []byte) (int, error) {
	if len(c.head) == 0 && c.left == 0 {
		if _, err := io.ReadFull(c.Conn, c.size[:]); err != nil {
			return 0, err
		}
		size := binary.BigEndian.Uint32(c.size[:])
		if size > requestMax {
			return 0, fmt.Errorf("request of %d bytes, the maximum is %d: this is a Kafka port", size, requestMax)
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
