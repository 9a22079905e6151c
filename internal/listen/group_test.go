package listen

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func option(tb testing.TB, fd, level, name int) int {
	tb.Helper()
	v, err := unix.GetsockoptInt(fd, level, name)
	require.NoError(tb, err)
	return v
}

// mustAccept takes one connection from whichever socket has it.
func mustAccept(tb testing.TB, fds []int) int {
	tb.Helper()
	var conn int
	require.Eventually(tb, func() bool {
		for _, fd := range fds {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err == nil {
				conn = c
				return true
			}
			require.ErrorIs(tb, err, unix.EAGAIN, "a listener does not block")
		}
		return false
	}, 5*time.Second, time.Millisecond)
	tb.Cleanup(func() { unix.Close(conn) })
	return conn
}

func mustDial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}

func TestGroup(t *testing.T) {
	groups := mustOpenWith(t, Options{Addresses: []string{"127.0.0.1:0", "[::1]:0"}, Shards: 5, SendBuffer: 20_000, ProgressTimeout: 7 * time.Second})
	require.Len(t, groups, 2)
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), groups[0].Address.Addr())
	require.Equal(t, netip.MustParseAddr("::1"), groups[1].Address.Addr())
	for _, g := range groups {
		require.NotZero(t, g.Address.Port())
		require.Len(t, g.FDs, 5)
		for _, fd := range g.FDs {
			sa, err := unix.Getsockname(fd)
			require.NoError(t, err)
			switch sa := sa.(type) {
			case *unix.SockaddrInet4:
				require.EqualValues(t, g.Address.Port(), sa.Port)
			case *unix.SockaddrInet6:
				require.EqualValues(t, g.Address.Port(), sa.Port)
			default:
				require.Fail(t, "family", "%T", sa)
			}
			require.Equal(t, 1, option(t, fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN))
			require.Equal(t, 1, option(t, fd, unix.SOL_SOCKET, unix.SO_REUSEPORT))
			require.Equal(t, unix.IPPROTO_TCP, option(t, fd, unix.SOL_SOCKET, unix.SO_PROTOCOL), "no MPTCP")
			status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			require.NoError(t, err)
			require.NotZero(t, status&unix.O_NONBLOCK)
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC)
		}
		mustDial(t, g.Address.String())
		conn := mustAccept(t, g.FDs)
		require.Equal(t, 40_000, option(t, conn, unix.SOL_SOCKET, unix.SO_SNDBUF), "inherited, doubled by the kernel")
		require.Equal(t, 1, option(t, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY), "inherited")
		require.Equal(t, 7000, option(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT), "inherited")
		require.LessOrEqual(t, option(t, conn, unix.IPPROTO_TCP, unix.TCP_MAXSEG), segmentMax, "loopback has 64 KiB")
	}
}

// Every socket of a group gets connections, and closing the group ends it.
func TestGroupShares(t *testing.T) {
	g := mustOpen(t, 3, "127.0.0.1:0")[0]
	got := map[int]bool{}
	for range 200 {
		mustDial(t, g.Address.String())
	}
	poll := make([]unix.PollFd, len(g.FDs))
	require.Eventually(t, func() bool {
		for i, fd := range g.FDs {
			poll[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		}
		_, err := unix.Poll(poll, 0)
		for i := range poll {
			got[i] = got[i] || poll[i].Revents != 0
		}
		return err == nil && got[0] && got[1] && got[2]
	}, 5*time.Second, time.Millisecond)
}

func TestBacklog(t *testing.T) {
	for _, backlog := range []int{0, 7} {
		groups, err := Open(Options{Addresses: []string{"127.0.0.1:0"}, Shards: 2, Backlog: backlog})
		require.NoError(t, err)
		for _, fd := range groups[0].FDs {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			require.NoError(t, err)
			if backlog == 0 {
				require.Greater(t, info.Sacked, uint32(100), "the kernel's limit")
			} else {
				require.EqualValues(t, backlog, info.Sacked)
			}
		}
		require.NoError(t, groups[0].Close())
	}
}

func TestWildcard(t *testing.T) {
	g := mustOpen(t, 2, ":0")[0]
	require.True(t, g.Address.Addr().IsUnspecified())
	for _, host := range []string{"127.0.0.1", "::1"} {
		mustDial(t, net.JoinHostPort(host, strconv.Itoa(int(g.Address.Port()))))
		mustAccept(t, g.FDs)
	}
}

func TestPortIsFreeAfterClose(t *testing.T) {
	groups, err := Open(Options{Addresses: []string{"127.0.0.1:0"}, Shards: 3})
	require.NoError(t, err)
	address := groups[0].Address.String()
	// The server ends the connection first, so its side keeps the port for a minute.
	client := mustDial(t, address)
	conn := mustAccept(t, groups[0].FDs)
	require.NoError(t, unix.Shutdown(conn, unix.SHUT_WR))
	_, err = client.Read(make([]byte, 1))
	require.Error(t, err)
	client.Close()
	require.NoError(t, groups[0].Close())
	require.Equal(t, address, mustOpen(t, 3, address)[0].Address.String())
}

func TestBadAddress(t *testing.T) {
	before := openSockets(t)
	for _, c := range []struct{ address, want string }{
		{"", `listen on "": must be HOST:PORT`},
		{"8000", `listen on "8000": must be HOST:PORT, [IPV6]:PORT or :PORT`},
		{"127.0.0.1", "must be HOST:PORT"},
		{"::1:8000", "must be HOST:PORT"},
		{"127.0.0.1:", `port "" is not a number from 0 to 65535`},
		{"127.0.0.1:http", `port "http" is not a number`},
		{"127.0.0.1:65536", `port "65536" is not a number`},
		{"127.0.0.1:-1", `port "-1" is not a number`},
		{"127.0.0.1:00", "write port 0 as 0"},
		{"256.0.0.1:8000", `listen on "256.0.0.1:8000": `},
		{"192.0.2.1:8000", "no interface of this network namespace has the address"},
		{"192.0.2.1:0", "192.0.2.1:0"},
	} {
		t.Run(c.address, func(t *testing.T) {
			// The first address is good, and must not stay open.
			groups, err := Open(Options{Addresses: []string{"127.0.0.1:0", c.address}, Shards: 2})
			require.Nil(t, groups)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
	require.Equal(t, before, openSockets(t))
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Shards: 1}, {Addresses: []string{":0"}}, {Addresses: []string{":0"}, Shards: -1}} {
		_, err := Open(o)
		require.ErrorContains(t, err, "BUG: listen for")
	}
}
