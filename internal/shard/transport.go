package shard

import (
	"net/netip"

	"wsd/internal/epoll"
)

// transport carries the bytes of one connection: the seam between what the shard has to say and the network. Nothing
// above it makes a system call on a connection's descriptor.
//
// Its methods are those of a plain non-blocking socket, and never block. Whatever n bytes write or writev accepts, the
// transport has taken: a transport that encrypts keeps what the kernel did not take and answers EAGAIN until it has
// been written. Errors are unix.Errno values.
type transport struct {
	fd       int32
	slot     uint32 // Of the connection.
	listener uint8  // Index of the listener in Options.Listeners that accepted the connection.
	shut     bool   // Our side is shut.
	secure   bool   // It speaks TLS, and has an entry in the shard's secured.
}

// read reads into b; 0 bytes without an error mean that the peer has sent its end. b must not be empty, and for a
// secure transport it must have room for tlsrecord.RecordMax bytes.
func (t *transport) read(x *secured, b []byte) (n int, err error) {
	if t.secure {
		return x.read(t, b)
	}
	return epoll.Read(int(t.fd), b)
}

// write writes b, which must not be empty, and returns how much of it was taken.
func (t *transport) write(x *secured, b []byte) (n int, err error) {
	if t.secure {
		return x.write(t, b)
	}
	return epoll.Write(int(t.fd), b)
}

// writev writes the gathered slices in order and returns how many bytes were taken. A secure transport has
// secured.writeParts instead.
func (t *transport) writev(v *epoll.Iovecs) (n int, err error) { return v.Writev(int(t.fd)) }

// acked returns how many bytes the peer's kernel has acknowledged, ever, and whether that is all that was written.
func (t *transport) acked() (bytes uint64, all bool) { return epoll.Acked(int(t.fd)) }

// peer returns the address and port of the peer, which may be a proxy; not valid if the socket has none any longer. It
// makes a system call.
func (t *transport) peer() netip.AddrPort { return epoll.Peer(int(t.fd)) }

// networkOf returns what limits per client address go by: an IPv4 address, or the /64 network of an IPv6 address, as a
// site has at least that.
func networkOf(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	network, err := a.Prefix(64)
	if err != nil {
		return a // Not for this length.
	}
	return network.Addr()
}

// shutdown ends our side after what has been written. It does nothing the second time.
func (t *transport) shutdown() {
	if !t.shut {
		t.shut = true
		epoll.CloseWrite(int(t.fd))
	}
}

// close closes the socket in order: the kernel still sends what it holds.
func (t *transport) close() { epoll.Close(int(t.fd)) }

// reset closes the socket at once, so that the kernel frees what a peer that does not read would hold.
func (t *transport) reset() { epoll.Reset(int(t.fd)) }
