package tlshandshake_test

import (
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitMax = 20 * time.Second

func newPool(t testing.TB, pendingMax int, keys [][32]byte, names ...string) *tlshandshake.Pool {
	t.Helper()
	var certificates []tls.Certificate
	for _, name := range names {
		certificates = append(certificates, testutil.Certificate(name))
	}
	p, err := tlshandshake.New(tlshandshake.Options{Workers: 1, PendingMax: pendingMax,
		Config: tlshandshake.NewConfig(certificates, keys)})
	require.NoError(t, err)
	return p
}

// serve does the handshake of one connection as a loop does, and returns its last step.
func serve(p *tlshandshake.Pool, conn net.Conn) tlshandshake.Step {
	steps := make(chan tlshandshake.Step, 1)
	report := func(s tlshandshake.Step) { steps <- s }
	var h *tlshandshake.Handshake
	var in []byte
	for {
		chunk := make([]byte, 8<<10)
		n, err := conn.Read(chunk)
		if err != nil {
			if h != nil {
				h.Await(report)
				h.Abandon()
				return <-steps
			}
			return tlshandshake.Step{Err: err}
		}
		in = append(in, chunk[:n]...)
		whole := 0
		for len(in)-whole >= tlsrecord.HeaderLen {
			l := tlsrecord.HeaderLen + int(in[whole+3])<<8 + int(in[whole+4])
			if len(in)-whole < l {
				break
			}
			whole += l
		}
		if whole == 0 {
			continue
		}
		records := append([]byte(nil), in[:whole]...)
		in = in[whole:]
		if h == nil {
			h = p.Begin(records, report)
			if h == nil {
				return tlshandshake.Step{Err: net.ErrClosed}
			}
		} else {
			h.Await(report)
			h.Feed(records)
		}
		s := <-steps
		if len(s.Out) > 0 {
			if _, err := conn.Write(s.Out); err != nil && s.Err == nil {
				s.Err = err
			}
		}
		if s.Done {
			return s
		}
	}
}

// connect has a client do a handshake with the pool.
func connect(t testing.TB, p *tlshandshake.Pool, config *tls.Config) (*tls.Conn, tlshandshake.Step, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	for _, c := range []net.Conn{a, b} {
		require.NoError(t, c.SetDeadline(time.Now().Add(waitMax)))
		t.Cleanup(func() { _ = c.Close() })
	}
	served := make(chan tlshandshake.Step, 1)
	go func() { served <- serve(p, b) }()
	config.InsecureSkipVerify = true
	client := tls.Client(a, config)
	err = client.Handshake()
	if err != nil {
		_ = a.Close()
	}
	s := <-served
	if s.Conn != nil { // The ticket comes with the first data.
		_, werr := b.Write(s.Conn.Seal(nil, []byte("x")))
		require.NoError(t, werr)
		_, rerr := client.Read(make([]byte, 1))
		require.NoError(t, rerr)
	}
	return client, s, err
}

// A client gets the certificate of the name that it asks for, and HTTP/1.1.
func TestServerNames(t *testing.T) {
	p := newPool(t, 10, [][32]byte{{1}}, "one.test", "two.test")
	for asked, want := range map[string]string{"one.test": "one.test", "two.test": "two.test", "three.test": "one.test", "": "one.test"} {
		c, _, err := connect(t, p, &tls.Config{ServerName: asked, NextProtos: []string{"h2", "http/1.1"}})
		require.NoError(t, err)
		cs := c.ConnectionState()
		require.Equal(t, []string{want}, cs.PeerCertificates[0].DNSNames, asked)
		require.Equal(t, "http/1.1", cs.NegotiatedProtocol)
	}
}

// Old versions and suites without an AEAD are refused, with an alert.
func TestOldVersionsAreRefused(t *testing.T) {
	p := newPool(t, 10, [][32]byte{{1}}, "one.test")
	for name, config := range map[string]*tls.Config{
		"1.1": {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
	} {
		_, s, err := connect(t, p, config)
		require.ErrorContains(t, err, "remote error", name)
		require.Error(t, s.Err)
	}
	require.EqualValues(t, 2, p.Stats().Results[tlshandshake.ResultFailed].Load())
}

// Sessions are resumed by another pool that has the same ticket keys, also after the keys were rotated, and not by one
// that has others.
func TestTicketKeysAreShared(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{ServerName: "one.test", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		first := newPool(t, 10, [][32]byte{{1}}, "one.test")
		for _, step := range []struct {
			pool    *tlshandshake.Pool
			resumes bool
		}{
			{first, false}, {first, true}, {newPool(t, 10, [][32]byte{{2}, {1}}, "one.test"), true},
			{newPool(t, 10, [][32]byte{{3}, {2}}, "one.test"), true}, {newPool(t, 10, [][32]byte{{4}}, "one.test"), false},
		} {
			c, s, err := connect(t, step.pool, config)
			require.NoError(t, err)
			require.NoError(t, s.Err)
			require.Equal(t, step.resumes, s.Info.Resumed, tls.VersionName(version))
			require.Equal(t, step.resumes, c.ConnectionState().DidResume)
		}
	}
}

// While as many handshakes wait for their client as may, a new one takes the place of the oldest.
func TestOldestGivesWay(t *testing.T) {
	p := newPool(t, 3, [][32]byte{{1}}, "one.test")
	hello := firstRecord(t)
	var mu sync.Mutex
	var ended []int
	done := make(chan struct{}, 10)
	var handshakes []*tlshandshake.Handshake
	for n := range 6 {
		waits := make(chan struct{})
		h := p.Begin(append([]byte(nil), hello...), func(s tlshandshake.Step) {
			if s.Done {
				t.Error("it ended before its client halted", s.Err)
			}
			close(waits)
		})
		require.NotNil(t, h)
		<-waits
		h.Await(func(s tlshandshake.Step) {
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(s.Err, tlshandshake.ErrEvicted) {
				ended = append(ended, n)
			}
			done <- struct{}{}
		})
		handshakes = append(handshakes, h)
	}
	for range 3 {
		<-done
	}
	require.ElementsMatch(t, []int{0, 1, 2}, ended)
	for _, h := range handshakes[3:] {
		h.Abandon()
		<-done
	}
	require.Eventually(t, func() bool { return p.Stats().Pending.Load() == 0 }, waitMax, time.Millisecond)
	require.EqualValues(t, 3, p.Stats().Results[tlshandshake.ResultEvicted].Load())
	require.EqualValues(t, 3, p.Stats().Results[tlshandshake.ResultGone].Load())
}

func firstRecord(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	<-done
	return buf[:n]
}

// BenchmarkHandshake compares handshakes by a pool with crypto/tls alone, with the client's part, which is the same.
func BenchmarkHandshake(b *testing.B) {
	for _, resumed := range []bool{false, true} {
		name := "full"
		if resumed {
			name = "resumed"
		}
		config := func() *tls.Config {
			c := &tls.Config{ServerName: "one.test", InsecureSkipVerify: true}
			if resumed {
				c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			return c
		}
		p := newPool(b, 10, [][32]byte{{1}}, "one.test")
		run := func(b *testing.B, server func(net.Conn)) {
			client := config()
			// Not a net.Pipe, which has no buffer: a ticket comes while the client writes.
			listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
			require.NoError(b, err)
			defer listener.Close()
			for b.Loop() {
				a, err := net.Dial("unix", listener.Addr().String())
				require.NoError(b, err)
				s, err := listener.Accept()
				require.NoError(b, err)
				done := make(chan struct{})
				go func() {
					defer close(done)
					server(s)
				}()
				c := tls.Client(a, client)
				if _, err := c.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				<-done
				_ = a.Close()
				_ = s.Close()
			}
		}
		b.Run(name+"/own", func(b *testing.B) {
			run(b, func(s net.Conn) {
				step := serve(p, s)
				if step.Err != nil {
					b.Error(step.Err)
					return
				}
				_, _ = s.Write(step.Conn.Seal(nil, []byte("x")))
			})
		})
		b.Run(name+"/crypto-tls", func(b *testing.B) {
			run(b, func(s net.Conn) { _, _ = tls.Server(s, p.Config()).Write([]byte("x")) })
		})
	}
}

// A handshake that is abandoned while it computes takes no place among those that wait for their client, where it would
// end one that is in order.
func TestAbandonedTakesNoPlace(t *testing.T) {
	computing, goOn := make(chan struct{}), make(chan struct{})
	config := tlshandshake.NewConfig([]tls.Certificate{testutil.Certificate("a.example")}, make([][32]byte, 1))
	plain := config.Clone()
	plain.SetSessionTicketKeys(make([][32]byte, 1))
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		close(computing)
		<-goOn
		return nil, nil //nolint:nilnil // The configuration stays.
	}
	p, err := tlshandshake.New(tlshandshake.Options{Workers: 2, PendingMax: 1, Config: plain})
	require.NoError(t, err)
	hello := helloOf(t)
	begin := func() (*tlshandshake.Handshake, chan tlshandshake.Step) {
		steps := make(chan tlshandshake.Step, 1)
		h := p.Begin(append([]byte(nil), hello...), func(s tlshandshake.Step) { steps <- s })
		require.NotNil(t, h)
		return h, steps
	}
	waits, steps := begin()
	require.False(t, (<-steps).Done, "it waits for its client")

	p.SetConfig(config)
	gone, goneSteps := begin()
	<-computing
	gone.Abandon()
	close(goOn)
	last := <-goneSteps
	require.True(t, last.Done)
	require.Error(t, last.Err)
	require.EqualValues(t, 0, p.Stats().Results[tlshandshake.ResultEvicted].Load())

	ended := make(chan tlshandshake.Step, 1)
	waits.Await(func(s tlshandshake.Step) { ended <- s })
	waits.Abandon()
	require.True(t, (<-ended).Done)
	require.EqualValues(t, 2, p.Stats().Results[tlshandshake.ResultGone].Load())
}

// helloOf returns the record of a ClientHello.
func helloOf(t testing.TB) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(far, &tls.Config{ServerName: "a.example"}).Handshake() // It fails when the pipe is closed.
	}()
	defer func() {
		_ = near.Close()
		_ = far.Close()
		<-done
	}()
	b := make([]byte, 16<<10)
	require.NoError(t, near.SetDeadline(time.Now().Add(waitMax)))
	for n := 0; ; {
		m, err := near.Read(b[n:])
		require.NoError(t, err)
		if n += m; n >= tlsrecord.HeaderLen && n == tlsrecord.HeaderLen+int(b[3])<<8+int(b[4]) {
			return b[:n]
		}
	}
}
