package httpserve

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// large is a response that no socket takes as a whole.
const large = 8 << 20

// serveLarge answers /probe with a word and everything else with a large response.
func serveLarge(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/probe" {
		_, _ = w.Write(bytes.Repeat([]byte("x"), large))
		return
	}
	_, _ = io.WriteString(w, "well")
}

// What holds a connection, by what the client says before it falls silent. None of them reads.
var holders = map[string]string{
	"silent":       "",
	"slow header":  "GET /probe HTTP/1.1\r\nHost: local",
	"idle":         "GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"slow body":    "POST /probe HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
	"never reads":  "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"probes never": strings.Repeat("GET /probe HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
}

// However the slots are held, and by however many more connections, a probe is answered at once.
func TestHeldSlots(t *testing.T) {
	for name, says := range holders {
		t.Run(name, func(t *testing.T) {
			s, listener, url := start(t, serveLarge, io.Discard)
			defer func() { require.NoError(t, s.Close()) }()
			for range 2 * connectionsMax {
				conn, err := net.Dial("tcp", listener.Addr().String())
				require.NoError(t, err)
				defer conn.Close()
				_, _ = io.WriteString(conn, says) // It may have given way already.
			}
			status := make(chan int, 1)
			for range 2 * connectionsMax {
				get(t.Context(), url+"probe", status)
				require.Equal(t, http.StatusOK, <-status)
			}
		})
	}
}

// Requests that are not probes leave slots, and say so.
func TestProbesKept(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, connectionsMax)
	s, _, url := start(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/probe" {
			entered <- struct{}{}
			<-release
		}
	}, io.Discard)
	status := make(chan int, connectionsMax)
	for range connectionsMax - probesKept {
		go get(t.Context(), url, status)
		<-entered
	}
	refused := make(chan int, 1)
	get(t.Context(), url, refused)
	require.Equal(t, http.StatusServiceUnavailable, <-refused)
	get(t.Context(), url+"probe", refused)
	require.Equal(t, http.StatusOK, <-refused)
	close(release)
	for range connectionsMax - probesKept {
		require.Equal(t, http.StatusOK, <-status)
	}
	get(t.Context(), url, status)
	require.Equal(t, http.StatusOK, <-status)
	require.NoError(t, s.Close())
}

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}
func (c *fakeConn) Close() error                { c.closed = true; return nil }
func (c *fakeConn) Read(b []byte) (int, error)  { return len(b), nil }
func (c *fakeConn) Write(b []byte) (int, error) { return len(b), nil }

// queue is a listener that accepts what a test appends.
type queue struct {
	net.Listener
	conns []net.Conn
}

func (q *queue) Close() error { return nil }

func (q *queue) Accept() (net.Conn, error) {
	if len(q.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := q.conns[0]
	q.conns = q.conns[1:]
	return c, nil
}

// Who gives way is reset: the kernel must not keep what was not read until the peer is so kind.
func TestVictimIsReset(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := newSlotListener(listener, 1, 0)
	defer func() { require.NoError(t, l.Close()) }()
	dial := func() (peer, conn net.Conn) {
		peer, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { peer.Close() })
		conn, err = l.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return peer, conn
	}
	peer, conn := dial()
	_, err = io.WriteString(conn, "a response")
	require.NoError(t, err)
	dial()
	_, err = io.ReadAll(peer)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// slots is a listener with n slots that a test fills.
type slots struct {
	t *testing.T
	q *queue
	l *slotListener
}

func newSlots(t *testing.T, n int) *slots {
	t.Helper()
	q := &queue{}
	return &slots{t, q, newSlotListener(q, n, 0)}
}

func (s *slots) accept(from string) (conn *slotConn, fake *fakeConn) {
	s.t.Helper()
	fake = &fakeConn{from: from}
	s.q.conns = append(s.q.conns, fake)
	c, err := s.l.Accept()
	require.NoError(s.t, err)
	return c.(*slotConn), fake
}

func TestVictim(t *testing.T) {
	t.Run("one that has had its response gives way, then one without a request", func(t *testing.T) {
		s := newSlots(t, 2)
		first, firstFake := s.accept("10.0.0.1:1")
		_, second := s.accept("10.0.0.1:2")
		s.l.note(first, http.StateActive)
		_, third := s.accept("10.0.0.1:3") // The first has a request.
		require.True(t, second.closed)
		s.l.note(first, http.StateIdle)
		_, fourth := s.accept("10.0.0.1:4")
		require.True(t, firstFake.closed)
		s.accept("10.0.0.1:5")
		require.True(t, third.closed)
		require.False(t, fourth.closed)
	})
	t.Run("a source displaces itself", func(t *testing.T) {
		s := newSlots(t, 4)
		_, probe := s.accept("10.0.0.9:1")
		for i := range 100 {
			s.accept(fmt.Sprintf("10.0.0.1:%d", i+1))
			require.False(t, probe.closed)
		}
	})
	t.Run("loopback and a /64 are one source", func(t *testing.T) {
		for _, pattern := range []string{"127.0.0.%d:1", "[2001:db8::%d]:1", "[::ffff:10.0.0.1]:%d"} {
			s := newSlots(t, 4)
			_, probe := s.accept("10.0.0.9:1")
			for i := range 100 {
				s.accept(fmt.Sprintf(pattern, i+1))
				require.False(t, probe.closed, pattern)
			}
		}
	})
	t.Run("among requests the one without progress gives way", func(t *testing.T) {
		s := newSlots(t, 2)
		stuck, stuckFake := s.accept("10.0.0.1:1")
		moving, movingFake := s.accept("10.0.0.2:1")
		s.l.note(stuck, http.StateActive)
		s.l.note(moving, http.StateActive)
		stuck.progress, moving.progress = time.Unix(2, 0), time.Unix(1, 0)
		_, err := moving.Write([]byte("x"))
		require.NoError(t, err)
		s.accept("10.0.0.3:1")
		require.True(t, stuckFake.closed)
		require.False(t, movingFake.closed)
	})
	t.Run("a head byte by byte is no progress", func(t *testing.T) {
		s := newSlots(t, 1)
		c, _ := s.accept("10.0.0.1:1")
		c.progress = time.Unix(1, 0)
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, time.Unix(1, 0), c.progress)
	})
	t.Run("closing frees the slot once", func(t *testing.T) {
		s := newSlots(t, 1)
		c, _ := s.accept("10.0.0.1:1")
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		_, fake := s.accept("10.0.0.1:2")
		require.Len(t, s.l.open, 1)
		require.NoError(t, c.Close())
		require.Len(t, s.l.open, 1)
		require.False(t, fake.closed)
	})
	t.Run("a connection that has just come has time for its request", func(t *testing.T) {
		s := newSlots(t, 2)
		s.l.grace = time.Hour
		first, _ := s.accept("10.0.0.1:1")
		second, _ := s.accept("10.0.0.1:2")
		s.l.note(second, http.StateActive)
		now := time.Now()
		v, wait := s.l.victim(now)
		require.Nil(t, v)
		require.InDelta(t, time.Hour, wait, float64(time.Minute))
		first.progress, second.progress = now.Add(-time.Hour), now.Add(-time.Hour)
		v, _ = s.l.victim(now)
		require.Same(t, first, v)
		s.l.note(second, http.StateIdle)
		v, _ = s.l.victim(now)
		require.Same(t, second, v)
	})
	t.Run("an Accept that waits goes on when a slot is free", func(t *testing.T) {
		s := newSlots(t, 1)
		s.l.grace = time.Hour
		first, _ := s.accept("10.0.0.1:1")
		s.q.conns = append(s.q.conns, &fakeConn{from: "10.0.0.1:2"}, &fakeConn{from: "10.0.0.1:3"})
		results := make(chan error)
		accept := func() { _, err := s.l.Accept(); results <- err }
		go accept()
		require.NoError(t, first.Close())
		require.NoError(t, <-results)
		go accept()
		require.NoError(t, s.l.Close())
		require.ErrorIs(t, <-results, net.ErrClosed)
	})
	t.Run("an Accept that waits takes the slot of who has its response", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(t, 1)
			s.l.grace = time.Hour
			first, firstFake := s.accept("10.0.0.1:1")
			s.l.note(first, http.StateActive)
			s.q.conns = append(s.q.conns, &fakeConn{from: "10.0.0.1:2"})
			began, accepted := time.Now(), make(chan error, 1)
			go func() { _, err := s.l.Accept(); accepted <- err }()
			synctest.Wait()
			require.Empty(t, accepted)
			s.l.note(first, http.StateIdle)
			require.NoError(t, <-accepted)
			require.True(t, firstFake.closed)
			require.Zero(t, time.Since(began))
		})
	})
	t.Run("an Accept that fails takes no slot", func(t *testing.T) {
		s := newSlots(t, 1)
		_, err := s.l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		require.Empty(t, s.l.open)
	})
}

func TestSourceOf(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3:4": "10.1.2.3/32", "127.9.9.9:4": "127.0.0.0/8", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
		"[::1]:5": "::1/128", "[::ffff:10.1.2.3]:4": "10.1.2.3/32", "[fe80::1%eth0]:4": "fe80::/64",
	} {
		require.Equal(t, want, sourceOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))).String(), address)
	}
	require.Equal(t, netip.Prefix{}, sourceOf(&net.UnixAddr{Name: "x"}))
}
