package testutil

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	prefix4 = "10.99.0.0/24"
	prefix6 = "fd99::/64"
)

// mustLink makes two namespaces with a link of both IP versions.
func mustLink(tb testing.TB) (a, b *NetNS) {
	tb.Helper()
	a, b = NewNetNS(tb), NewNetNS(tb)
	Link(tb, a, b, prefix4, prefix6)
	return a, b
}

// mustListen opens a listener inside a namespace.
func mustListen(tb testing.TB, n *NetNS, address string) net.Listener {
	tb.Helper()
	var l net.Listener
	require.NoError(tb, n.Do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", address)
		return err
	}))
	tb.Cleanup(func() { l.Close() })
	return l
}

// namespace names the calling thread's network namespace.
func namespace(tb testing.TB) string {
	tb.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(tb, err)
	return name
}

func TestNetNSDo(t *testing.T) {
	runtime.LockOSThread() // To look at the thread that Do used.
	defer runtime.UnlockOSThread()
	outside := namespace(t)
	a, b := NewNetNS(t), NewNetNS(t)
	require.Equal(t, outside, namespace(t))

	var inA string
	require.NoError(t, a.Do(func() error {
		inA = namespace(t)
		require.NotEqual(t, outside, inA)
		program, err := exec.CommandContext(t.Context(), "readlink", "/proc/self/ns/net").Output()
		require.NoError(t, err)
		require.Equal(t, inA, strings.TrimSpace(string(program)), "a program that was started inside")
		require.NoError(t, b.Do(func() error {
			require.NotContains(t, []string{outside, inA}, namespace(t))
			return nil
		}))
		require.Equal(t, inA, namespace(t), "after one inside the other")
		return nil
	}))
	require.Equal(t, outside, namespace(t))

	failed := errors.New("failed")
	require.ErrorIs(t, a.Do(func() error { return failed }), failed)
	require.Equal(t, outside, namespace(t), "after an error")
	require.PanicsWithValue(t, "panicked", func() { _ = a.Do(func() error { panic("panicked") }) })
	require.Equal(t, outside, namespace(t), "after a panic")
	ended := make(chan string)
	go func() {
		runtime.LockOSThread()
		defer func() {
			name, _ := os.Readlink("/proc/thread-self/ns/net")
			ended <- name
		}()
		_ = a.Do(func() error { runtime.Goexit(); return nil }) // As FailNow ends the goroutine.
	}()
	require.Equal(t, outside, <-ended, "after FailNow")
}

func TestNetNSEndsWithItsTest(t *testing.T) {
	var n *NetNS
	t.Run("made", func(t *testing.T) { n = NewNetNS(t) })
	if n == nil {
		t.SkipNow() // Its test has said why.
	}
	require.Error(t, n.Do(func() error { panic("entered") }))
}

func TestLink(t *testing.T) {
	a, b := mustLink(t)
	for _, address := range []string{"10.99.0.1:0", "[fd99::1]:0"} {
		t.Run(address, func(t *testing.T) {
			l := mustListen(t, a, address)
			c, err := b.Dial(t.Context(), "tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			accepted, err := l.Accept()
			require.NoError(t, err)
			defer accepted.Close()
			_, err = io.WriteString(accepted, "h")
			require.NoError(t, err)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err = io.ReadFull(c, make([]byte, 1))
			require.NoError(t, err)
		})
	}
	t.Run("loopback", func(t *testing.T) {
		l := mustListen(t, a, "127.0.0.1:0")
		c, err := a.Dial(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = b.Dial(t.Context(), "tcp", l.Addr().String())
		require.Error(t, err, "another loopback")
		_, err = a.Dial(t.Context(), "tcp", "localhost:80")
		require.Error(t, err, "a name")
	})
	t.Run("another", func(t *testing.T) {
		Link(t, a, b, "10.98.0.0/30")
		l := mustListen(t, b, "10.98.0.2:0")
		c, err := a.Dial(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		c.Close()
	})
}

// Every thread is outside again, and every descriptor closed.
func TestNetNSLeavesNothing(t *testing.T) {
	if lack := lacking(capSysAdmin, capNetAdmin, capNetRaw); lack != "" {
		SkipOrFail(t, lack)
	}
	outside := namespace(t)
	var open []int
	for range 4 {
		t.Run("round", func(t *testing.T) {
			a, b := mustLink(t)
			l := mustListen(t, a, "10.99.0.1:0")
			for range 10 {
				c, err := b.Dial(t.Context(), "tcp", l.Addr().String())
				require.NoError(t, err)
				t.Cleanup(func() { c.Close() })
			}
			sent, err := b.Flood(t.Context(), addrPort(l.Addr()), 10, Sources(t, "198.18.0.0/15", 10))
			require.NoError(t, err)
			require.Equal(t, 10, sent)
		})
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		open = append(open, len(fds))
	}
	// The first round may open what the process keeps.
	require.Equal(t, []int{open[1], open[1]}, open[2:], "descriptors after each round")
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	require.NoError(t, err)
	require.NotEmpty(t, threads)
	for _, thread := range threads {
		name, err := os.Readlink(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue // It ended meanwhile.
		}
		require.NoError(t, err)
		require.Equal(t, outside, name, thread)
	}
}
