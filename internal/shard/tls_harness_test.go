package shard

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
)

// everythingTLS has the clients of all tests of this package speak TLS:
//
//	go test ./internal/shard -tls
var everythingTLS = flag.Bool("tls", false, "let all clients speak TLS")

func newHandshakes(t testing.TB) *tlshandshake.Pool {
	t.Helper()
	return newHandshakesFor(t, 1000)
}

func newHandshakesFor(t testing.TB, pendingMax int) *tlshandshake.Pool {
	t.Helper()
	p, err := tlshandshake.New(tlshandshake.Options{
		Workers: 2, PendingMax: pendingMax,
		Config: tlshandshake.NewConfig([]tls.Certificate{testutil.Certificate("wsd.test")}, [][32]byte{{1}}),
	})
	require.NoError(t, err)
	return p
}

// newTLSRig is newRig with clients that speak TLS.
func newTLSRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	return newRig(t, func(o *Options) {
		o.TLS.Handshakes = newHandshakes(t)
		if change != nil {
			change(o)
		}
	})
}

// openTLS connects and does the handshake.
func (r *rig) openTLS(config *tls.Config) *client {
	r.t.Helper()
	c := r.openPlain()
	require.NoError(r.t, startTLS(c, config).Handshake())
	return c
}

// startTLS makes a client speak TLS; its handshake is still to come.
func startTLS(c *client, config *tls.Config) *tls.Conn {
	config.InsecureSkipVerify, config.ServerName = true, "wsd.test"
	conn := tls.Client(&polled{Conn: c.conn}, config)
	c.conn, c.in = conn, bufio.NewReader(conn)
	return conn
}

// tcp returns the socket of a client, below its TLS.
func tcp(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if p, ok := c.(*polled); ok {
		c = p.Conn
	}
	return c.(*net.TCPConn)
}

// polled is a connection whose reads do not wait while now is set.
type polled struct {
	net.Conn
	now bool
}

func (p *polled) Read(b []byte) (int, error) {
	if !p.now {
		return p.Conn.Read(b)
	}
	n, err := readSocket(p.Conn, b)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, os.ErrDeadlineExceeded // After which crypto/tls goes on reading.
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// readSocket is epoll.Read of a connection's socket, which may be closed.
func readSocket(c net.Conn, b []byte) (n int, err error) {
	raw, err := tcp(c).SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := raw.Control(func(fd uintptr) { n, err = epoll.Read(int(fd), b) }); err != nil {
		return 0, err
	}
	return n, err
}

// readNow reads what has come, without waiting, as epoll.Read does: 0 bytes without an error are the end. It reads past
// c.in, which must be empty.
func (c *client) readNow(b []byte) (n int, err error) {
	secure, ok := c.conn.(*tls.Conn)
	if !ok {
		return readSocket(c.conn, b)
	}
	below, _ := secure.NetConn().(*polled)
	below.now = true
	defer func() { below.now = false }()
	for n < len(b) && err == nil { // One record at a time.
		var k int
		k, err = secure.Read(b[n:])
		n += k
	}
	switch {
	case n > 0, errors.Is(err, io.EOF):
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, unix.EAGAIN
	}
	return 0, err
}

// notByTLS skips a test of what there is not, or cannot be seen, when all clients speak TLS.
func notByTLS(t testing.TB, why string) {
	t.Helper()
	if *everythingTLS {
		t.Skip(why)
	}
}

// Why tests cannot be by TLS.
const (
	manyReads      = "a handshake takes more than one read"
	handshakeWaits = "a client writes before the loop turns, and its handshake would wait for that"
)
