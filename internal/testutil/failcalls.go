package testutil

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// FailedCall is a system call that fails. It must have a descriptor as its first argument.
type FailedCall struct {
	Number uintptr // Such as unix.SYS_ACCEPT4.
	FD     int     // Negative: any descriptor.
	Second int     // The second argument, such as unix.EPOLL_CTL_ADD. Zero: any.
	Errno  unix.Errno
}

// WithFailedCalls runs do on a thread of its own, for which the kernel lets the given system calls fail by a seccomp
// filter. The thread ends afterwards, and the filter with it. Calls of goroutines that do starts do not fail. do must
// not end the test: it runs in another goroutine.
func WithFailedCalls(tb testing.TB, calls []FailedCall, do func()) {
	tb.Helper()
	filter := failureFilter(calls)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked, so that the thread ends with the goroutine.
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
			runtime.KeepAlive(filter)
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	require.NoError(tb, <-done, "install a seccomp filter")
}

// failureFilter returns a classic BPF program over struct seccomp_data (linux/seccomp.h) of a little-endian machine.
func failureFilter(calls []FailedCall) (program []unix.SockFilter) {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K

		atNumber, atFirst, atSecond = 0, 16, 24
	)
	for _, c := range calls {
		rest := []unix.SockFilter{{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(c.Errno)}}
		argument := func(at uint32, value int) {
			rest = append([]unix.SockFilter{
				{Code: load, K: at}, {Code: equal, K: uint32(value), Jf: uint8(len(rest))},
			}, rest...)
		}
		if c.Second != 0 {
			argument(atSecond, c.Second)
		}
		if c.FD >= 0 {
			argument(atFirst, c.FD)
		}
		program = append(program, unix.SockFilter{Code: load, K: atNumber},
			unix.SockFilter{Code: equal, K: uint32(c.Number), Jf: uint8(len(rest))})
		program = append(program, rest...)
	}
	return append(program, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
}
