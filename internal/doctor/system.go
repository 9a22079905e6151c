package doctor

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"wsd/internal/steering"
)

// orKernel fills the fields that a test left empty with the system's own calls.
func (s System) orKernel() System {
	if s.FileSystem == nil {
		s.FileSystem = fileSystem
	}
	if s.Writable == nil {
		s.Writable = writable
	}
	if s.Reach == nil {
		s.Reach = reachBPF
	}
	if s.Load == nil {
		s.Load = steering.TryLoad
	}
	if s.Counters == nil {
		s.Counters = counters
	}
	if s.Synchronized == nil {
		s.Synchronized = synchronized
	}
	return s
}

func fileSystem(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	return int64(st.Type), nil //nolint:unconvert // 32 bits wide on some architectures
}

// writable checks the effective ids, because mkdir will.
func writable(path string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", path, err)
	}
	return nil
}

// reachBPF calls bpf() with a command that does not exist. The kernel's own code returns EINVAL; a seccomp filter, or a
// kernel without bpf(), returns something else. Kernels before 5.19 check the capability first and return EPERM as a
// filter does, so EPERM proves nothing for a process without the capability.
func reachBPF() error {
	var attr [128]byte
	_, _, errno := unix.Syscall(unix.SYS_BPF, 1<<30, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case unix.EINVAL, 0:
		return nil
	}
	return fmt.Errorf("call bpf(): %w", errno)
}

// synchronized asks the kernel, whom whatever keeps the clock right tells so (adjtimex(2)). It changes nothing.
func synchronized() (bool, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("ask for the state of the clock: %w", err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

// refused reports whether the kernel or a filter refused this process, as opposed to not supporting the call at all.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
