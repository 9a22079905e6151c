package shard

import (
	"bufio"
	"crypto/tls"
	"flag"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

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
	conn := tls.Client(c.conn, config)
	c.conn, c.in = conn, bufio.NewReader(conn)
	return conn
}

// tcp returns the socket of a client, below its TLS.
func tcp(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return c.(*net.TCPConn)
}
