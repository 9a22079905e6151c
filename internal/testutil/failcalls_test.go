package testutil

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Only the calls that are named fail, only of the descriptor that is named, and only on that thread.
func TestFailedCalls(t *testing.T) {
	var a, b [2]int
	require.NoError(t, unix.Pipe(a[:]))
	require.NoError(t, unix.Pipe(b[:]))
	write := func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err }
	var failed, other, elsewhere, read, second, otherSecond error
	WithFailedCalls(t, []FailedCall{
		{Number: unix.SYS_WRITE, FD: a[1], Errno: unix.ENOBUFS}, {Number: unix.SYS_READ, FD: -1, Errno: unix.ENOMEM},
		{Number: unix.SYS_FCNTL, FD: a[0], Second: unix.F_GETFL, Errno: unix.EIO},
	}, func() {
		failed, other = write(a[1]), write(b[1])
		_, read = unix.Read(b[0], make([]byte, 1))
		_, second = unix.FcntlInt(uintptr(a[0]), unix.F_GETFL, 0)
		_, otherSecond = unix.FcntlInt(uintptr(a[0]), unix.F_GETFD, 0)
		done := make(chan error)
		go func() { done <- write(a[1]) }()
		elsewhere = <-done
	})
	require.Equal(t, unix.ENOBUFS, failed)
	require.NoError(t, other)
	require.NoError(t, elsewhere)
	require.Equal(t, unix.ENOMEM, read)
	require.Equal(t, unix.EIO, second)
	require.NoError(t, otherSecond)
	require.NoError(t, write(a[1]))
	for _, fd := range append(a[:], b[:]...) {
		require.NoError(t, unix.Close(fd))
	}
}
