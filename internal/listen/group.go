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

// open opens one address's group; index is its place among the addresses.
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
	// The kernel gives out a port only if nobody has it, also not by SO_REUSEPORT,
	// so port 0 needs no lock and no probe.
	if want.Port != 0 {
		lock, err := lockPort(want.Port, lockWait)
		if err != nil {
			return err
		}
		defer lock.close()
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
		// The second socket must share the port, and the family, of the first.
		want, g.Address = bound, bound.AddrPort()
	}
	g.Address = netip.AddrPortFrom(g.Address.Addr().Unmap(), g.Address.Port())
	return nil
}

// resolve reads host:port. A name must stand for one address, and a zone is kept.
func resolve(address string) (*net.TCPAddr, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: want host:port, [ipv6]:port or :port: %w", address, err)
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

// listen opens one socket of a group. The order is bind, then listen, as net has
// it: the kernel lets only listening sockets into the steering program's map. opened,
// which may be nil, sees the socket before.
func listen(want *net.TCPAddr, o Options, opened func(fd int) error) (fd int, bound *net.TCPAddr, err error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // Of no effect on what raw accepts; the shards ping.
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
	// An MPTCP socket, which net would make, cannot enter the program's map.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", want.String())
	if err != nil {
		return -1, nil, err
	}
	// Go's poller would wake for every connection as long as it has the listener,
	// so a duplicate of the descriptor remains and the listener goes.
	defer l.Close()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return -1, nil, fmt.Errorf("BUG: net.Listen returned a %T", l)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, nil, fmt.Errorf("reach the listener's descriptor: %w", err)
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

// segmentMax keeps a peer on the same machine fast, such as a TLS proxy: loopback's segments have 64 KiB, so that a small send buffer
// holds only one, and each waits 40 ms for its delayed ACK (RFC 1122, 4.2.3.2). Networks have smaller segments anyway.
const segmentMax = 16 << 10

// deferSeconds is for how long a silent client is held back; the kernel rounds it to its next SYN-ACK.
const deferSeconds = 1

// set makes the listener's options, most of which accepted connections take over. It must
// come before listen: the kernel derives the window it offers from it.
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
	// Non-blocking is a flag of what both descriptors share; net has set it.
	if backlog > 0 {
		if err := unix.Listen(fd, backlog); err != nil {
			return -1, errors.Join(fmt.Errorf("set the backlog to %d: %w", backlog, err), unix.Close(fd))
		}
	}
	return fd, nil
}

// control runs f on a descriptor that net holds.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if outer := c.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return fmt.Errorf("reach the descriptor: %w", outer)
	}
	return err
}
