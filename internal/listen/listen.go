package listen

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Options is what Open needs.
type Options struct {
	// Addresses are the addresses to listen on, as HOST:PORT, one group for each. An empty host means every address of
	// the machine, IPv6 and IPv4 where available. Port 0 means a free port, which all sockets of the group share.
	Addresses []string

	// Shards is the number of sockets in each group, at least 1.
	Shards int

	// SendBuffer is the SO_SNDBUF of accepted connections, in bytes. The kernel doubles it and limits it to
	// net.core.wmem_max. With 0 the kernel chooses, up to 4 MB for a client that does not read.
	SendBuffer int

	// DeferAccept makes the kernel hold back a connection until its client has sent something (TCP_DEFER_ACCEPT,
	// tcp(7)), so that accept and the first read need only one wake-up. The connection of a silent client becomes ready
	// when the kernel has sent its SYN-ACK again, after about a second, or after three seconds if that is lost. Until
	// then it takes a place in the SYN queue, and closing the listener resets it.
	DeferAccept bool

	// ProgressTimeout has the kernel end a connection to which bytes could not be delivered for so long, because its
	// peer acknowledges nothing or takes nothing (TCP_USER_TIMEOUT, tcp(7)): reads then fail with ETIMEDOUT. Accepted
	// connections inherit it. 0: never; the kernel goes on for as long as the peer answers its probes.
	ProgressTimeout time.Duration

	// Opened, if not nil, is called with the first socket of each group before it is bound. group is the index of the
	// address. The descriptor is valid only during the call. An error ends Open.
	Opened func(group, fd int) error

	// Listening, if not nil, is called with each descriptor as soon as it listens, in shard order. Connections may be
	// waiting by then. group is the index of the address. An error ends Open.
	Listening func(group, fd int) error

	// Backlog is the length of each socket's accept queue. The kernel limits it to net.core.somaxconn. 0 means that
	// limit.
	Backlog int

	// Logger gets warnings; nil: nobody does.
	Logger *slog.Logger

	lockPatience time.Duration // How long to wait for the lock of a port; 0: lockWait.
}

func (o *Options) lockWait() time.Duration { return cmp.Or(o.lockPatience, lockWait) }

// Group is the sockets that share one address.
type Group struct {
	// Address is the bound address. Its port is never 0. It is [::]:port if every address was requested and IPv6 is
	// available.
	Address netip.AddrPort

	// FDs are the listening descriptors, in shard order. They are TCP sockets (never MPTCP, which a steering program
	// cannot choose), non-blocking and close-on-exec. Accepted connections inherit SO_SNDBUF, TCP_NODELAY and
	// TCP_MAXSEG. The caller of Open owns the descriptors.
	FDs []int
}

// Close closes the group's descriptors, for a caller that has not passed them on.
func (g Group) Close() error {
	var errs []error
	for _, fd := range g.FDs {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// Open opens a group for each address. If one fails, Open closes the others. If another process uses the port, the
// error is an *InUseError.
func Open(o Options) ([]Group, error) {
	if len(o.Addresses) == 0 || o.Shards < 1 {
		return nil, fmt.Errorf("BUG: listen for %d shards on %d addresses", o.Shards, len(o.Addresses))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	groups := make([]Group, 0, len(o.Addresses))
	for i, address := range o.Addresses {
		g, err := open(i, address, o)
		if err != nil {
			for _, g := range groups {
				err = errors.Join(err, g.Close())
			}
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}
