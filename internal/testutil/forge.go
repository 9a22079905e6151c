package testutil

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Flags of a Segment (RFC 9293, section 3.1).
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
)

const (
	tcpBytes     = 20
	segmentBytes = 40 + tcpBytes // the longer of the two IP headers
	hops         = 64
	portFirst    = 1024
	ports        = 1<<16 - portFirst
)

// Segment is a forged TCP segment without options and data. Both addresses are of
// the same IP version.
type Segment struct {
	From, To netip.AddrPort
	Flags    uint8
	Seq, Ack uint32
}

// SendTCP sends one segment, whoever has its source address. It leaves from the
// network namespace of the calling thread: to send it from a NetNS, call it in
// Do. The sender needs CAP_NET_RAW. It may be called from any goroutine.
func SendTCP(s Segment) error {
	f, err := newForger(s.To)
	if err != nil {
		return err
	}
	defer f.close()
	return f.send(s)
}

// Flood sends count SYNs from the namespace to one port, as fast as one thread
// can, and returns how many it sent. source says where the one with a number from
// zero on seems to come from (see Sources). The end of ctx stops it without an
// error; the first that cannot be sent stops it with one. It may be called from
// any goroutine, also several times at once.
func (n *NetNS) Flood(ctx context.Context, to netip.AddrPort, count int, source func(i int) netip.AddrPort) (sent int,
	err error) {
	var f *forger
	if err := n.Do(func() (err error) {
		f, err = newForger(to)
		return err
	}); err != nil {
		return 0, err
	}
	defer f.close()
	for sent < count && ctx.Err() == nil {
		if err := f.send(Segment{From: source(sent), To: to, Flags: SYN, Seq: uint32(sent)}); err != nil {
			return sent, fmt.Errorf("flood %v: SYN %d: %w", to, sent, err)
		}
		sent++
	}
	return sent, nil
}

// Sources enumerates forged sources for Flood: the first n host addresses of a
// prefix, over and over, from port 1024 in the first round, 1025 in the second and
// so on. No two are the same among the first 64,512 times n.
func Sources(tb testing.TB, prefix string, n int) func(i int) netip.AddrPort {
	tb.Helper()
	p, err := netip.ParsePrefix(prefix)
	require.NoError(tb, err)
	require.Positive(tb, n)
	addresses := make([]netip.Addr, n)
	next := p.Masked().Addr()
	for i := range addresses {
		next = next.Next()
		require.True(tb, p.Contains(next), "%s has fewer than %d addresses", prefix, n)
		addresses[i] = next
	}
	return func(i int) netip.AddrPort {
		return netip.AddrPortFrom(addresses[i%n], uint16(portFirst+i/n%ports))
	}
}

// forger sends segments to one address. It is for one goroutine at a time.
type forger struct {
	fd     int
	to     unix.Sockaddr
	is4    bool
	packet []byte // Reused for each.
}

// newForger opens a raw socket, in the network namespace of the calling thread, to
// which packets are given with their IP header.
func newForger(to netip.AddrPort) (*forger, error) {
	address := to.Addr().Unmap()
	f := &forger{is4: address.Is4(), packet: make([]byte, 0, segmentBytes)}
	family := unix.AF_INET6
	if f.is4 {
		family = unix.AF_INET
		f.to = &unix.SockaddrInet4{Addr: address.As4()}
	} else {
		f.to = &unix.SockaddrInet6{Addr: address.As16()}
	}
	var err error
	f.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open a raw socket needs CAP_NET_RAW: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	return f, nil
}

func (f *forger) send(s Segment) error {
	if s.From.Addr().Unmap().Is4() != f.is4 {
		return fmt.Errorf("send a segment from %v to %v: not the same IP version", s.From, s.To)
	}
	f.packet = s.append(f.packet[:0])
	return unix.Sendto(f.fd, f.packet, 0, f.to)
}

func (f *forger) close() { _ = unix.Close(f.fd) }

// append adds the segment behind its IP header. The kernel adds IPv4's checksum.
func (s Segment) append(b []byte) []byte {
	from, to := s.From.Addr().Unmap(), s.To.Addr().Unmap()
	var addresses int
	if to.Is4() {
		b = append(b, 4<<4|5, 0, 0, 20+tcpBytes, 0, 0, 0, 0, hops, unix.IPPROTO_TCP, 0, 0)
		from, to := from.As4(), to.As4()
		addresses = len(b)
		b = append(append(b, from[:]...), to[:]...)
	} else {
		b = append(b, 6<<4, 0, 0, 0, 0, tcpBytes, unix.IPPROTO_TCP, hops)
		from, to := from.As16(), to.As16()
		addresses = len(b)
		b = append(append(b, from[:]...), to[:]...)
	}
	tcp := len(b)
	b = binary.BigEndian.AppendUint16(b, s.From.Port())
	b = binary.BigEndian.AppendUint16(b, s.To.Port())
	b = binary.BigEndian.AppendUint32(b, s.Seq)
	b = binary.BigEndian.AppendUint32(b, s.Ack)
	b = append(b, tcpBytes/4<<4, s.Flags, 0xff, 0xff, 0, 0, 0, 0) // Window, checksum, urgent pointer.
	// Of the pseudo header, what is not the addresses before it.
	sum := uint32(unix.IPPROTO_TCP + tcpBytes)
	for i := addresses; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[tcp+16:], ^uint16(sum))
	return b
}
