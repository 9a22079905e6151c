package testutil

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// await waits for a condition, for five seconds at most. Unlike Eventually it asks
// in the test's own goroutine.
func await(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		require.True(tb, time.Now().Before(end), what)
	}
}

// The example's checksum was computed apart from this code.
func TestSegmentAppend(t *testing.T) {
	require.Equal(t, []byte{
		0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 1, 10, 99, 0, 1,
		0x04, 0, 0x1f, 0x40, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0xbc, 0x24, 0, 0,
	}, Segment{
		From: netip.MustParseAddrPort("198.18.0.1:1024"), To: netip.MustParseAddrPort("10.99.0.1:8000"), Flags: SYN, Seq: 7,
	}.append(nil))
}

func TestSources(t *testing.T) {
	source := Sources(t, "198.18.0.0/15", 3)
	for i, want := range []string{"198.18.0.1:1024", "198.18.0.2:1024", "198.18.0.3:1024", "198.18.0.1:1025"} {
		require.Equal(t, want, source(i).String())
	}
	require.Equal(t, "198.18.0.3:65535", source(3*ports-1).String())
	require.Equal(t, "198.18.0.1:1024", source(3*ports).String())
	require.Equal(t, "[2001:db8::2]:1024", Sources(t, "2001:db8::/32", 2)(1).String())
}

func TestSendTCP(t *testing.T) {
	a, b := mustLink(t)
	for _, c := range []struct{ listen, from string }{{"10.99.0.1:0", "10.99.0.2:1024"}, {"[fd99::1]:0", "[fd99::2]:1024"}} {
		t.Run(c.listen, func(t *testing.T) {
			to := addrPort(mustListen(t, a, c.listen).Addr())
			resets := a.Counter("TcpOutRsts")
			s := Segment{From: netip.MustParseAddrPort(c.from), To: to, Flags: ACK, Seq: 1, Ack: 1}
			require.NoError(t, b.Do(func() error { return SendTCP(s) }))
			await(t, func() bool { return a.Counter("TcpOutRsts") == resets+1 }, "the answer to a stray ACK")
			require.Zero(t, a.Counter("TcpInCsumErrors"))
			require.Zero(t, a.Counter("TcpInErrs"))
		})
	}
}

// What a flood leaves are requests that wait and cookies, and its answers vanish.
func TestFlood(t *testing.T) {
	const count = 10_000
	for _, c := range []struct{ name, listen, forged, via string }{
		{"IPv4", "10.99.0.1:0", "198.18.0.0/15", "10.99.0.2"},
		{"IPv6", "[fd99::1]:0", "2001:db8::/32", "fd99::2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := mustLink(t)
			a.Route(c.forged, c.via)
			l := mustListen(t, a, c.listen)
			to := addrPort(l.Addr())
			start := time.Now()
			sent, err := b.Flood(t.Context(), to, count, Sources(t, c.forged, 1000))
			took := time.Since(start)
			require.NoError(t, err)
			require.Equal(t, count, sent)

			// A busy machine may drop a few on the way.
			var halfOpen, cookies int
			await(t, func() bool {
				halfOpen, cookies = a.HalfOpen(to.Port()), a.Counter("TcpExtSyncookiesSent")
				return halfOpen > 0 && halfOpen+cookies > count*9/10
			}, "requests and cookies")
			t.Logf("%.0f SYNs/s, %d half open, %d cookies", count/took.Seconds(), halfOpen, cookies)
			require.LessOrEqual(t, halfOpen+cookies, count)
			require.LessOrEqual(t, a.Counter("TcpInSegs"), count, "nothing but SYNs came")
			require.Greater(t, a.Counter("TcpOutSegs"), count*9/10)
			for _, none := range []string{"TcpInCsumErrors", "TcpPassiveOpens", "TcpCurrEstab", "TcpOutRsts", "IcmpInMsgs", "Icmp6InDestUnreachs"} {
				require.Zero(t, a.Counter(none), none)
			}
			for _, none := range []string{"TcpInSegs", "TcpOutRsts", "IcmpOutMsgs", "Icmp6OutDestUnreachs"} {
				require.Zero(t, b.Counter(none), none)
			}
			require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now()))
			_, err = l.Accept()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

func TestFloodStops(t *testing.T) {
	b := NewNetNS(t)
	to := netip.MustParseAddrPort("127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	source := Sources(t, "127.0.0.0/8", 10)
	sent, err := b.Flood(ctx, to, 1000, func(i int) netip.AddrPort {
		if i == 99 {
			cancel()
		}
		return source(i)
	})
	require.NoError(t, err)
	require.Equal(t, 100, sent)
	sent, err = b.Flood(t.Context(), to, 1000, Sources(t, prefix6, 10))
	require.ErrorContains(t, err, "IP version")
	require.Zero(t, sent)
	_, err = b.Flood(t.Context(), netip.MustParseAddrPort("10.99.0.1:1"), 1000, source)
	require.Error(t, err, "there is no route")
}

// One SYN of a flood and the kernel's answer to it: a request, or mostly a cookie.
func BenchmarkFlood(b *testing.B) {
	server, peer := mustLink(b)
	server.Route("198.18.0.0/15", "10.99.0.2")
	to := addrPort(mustListen(b, server, "10.99.0.1:0").Addr())
	source := Sources(b, "198.18.0.0/15", 1000)
	b.ReportAllocs()
	b.ResetTimer()
	sent, err := peer.Flood(b.Context(), to, b.N, source)
	require.NoError(b, err)
	require.Equal(b, b.N, sent)
}
