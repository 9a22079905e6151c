package listen

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Options says what to open.
type Options struct {
	// Addresses are host:port, one group each. An empty host is every address of
	// the machine, by IPv6 and IPv4 where both are there. Port 0 takes a free
	// port, the same for the whole group.
	Addresses []string

	// Shards is the number of sockets in each group, at least 1.
	Shards int

	// SendBuffer is what SO_SNDBUF is set to, in bytes; the kernel doubles it and
	// limits it to net.core.wmem_max. Accepted connections inherit it. 0 leaves
	// the kernel to grow it, up to 4 MB for a client that does not read.
	SendBuffer int

	// DeferAccept has the kernel hold a connection back until its client has sent
	// something (TCP_DEFER_ACCEPT, tcp(7)), so that accept and the first read need one
	// wake-up. One whose client says nothing is given out when the kernel has sent its
	// SYN-ACK once more, after about a second; after three if that is lost. Until then it
	// takes a place in the SYN queue, and closing its listener resets it.
	DeferAccept bool

	// Opened, if it is there, is called with the first socket of each group, by the
	// group's place in Addresses, before it is bound; the descriptor is good for that
	// call alone. Listening is called with each descriptor as soon as it listens, in
	// shard order: connections may be waiting then. An error of either ends Open.
	Opened    func(group, fd int) error
	Listening func(group, fd int) error

	// Backlog is the length of each socket's accept queue, which the kernel limits to
	// net.core.somaxconn. 0 means that limit.
	Backlog int
}

// Group is the sockets that share one address.
type Group struct {
	// Address is the address as bound: with its port, also when port 0 was asked
	// for; [::]:port where every address was asked for and IPv6 is there.
	Address netip.AddrPort

	// FDs are listening descriptors in shard order: TCP (never MPTCP, which a
	// steering program cannot choose), non-blocking, close-on-exec. Connections
	// accepted from them inherit SO_SNDBUF, TCP_NODELAY and TCP_MAXSEG. The caller owns them.
	FDs []int
}

// Close closes the group's descriptors: for a caller that has not given them to
// shards.
func (g Group) Close() error {
	var errs []error
	for _, fd := range g.FDs {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// Open opens a group for each address, or none. A port that is in use, by
// whatever process, is an *InUseError.
func Open(o Options) ([]Group, error) {
	if len(o.Addresses) == 0 || o.Shards < 1 {
		return nil, fmt.Errorf("BUG: listen for %d shards on %d addresses", o.Shards, len(o.Addresses))
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
