package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/libp2p/go-reuseport"
	"golang.org/x/sys/unix"
)

// open opens the group of one address. index is the index of the address in Options.Addresses.
func open(index int, address string, o Options) (Group, error) {
	want, err := resolve(address)
	if err != nil {
		return Group{}, err
	}
	g := Group{FDs: make([]int, 0, o.Shards)}
	if err := g.open(index, want, o); err != nil {
		return Group{}, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Group) open(index int, want *net.TCPAddr, o Options) error {
	// For port 0 the kernel chooses a port that no socket uses, not even with SO_REUSEPORT, so no lock or probe is
	// needed.
	if want.Port != 0 {
		switch lock, err := lockPort(want.Port, o.lockWait()); {
		case err == nil:
			defer lock.close()
		case errors.Is(err, errLockHeld):
			// Refusing to start would let any user of the machine keep the server down. A server that serves is found
			// by the probe, and two that start in the same milliseconds are rarer than that.
			o.Logger.Warn("starting without the lock that keeps two servers from starting on one port at the same time",
				"reason", err.Error(), "remedy", "find its holder by ss -xap, and stop it")
		default:
			return err
		}
		if err := probe(want); err != nil {
			return err
		}
	}
	for len(g.FDs) < o.Shards {
		var opened func(fd int) error
		if o.Opened != nil && len(g.FDs) == 0 {
			opened = func(fd int) error { return o.Opened(index, fd) }
		}
		fd, bound, err := listen(want, o, opened)
		if errors.Is(err, unix.EADDRINUSE) {
			return inUse(want, err)
		}
		if err != nil {
			return fmt.Errorf("listen on %s for shard %d: %w", want, len(g.FDs), err)
		}
		g.FDs = append(g.FDs, fd)
		if o.Listening != nil {
			if err := o.Listening(index, fd); err != nil {
				return err
			}
		}
		// The other sockets must share the port and the family of the first.
		want, g.Address = bound, bound.AddrPort()
	}
	g.Address = netip.AddrPortFrom(g.Address.Addr().Unmap(), g.Address.Port())
	return nil
}

// resolve resolves HOST:PORT. For a name with several addresses it returns one of them. It keeps a zone.
func resolve(address string) (*net.TCPAddr, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: must be HOST:PORT, [IPV6]:PORT or :PORT: %w", address, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("listen on %q: port %q is not a number from 0 to 65535", address, port)
	} else if n == 0 && port != "0" {
		return nil, fmt.Errorf("listen on %q: write port 0 as 0", address)
	}
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	return a, nil
}

// listen opens one socket of a group: it binds the socket and makes it listen, because the kernel accepts only
// listening sockets in the map of the steering program. It calls opened, which may be nil, before it binds the socket.
func listen(want *net.TCPAddr, o Options, opened func(fd int) error) (fd int, bound *net.TCPAddr, err error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // Has no effect on connections that shards accept with raw calls. The shards send pings instead.
		Control: func(network, address string, c syscall.RawConn) error {
			if err := reuseport.Control(network, address, c); err != nil {
				return fmt.Errorf("set SO_REUSEPORT: %w", err)
			}
			return control(c, func(fd int) error {
				if err := o.set(fd); err != nil || opened == nil {
					return err
				}
				return opened(fd)
			})
		},
	}
	// net would create an MPTCP socket, which cannot be in the map of the steering program.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", want.String())
	if err != nil {
		return -1, nil, err
	}
	// Go's poller would wake up for every new connection while the listener exists. So keep a duplicate of the
	// descriptor and close the listener.
	defer l.Close()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return -1, nil, fmt.Errorf("BUG: net.Listen returned a %T", l)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, nil, fmt.Errorf("get the descriptor of the listener: %w", err)
	}
	err = control(raw, func(listening int) (err error) {
		fd, err = duplicate(listening, o.Backlog)
		return err
	})
	if err != nil {
		return -1, nil, err
	}
	return fd, tcp.Addr().(*net.TCPAddr), nil
}

// segmentMax is the TCP segment size limit, for the sake of peers on the same machine such as a TLS proxy. Segments on
// loopback have up to 64 KiB, so that a small send buffer holds only one, and each one waits 40 ms for its delayed ACK
// (RFC 1122, 4.2.3.2). Segments in networks are smaller anyway.
const segmentMax = 16 << 10

// deferSeconds is how long the kernel holds back the connection of a silent client. The kernel rounds it up to the time
// of its next SYN-ACK.
const deferSeconds = 1

// set sets the socket options of a listener, most of which accepted connections inherit. It must be called before
// listen, because the kernel derives the window that it offers from them.
func (o *Options) set(fd int) error {
	if o.SendBuffer > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer); err != nil {
			return fmt.Errorf("set SO_SNDBUF to %d: %w", o.SendBuffer, err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segmentMax); err != nil {
		return fmt.Errorf("set TCP_MAXSEG: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if ms := int(o.ProgressTimeout.Milliseconds()); ms > 0 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms); err != nil {
			return fmt.Errorf("set TCP_USER_TIMEOUT to %d ms: %w", ms, err)
		}
	}
	if o.DeferAccept {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds); err != nil {
			return fmt.Errorf("set TCP_DEFER_ACCEPT: %w", err)
		}
	}
	return nil
}

func duplicate(listening, backlog int) (int, error) {
	fd, err := unix.FcntlInt(uintptr(listening), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate the listener's descriptor: %w", err)
	}
	// net has made the socket non-blocking, and both descriptors share that flag.
	if backlog > 0 {
		if err := unix.Listen(fd, backlog); err != nil {
			return -1, errors.Join(fmt.Errorf("set the backlog to %d: %w", backlog, err), unix.Close(fd))
		}
	}
	return fd, nil
}

// control calls f with the descriptor of a connection of package net.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if outer := c.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return fmt.Errorf("get the descriptor: %w", outer)
	}
	return err
}
