package admin

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

type accepted struct {
	conn net.Conn
	err  error
}

func listenLimited(t *testing.T, connections int) (l net.Listener, results chan accepted) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l = limit(inner, connections)
	t.Cleanup(func() { l.Close() })
	return l, make(chan accepted, 1)
}

// accept calls Accept once on a goroutine of its own.
func accept(l net.Listener, results chan<- accepted) {
	go func() {
		conn, err := l.Accept()
		results <- accepted{conn, err}
	}()
}

func TestLimit(t *testing.T) {
	l, results := listenLimited(t, 2)
	var held []net.Conn
	for range 2 {
		dial(t, l.Addr())
		accept(l, results)
		a := <-results
		require.NoError(t, a.err)
		held = append(held, a.conn)
	}
	// The third is connected by the kernel and waits there.
	third := dial(t, l.Addr())
	limited := l.(*limitListener)
	require.Len(t, limited.slots, cap(limited.slots))
	accept(l, results)
	require.Empty(t, results)
	require.NoError(t, held[0].Close())
	a := <-results
	require.NoError(t, a.err)
	require.Equal(t, third.LocalAddr().String(), a.conn.RemoteAddr().String())

	// Closing once more gives no second place back.
	require.Error(t, held[0].Close())
	require.Len(t, limited.slots, 2)
	require.NoError(t, held[1].Close())
	require.NoError(t, a.conn.Close())
	require.Empty(t, limited.slots)
}

func TestLimitClose(t *testing.T) {
	for name, full := range map[string]bool{"waiting for a place": true, "waiting for a connection": false} {
		l, results := listenLimited(t, 1)
		if full {
			dial(t, l.Addr())
			accept(l, results)
			a := <-results
			require.NoError(t, a.err, name)
			t.Cleanup(func() { a.conn.Close() })
		}
		accept(l, results)
		require.NoError(t, l.Close(), name)
		require.ErrorIs(t, (<-results).err, net.ErrClosed, name)
		require.ErrorIs(t, l.Close(), net.ErrClosed, name)
	}
}

// An Accept that failed holds no place.
func TestLimitError(t *testing.T) {
	l, results := listenLimited(t, 1)
	require.NoError(t, l.(*limitListener).Listener.Close())
	for range 3 {
		accept(l, results)
		require.ErrorIs(t, (<-results).err, net.ErrClosed)
	}
}
