package doctor

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// orKernel fills the fields that a test left empty with the real calls.
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
		s.Load = loadProgram
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

// writable asks with the effective ids, because those are what a later mkdir is
// judged by.
func writable(path string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", path, err)
	}
	return nil
}

// reachBPF uses a command number that does not exist: the kernel's own code
// answers EINVAL, a seccomp filter or a kernel without bpf() something else.
// Kernels before 5.19 check the capability first and answer EPERM as a filter
// does, so EPERM without the capability says nothing.
func reachBPF() error {
	var attr [128]byte
	_, _, errno := unix.Syscall(unix.SYS_BPF, 1<<30, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	switch errno {
	case unix.EINVAL, 0:
		return nil
	}
	return fmt.Errorf("call bpf(): %w", errno)
}

// progLoadAttr is the start of union bpf_attr for BPF_PROG_LOAD; the kernel
// takes a shorter one as zero-filled.
type progLoadAttr struct {
	progType           uint32
	insnCount          uint32
	insns              uint64
	license            uint64
	logLevel           uint32
	logSize            uint32
	logBuf             uint64
	kernVersion        uint32
	progFlags          uint32
	progName           [16]byte
	progIfindex        uint32
	expectedAttachType uint32
}

// loadProgram loads `r0 = 1; exit` (pass) as the program type and attach type
// that steering uses, and closes it at once.
func loadProgram() error {
	insns := &[2]uint64{ // little-endian, as amd64 and arm64 are
		0x00000001_000000b7, // r0 = 1
		0x00000000_00000095, // exit
	}
	license := &[4]byte{'M', 'I', 'T', 0}
	// The kernel follows these two addresses from inside the struct, where
	// the runtime does not know them: a stack that moves would leave them behind.
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(insns)
	pin.Pin(license)
	attr := progLoadAttr{
		progType:           unix.BPF_PROG_TYPE_SK_REUSEPORT,
		insnCount:          uint32(len(insns)),
		insns:              uint64(uintptr(unsafe.Pointer(insns))),
		license:            uint64(uintptr(unsafe.Pointer(license))),
		expectedAttachType: unix.BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
	}
	copy(attr.progName[:], "wsd_doctor")
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return fmt.Errorf("load a program: %w", errno)
	}
	return unix.Close(int(fd))
}

// refused tells whether the kernel or a filter said no to this process, as
// opposed to not knowing the thing at all.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
