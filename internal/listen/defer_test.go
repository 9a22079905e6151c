package listen

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func mustDefer(tb testing.TB, deferred bool) Group {
	tb.Helper()
	return mustOpenWith(tb, Options{Addresses: []string{"127.0.0.1:0"}, Shards: 2, DeferAccept: deferred})[0]
}

// waiting is how many connections the sockets would give out.
func waiting(tb testing.TB, fds []int) (n int) {
	tb.Helper()
	for _, fd := range fds {
		// For a listener tcpi_unacked is the length of its accept queue.
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		require.NoError(tb, err)
		n += int(info.Unacked)
	}
	return n
}

// A client comes with what it said, and one that says nothing comes nevertheless.
func TestDeferAccept(t *testing.T) {
	g := mustDefer(t, true)
	for _, fd := range g.FDs {
		require.Equal(t, 1, option(t, fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT), "seconds, as the kernel rounds them; steering.Reconcile allows two")
	}
	c := mustDial(t, g.Address.String())
	require.Zero(t, waiting(t, g.FDs), "it has said nothing yet")
	_, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	b := make([]byte, 10)
	n, err := unix.Read(mustAccept(t, g.FDs), b)
	require.NoError(t, err, "it is there at once")
	require.Equal(t, "hello", string(b[:n]))

	mustDial(t, g.Address.String())
	require.Zero(t, waiting(t, g.FDs))
	silent := mustAccept(t, g.FDs)
	require.NoError(t, unix.SetNonblock(silent, true))
	_, err = unix.Read(silent, b)
	require.ErrorIs(t, err, unix.EAGAIN)
}

// So does one that has left without a word.
func TestDeferAcceptEnd(t *testing.T) {
	g := mustDefer(t, true)
	require.NoError(t, mustDial(t, g.Address.String()).Close())
	n, err := unix.Read(mustAccept(t, g.FDs), make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestNoDeferAccept(t *testing.T) {
	g := mustDefer(t, false)
	for _, fd := range g.FDs {
		require.Zero(t, option(t, fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT))
	}
	mustDial(t, g.Address.String())
	require.Eventually(t, func() bool { return waiting(t, g.FDs) == 1 }, 5*time.Second, time.Millisecond)
}
