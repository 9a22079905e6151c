package epoll

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IovecsMax is the maximum number of slices for one Writev. The kernel's limit is 1024, but more than some dozens gain
// nothing.
const IovecsMax = 64

// Accept accepts one connection from a listening descriptor. The new descriptor is non-blocking and close-on-exec. The
// error is a unix.Errno, EAGAIN if no connection is waiting.
func Accept(listener int) (fd int, err error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0,
		0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Read reads into b, which must not be empty. The error is a unix.Errno. 0 bytes without an error mean the end of the
// stream.
func Read(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Write writes b, which must not be empty. It returns the number of bytes that the kernel accepted. The error is a
// unix.Errno.
func Write(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Iovecs collects slices for one Writev. Its zero value is empty. It belongs to one goroutine.
type Iovecs struct {
	n   int
	vec [IovecsMax]unix.Iovec
}

// Reset removes the slices, so that the garbage collector can free them.
func (v *Iovecs) Reset() {
	clear(v.vec[:v.n])
	v.n = 0
}

// Add appends b, which must not be empty, and reports whether there was room.
func (v *Iovecs) Add(b []byte) bool {
	if v.n == IovecsMax {
		return false
	}
	v.vec[v.n].Base = &b[0]
	v.vec[v.n].SetLen(len(b))
	v.n++
	return true
}

// Writev writes the slices in order. It returns the number of bytes that the kernel accepted. The error is a
// unix.Errno.
func (v *Iovecs) Writev(fd int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&v.vec[0])), uintptr(v.n))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Close closes fd. The kernel still sends data that has been written.
func Close(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// CloseWrite shuts down the sending side, after data that has been written.
func CloseWrite(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// Reset closes fd and makes the kernel drop unsent data and send RST, so that a peer that does not read takes no kernel
// memory.
func Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	Close(fd)
}

// SetLowWater has a TCP socket reported as readable only from n bytes on, or when its peer has sent its end or it has
// failed (socket(7), SO_RCVLOWAT). n is at least 1, which is what a new socket has. Reads are not affected. If the
// kernel refuses, the socket is reported as before.
func SetLowWater(fd, n int) {
	value := int32(n) //nolint:gosec // At most a few KiB.
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT,
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// Peer returns the address of the peer of a TCP socket, or one that is not valid if the socket is no longer connected.
// An IPv4 address is never mapped to IPv6. Peer makes a system call and allocates.
func Peer(fd int) netip.AddrPort {
	name, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), port(a.Port))
	}
	return netip.AddrPort{}
}

func port(p int) uint16 { return uint16(p) } //nolint:gosec // The kernel's, which has 16 bits.

// Acked returns how many bytes the peer of a TCP socket has acknowledged, ever, and whether that is all that was
// written to it (tcp_info of linux/tcp.h).
func Acked(fd int) (bytes uint64, all bool) {
	var info unix.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, true // It is no longer connected: nothing leaves.
	}
	return info.Bytes_acked, info.Unacked == 0 && info.Notsent_bytes == 0
}
