package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait is how long to wait for another server that is between its probe and its last listening socket.
const lockWait = 5 * time.Second

// InUseError says which process uses a port. It wraps EADDRINUSE.
type InUseError struct {
	Address string // Address that was requested.
	Port    int    // Port of Address.
	Holder  Holder // Process that uses the port.
	cause   error  // Error of the kernel.
}

// Error implements error.
func (e *InUseError) Error() string {
	who := "by a process that is not visible to wsd"
	if e.Holder.Address != "" {
		who = "by " + e.Holder.String()
	}
	remedy := "stop it, or choose another port with client.listen"
	if e.Holder.PID == os.Getpid() {
		remedy = "the addresses of client.listen must not overlap"
	}
	return fmt.Sprintf("listen on %s: port %d is in use %s; %s", e.Address, e.Port, who, remedy)
}

// Unwrap returns the error of the kernel.
func (e *InUseError) Unwrap() error { return e.cause }

func inUse(want *net.TCPAddr, cause error) error {
	return &InUseError{Address: want.String(), Port: want.Port, Holder: findHolder(want), cause: cause}
}

// probe returns an error if a socket listens on an address that overlaps want. It tries to bind a socket without
// SO_REUSEPORT, because with it the kernel would allow the same user a second server. The socket never listens, so no
// client reaches it.
func probe(want *net.TCPAddr) error {
	family, address := sockaddr(want)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if errors.Is(err, unix.EAFNOSUPPORT) && want.IP == nil {
		return probe(&net.TCPAddr{IP: net.IPv4zero, Port: want.Port}) // IPv6 is off.
	}
	if err != nil {
		return fmt.Errorf("open a socket to probe %s: %w", want, err)
	}
	defer unix.Close(fd)
	// Without SO_REUSEADDR, connections of a server that has just stopped would block the port for a minute.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if family == unix.AF_INET6 {
		// Like package net: without a host, one socket for both families.
		only := 1
		if want.IP == nil {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("set IPV6_V6ONLY: %w", err)
		}
	}
	switch err := unix.Bind(fd, address); {
	case errors.Is(err, unix.EADDRINUSE):
		return inUse(want, err)
	case errors.Is(err, unix.EADDRNOTAVAIL) && want.IP == nil:
		return probe(&net.TCPAddr{IP: net.IPv4zero, Port: want.Port}) // No interface has IPv6.
	case err != nil:
		return fmt.Errorf("listen on %s: %w%s", want, err, bindHint(err, want.Port))
	}
	return nil
}

func bindHint(err error, port int) string {
	switch {
	case errors.Is(err, unix.EACCES) && port < 1024:
		return fmt.Sprintf(": ports below 1024 need CAP_NET_BIND_SERVICE, or sysctl -w "+
			"net.ipv4.ip_unprivileged_port_start=%d", port)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return ": no interface of this network namespace has the address"
	}
	return ""
}

// sockaddr returns the socket address of a. Without a host it is the IPv6 wildcard, which covers IPv4 as well.
func sockaddr(a *net.TCPAddr) (family int, sa unix.Sockaddr) {
	if v4 := a.IP.To4(); v4 != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(v4)}
	}
	v6 := &unix.SockaddrInet6{Port: a.Port}
	copy(v6.Addr[:], a.IP.To16())
	if a.Zone != "" {
		if i, err := net.InterfaceByName(a.Zone); err == nil {
			v6.ZoneId = uint32(i.Index) //nolint:gosec // An index is above 0.
		}
	}
	return unix.AF_INET6, v6
}

// portLock is a lock on a port between processes. It keeps two servers that start at the same time from both finding
// the port free, because probe cannot see a socket that is bound but does not listen yet. A server holds it from the
// probe until its last socket listens.
//
// The lock is a name in the abstract Unix namespace. Such a name belongs to a network namespace, like the port, needs
// no directory, and disappears with the process.
type portLock struct{ fd int }

// errLockHeld means that another process does not let go of the lock of a port. Any process of the machine can take it,
// also one that is no server and never will.
var errLockHeld = errors.New("another process holds it")

// lockPort takes the lock of a port, and waits up to wait while another process holds it.
func lockPort(port int, wait time.Duration) (portLock, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return portLock{}, fmt.Errorf("open a socket to lock port %d: %w", port, err)
	}
	name := fmt.Sprintf("@wsd/listen/%d", port)
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: name})
		if err == nil {
			return portLock{fd}, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) || !time.Now().Before(end) {
			if errors.Is(err, unix.EADDRINUSE) {
				err = errLockHeld
			}
			return portLock{}, errors.Join(fmt.Errorf("lock port %d by the Unix socket %s for %s: %w", port, name, wait,
				err), unix.Close(fd))
		}
	}
}

func (l portLock) close() { _ = unix.Close(l.fd) }
