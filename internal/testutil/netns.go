package testutil

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 10 * time.Second
	linkTimeout = 10 * time.Second // a link is up within milliseconds
)

// NetNS is a network namespace that a test made. It has no name: a descriptor
// keeps it, and sockets that were opened in it do. Methods that return an error
// may be called from any goroutine; the others fail the test that made the
// namespace, and belong into that test's own goroutine.
type NetNS struct {
	tb    testing.TB
	file  *os.File
	links int // How many were made to it, for their names.
}

// NewNetNS makes a network namespace for the test, and lets go of it when the
// test ends. Its loopback is up. It drops in silence what it has no route for,
// so that it neither forwards a packet nor answers it with an ICMP error. The
// test is skipped (SkipOrFail) without root, the three capabilities that the
// namespace's methods need, or the ip program. Call it from the test's own
// goroutine.
func NewNetNS(tb testing.TB) *NetNS {
	tb.Helper()
	if lack := lacking(capSysAdmin, capNetAdmin, capNetRaw); lack != "" {
		SkipOrFail(tb, lack)
	}
	n := &NetNS{tb: tb}
	err := inThread(
		func() error { return unix.Unshare(unix.CLONE_NEWNET) },
		func() (err error) {
			n.file, err = ownNetNS()
			return err
		})
	if errors.Is(err, unix.EPERM) {
		SkipOrFail(tb, fmt.Sprintf("needs CAP_SYS_ADMIN to make a network namespace: %v", err))
	}
	require.NoError(tb, err)
	tb.Cleanup(func() { n.file.Close() })
	n.ip(
		"link set lo up",
		// Routes that a test adds have a smaller metric. IPv6 would else answer
		// that there is no route, also when it does not forward.
		"route add blackhole 0.0.0.0/0 metric 4294967295",
		"route add blackhole ::/0 metric 4294967295",
	)
	return n
}

// Do runs f inside the namespace and returns its error, or that of entering. f
// runs on the caller's goroutine, whose thread returns to where it was however f
// ends, be it by a panic or by FailNow. What f opens stays in the namespace: a
// socket, or a program that it starts. A goroutine that f starts does not: it
// runs on another thread, outside. For a connection use Dial; a listener may be
// opened in f and used anywhere.
func (n *NetNS) Do(f func() error) error {
	return inThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return nil
	}, f)
}

// inThread runs f on a thread that enter has moved to another network namespace,
// and moves the thread back. A thread that cannot be moved back must not run
// another goroutine: this one stays locked to it, and panics.
func inThread(enter, f func() error) error {
	runtime.LockOSThread()
	own, err := ownNetNS()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	defer func() {
		if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("BUG: a thread cannot return to its network namespace: %v", err))
		}
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		return err
	}
	return f()
}

// ownNetNS opens the network namespace of the calling thread.
func ownNetNS() (*os.File, error) { return os.Open("/proc/thread-self/ns/net") }

// Dial connects from inside the namespace, within ten seconds. It is what
// net.Dialer's DialContext is elsewhere, but the address holds an IP address: the
// net package resolves a name, and tries what it stands for, on threads outside.
// Each call holds a thread while it waits.
func (n *NetNS) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial inside a network namespace: %w", err)
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Link connects two namespaces by a pair of devices, and returns when both are
// up. a gets the first address of each prefix and b the second: 10.99.0.1 and
// 10.99.0.2 of "10.99.0.0/24", fd99::1 and fd99::2 of "fd99::/64". The devices end
// with the first of the namespaces that does. Call it from the test's own
// goroutine.
func Link(tb testing.TB, a, b *NetNS, prefixes ...string) {
	tb.Helper()
	nameA, indexA := a.nextLink(2)
	nameB, indexB := b.nextLink(3)
	// The kernel tells of a carrier at once only if a device's index is not the one
	// of its peer, and else within a second.
	a.ip(fmt.Sprintf("link add %s index %d type veth peer name %s index %d netns /proc/%d/fd/%d",
		nameA, indexA, nameB, indexB, os.Getpid(), b.file.Fd()))
	up := "link set %s addrgenmode none up"
	a.ip(fmt.Sprintf(up, nameA))
	b.ip(fmt.Sprintf(up, nameB))
	// An address that is added earlier gets its routes later.
	a.awaitLink(nameA)
	b.awaitLink(nameB)
	// A neighbour of a forged source is looked for from a link's own address, which
	// the kernel would make as well, but not use for a second or two.
	var linesA, linesB []string
	for _, text := range slices.Concat(prefixes, []string{"fe80::/64"}) {
		prefix, err := netip.ParsePrefix(text)
		require.NoError(tb, err)
		first := prefix.Masked().Addr().Next()
		format := "address add %s/%d dev %s"
		if first.Is6() {
			format += " nodad"
		}
		linesA = append(linesA, fmt.Sprintf(format, first, prefix.Bits(), nameA))
		linesB = append(linesB, fmt.Sprintf(format, first.Next(), prefix.Bits(), nameB))
	}
	a.ip(linesA...)
	b.ip(linesB...)
}

// nextLink names a device of the namespace that is not there yet, and gives it an
// index, every second one from first on.
func (n *NetNS) nextLink(first int) (name string, index int) {
	name, index = fmt.Sprintf("link%d", n.links), first+2*n.links
	n.links++
	return name, index
}

// awaitLink waits until a device passes packets.
func (n *NetNS) awaitLink(name string) {
	n.tb.Helper()
	require.NoError(n.tb, n.Do(func() error {
		for end := time.Now().Add(linkTimeout); ; time.Sleep(time.Millisecond) {
			device, err := net.InterfaceByName(name)
			if err != nil || device.Flags&net.FlagRunning != 0 {
				return err
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s is not up after %v: %v", name, linkTimeout, device.Flags)
			}
		}
	}))
}

// Route sends what the namespace has for a prefix to a neighbour at the other end
// of a link. A server needs one to answer forged sources; the neighbour drops the
// answers in silence, if it is a NetNS without a route for them.
func (n *NetNS) Route(prefix, via string) {
	n.tb.Helper()
	n.ip(fmt.Sprintf("route add %s via %s", prefix, via))
}

// ip has the ip program run commands inside the namespace.
func (n *NetNS) ip(commands ...string) {
	n.tb.Helper()
	program, err := exec.LookPath("ip")
	if err != nil {
		SkipOrFail(n.tb, fmt.Sprintf("needs root with the ip program of iproute2: %v", err))
	}
	cmd := exec.CommandContext(n.tb.Context(), program, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var out []byte
	err = n.Do(func() (err error) {
		out, err = cmd.CombinedOutput() // Forks from this thread.
		return err
	})
	require.NoError(n.tb, err, "ip %q: %s", commands, out)
}
