package tlsrecord_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
)

const waitMax = 20 * time.Second

// choice is a version and a cipher suite.
type choice struct{ version, suite uint16 }

// choices are all versions and suites with an ECDSA key.
var choices = []choice{
	{tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256}, {tls.VersionTLS13, tls.TLS_AES_256_GCM_SHA384},
	{tls.VersionTLS13, tls.TLS_CHACHA20_POLY1305_SHA256},
	{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
}

func (c choice) String() string {
	return tls.VersionName(c.version) + "/" + tls.CipherSuiteName(c.suite)
}

// peer is a connection between a client of crypto/tls and a Conn.
type peer struct {
	t      testing.TB
	client *tls.Conn
	server net.Conn
	conn   *tlsrecord.Conn
	info   tlshandshake.Info
	in     []byte // Read and not opened yet.
}

var pool = sync.OnceValue(func() *tlshandshake.Pool {
	config := tlshandshake.NewConfig([]tls.Certificate{testutil.Certificate("wsd.test")}, [][32]byte{{1}})
	p, err := tlshandshake.New(tlshandshake.Options{Workers: 2, PendingMax: 100, Config: config})
	if err != nil {
		panic(err)
	}
	return p
})

// socketPair returns both ends of a TCP connection.
func socketPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	for _, c := range []net.Conn{client, server} {
		require.NoError(t, c.SetDeadline(time.Now().Add(waitMax)))
		t.Cleanup(func() { _ = c.Close() })
	}
	return client, server
}

// complete returns how many bytes of b are whole records.
func complete(b []byte) (n int) {
	for len(b)-n >= tlsrecord.HeaderLen {
		l := tlsrecord.HeaderLen + int(b[n+3])<<8 + int(b[n+4])
		if len(b)-n < l {
			break
		}
		n += l
	}
	return n
}

// newPeer does a handshake of a client with the choice.
func newPeer(t testing.TB, c choice, cache tls.ClientSessionCache) *peer {
	t.Helper()
	a, b := socketPair(t)
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true, ServerName: "wsd.test", MinVersion: c.version,
		MaxVersion: c.version, CipherSuites: []uint16{c.suite}, ClientSessionCache: cache})
	failed := make(chan error, 1)
	go func() { failed <- client.Handshake() }()
	p := &peer{t: t, client: client, server: b}
	p.handshake()
	require.NoError(t, <-failed)
	require.Equal(t, c.version, p.info.Version)
	return p
}

// handshake is what a loop does for a handshake.
func (p *peer) handshake() {
	p.t.Helper()
	steps := make(chan tlshandshake.Step, 1)
	report := func(s tlshandshake.Step) { steps <- s }
	var h *tlshandshake.Handshake
	for {
		if n := complete(p.in); n > 0 {
			records := append([]byte(nil), p.in[:n]...)
			p.in = p.in[n:]
			if h == nil {
				h = pool().Begin(records, report)
				require.NotNil(p.t, h)
			} else {
				h.Await(report)
				h.Feed(records)
			}
			s := <-steps
			_, err := p.server.Write(s.Out)
			require.NoError(p.t, err)
			if s.Done {
				require.NoError(p.t, s.Err)
				p.conn, p.info = s.Conn, s.Info
				p.in = append(s.Rest, p.in...)
				return
			}
			continue
		}
		p.read()
	}
}

// read reads more of what the client has sent.
func (p *peer) read() {
	p.t.Helper()
	chunk := make([]byte, 8<<10)
	n, err := p.server.Read(chunk)
	require.NoError(p.t, err)
	p.in = append(p.in, chunk[:n]...)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	_, err := p.server.Write(b)
	require.NoError(p.t, err)
}
