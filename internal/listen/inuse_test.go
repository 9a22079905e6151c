package listen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// port is the port of host:port.
func port(tb testing.TB, address string) string {
	tb.Helper()
	_, p, err := net.SplitHostPort(address)
	require.NoError(tb, err)
	return p
}

// requireInUse opens an address that somebody has.
func requireInUse(tb testing.TB, address string) *InUseError {
	tb.Helper()
	before := openSockets(tb)
	groups, err := Open(Options{Addresses: []string{address}, Shards: 2})
	require.Nil(tb, groups)
	var inUse *InUseError
	require.ErrorAs(tb, err, &inUse)
	require.ErrorIs(tb, err, unix.EADDRINUSE)
	require.Contains(tb, err.Error(), "port "+port(tb, address)+" is in use")
	require.NotContains(tb, err.Error(), "\n")
	require.Equal(tb, before, openSockets(tb), "a refusal leaves no socket")
	return inUse
}

// All combinations of who has the port and who wants it.
func TestInUse(t *testing.T) {
	for _, c := range []struct{ has, wants string }{
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1", "0.0.0.0"},
		{"127.0.0.1", ""},
		{"0.0.0.0", "127.0.0.1"},
		{"0.0.0.0", "0.0.0.0"},
		{"0.0.0.0", ""},
		{"::1", "::1"},
		{"::1", "::"},
		{"::1", ""},
		{"", "127.0.0.1"},
		{"", "0.0.0.0"},
		{"", "::1"},
		{"", "::"},
		{"", ""},
	} {
		for _, how := range []string{"group", "plain"} {
			t.Run(fmt.Sprintf("%s %q wants %q", how, c.has, c.wants), func(t *testing.T) {
				var has string
				if how == "group" {
					has = mustOpen(t, 2, net.JoinHostPort(c.has, "0"))[0].Address.String()
				} else {
					l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(c.has, "0"))
					require.NoError(t, err)
					t.Cleanup(func() { l.Close() })
					has = l.Addr().String()
				}
				err := requireInUse(t, net.JoinHostPort(c.wants, port(t, has)))
				require.Equal(t, os.Getpid(), err.Holder.PID)
				require.Equal(t, has, err.Holder.Address)
				require.Contains(t, err.Error(), fmt.Sprintf("pid %d (%s", os.Getpid(), os.Args[0]))
				require.Contains(t, err.Error(), "must not overlap")
			})
		}
	}
}

// What does not overlap is no conflict.
func TestNotInUse(t *testing.T) {
	for _, c := range []struct{ has, wants string }{
		{"127.0.0.1", "127.0.0.2"}, {"127.0.0.1", "::1"}, {"::1", "127.0.0.1"}, {"::1", "0.0.0.0"},
	} {
		has := mustOpen(t, 2, net.JoinHostPort(c.has, "0"))[0].Address
		mustOpen(t, 2, net.JoinHostPort(c.wants, strconv.Itoa(int(has.Port()))))
	}
}

func TestInUseByAnother(t *testing.T) {
	for _, arg := range []string{"group 127.0.0.1:0", "group :0", "plain 127.0.0.1:0", "plain :0"} {
		t.Run(arg, func(t *testing.T) {
			pid, has := mustChild(t, arg)
			for _, host := range []string{"127.0.0.1", ""} {
				err := requireInUse(t, net.JoinHostPort(host, port(t, has)))
				require.Equal(t, pid, err.Holder.PID)
				require.Contains(t, err.Error(), fmt.Sprintf("in use by pid %d (%s), listening on %s; stop it, or", pid, os.Args[0], has))
			}
		})
	}
	t.Run("and it by us", func(t *testing.T) {
		has := mustOpen(t, 2, "127.0.0.1:0")[0].Address
		_, line := mustChild(t, "group "+has.String())
		require.Contains(t, line, fmt.Sprintf("error: listen on %s: port %d is in use by pid %d (", has, has.Port(), os.Getpid()))
	})
}

// The addresses of one server meet the same rule, and nothing stays open.
func TestOverlap(t *testing.T) {
	before := openSockets(t)
	free := mustOpen(t, 1, "127.0.0.1:0")
	address := free[0].Address.String()
	require.NoError(t, unix.Shutdown(free[0].FDs[0], unix.SHUT_RDWR)) // It listens no longer.
	_, err := Open(Options{Addresses: []string{address, net.JoinHostPort("", port(t, address))}, Shards: 2})
	require.ErrorContains(t, err, "the addresses of client.listen must not overlap")
	require.Equal(t, before+1, openSockets(t))
}

// Of servers that start at the same moment one wins, and it has all its sockets.
func TestOneWins(t *testing.T) {
	for range 20 {
		g := mustOpen(t, 1, "127.0.0.1:0")
		address := g[0].Address.String()
		require.NoError(t, unix.Shutdown(g[0].FDs[0], unix.SHUT_RDWR))
		const servers = 4
		var opened [servers][]Group
		var errs [servers]error
		var wg sync.WaitGroup
		for i := range servers {
			wg.Go(func() { opened[i], errs[i] = Open(Options{Addresses: []string{address}, Shards: 4}) })
		}
		wg.Wait()
		won := 0
		for i := range servers {
			if errs[i] == nil {
				won++
				require.Len(t, opened[i][0].FDs, 4)
				require.NoError(t, opened[i][0].Close())
				continue
			}
			require.ErrorIs(t, errs[i], unix.EADDRINUSE)
		}
		require.Equal(t, 1, won, "%v", errors.Join(errs[:]...))
	}
}

func TestLockPort(t *testing.T) {
	const number = 1 // Nobody serves it.
	lock, err := lockPort(number, 0)
	require.NoError(t, err)
	before := openSockets(t)
	_, err = lockPort(number, 10*time.Millisecond)
	require.ErrorContains(t, err, "lock port 1 by the Unix socket @wsd/listen/1 for 10ms: another process holds it")
	require.ErrorIs(t, err, errLockHeld)
	require.Equal(t, before, openSockets(t))
	lock.close()
	lock, err = lockPort(number, 0)
	require.NoError(t, err)
	lock.close()
}

// Who holds the lock of a port cannot keep a server from starting; who serves the port still does.
func TestLockHeldForEver(t *testing.T) {
	has := mustOpen(t, 1, "127.0.0.1:0")[0]
	number := int(has.Address.Port())
	lock, err := lockPort(number, 0)
	require.NoError(t, err)
	defer lock.close()
	var log bytes.Buffer
	o := Options{Addresses: []string{has.Address.String()}, Shards: 2, lockPatience: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	_, err = Open(o)
	require.ErrorIs(t, err, unix.EADDRINUSE)
	require.NoError(t, unix.Shutdown(has.FDs[0], unix.SHUT_RDWR)) // It listens no longer.
	log.Reset()
	mustOpenWith(t, o)
	require.Contains(t, log.String(), "starting without the lock")
	require.Contains(t, log.String(), fmt.Sprintf("@wsd/listen/%d", number))
}

func TestParseListener(t *testing.T) {
	const tail = " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0"
	for _, c := range []struct{ name, line, want string }{
		{"loopback", "   0: 0100007F:1F40 00000000:0000 0A" + tail, "127.0.0.1:8000"},
		{"any", "  12: 00000000:0016 00000000:0000 0A" + tail, "0.0.0.0:22"},
		{"ipv6 loopback", "   0: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A" + tail, "[::1]:8000"},
		{"ipv6", "   0: B80D0120000000000000000078563412:FFFF 00000000000000000000000000000000:0000 0A" + tail, "[2001:db8::1234:5678]:65535"},
		{"mapped", "   0: 0000000000000000FFFF00000100007F:1F40 00000000000000000000000000000000:0000 0A" + tail, "[::ffff:127.0.0.1]:8000"},
		{"header", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", ""},
		{"established", "   1: 0100007F:1F40 0100007F:A000 01" + tail, ""},
		{"empty", "", ""},
		{"cut", "   0: 0100007F:1F40 00000000:0000 0A", ""},
		{"no port", "   0: 0100007F 00000000:0000 0A" + tail, ""},
		{"odd digits", "   0: 0100007:1F40 00000000:0000 0A" + tail, ""},
		{"three bytes", "   0: 010000:1F40 00000000:0000 0A" + tail, ""},
		{"eight bytes", "   0: 0100007F0100007F:1F40 00000000:0000 0A" + tail, ""},
		{"port too long", "   0: 0100007F:11F40 00000000:0000 0A" + tail, ""},
		{"no uid", "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  root        0 4711", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, ok := parseListener(c.line)
			require.Equal(t, c.want != "", ok)
			if ok {
				require.Equal(t, listener{address: netip.MustParseAddrPort(c.want), uid: 1000, inode: "4711"}, l)
			}
		})
	}
}

func TestHolder(t *testing.T) {
	require.Equal(t, "pid 12 (a b), listening on 0.0.0.0:80", Holder{Address: "0.0.0.0:80", PID: 12, Command: "a b"}.String())
	require.Equal(t, "a process of uid 7, listening on [::]:80 (run as root to see which)", Holder{Address: "[::]:80", UID: 7}.String())
	err := &InUseError{Address: "127.0.0.1:80", Port: 80, cause: unix.EADDRINUSE}
	require.Contains(t, err.Error(), "by a process that is not visible to wsd")
	require.Equal(t, Holder{}, findHolder(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}))

	cmd := exec.Command("sh", "-c", "read x # "+strings.Repeat("é", commandMax))
	in, errPipe := cmd.StdinPipe()
	require.NoError(t, errPipe)
	require.NoError(t, cmd.Start())
	var text string
	require.Eventually(t, func() bool { // The command line is there a moment after exec.
		text = commandOf(cmd.Process.Pid)
		return strings.HasPrefix(text, "sh -c read x # é")
	}, 5*time.Second, time.Millisecond)
	in.Close()
	_ = cmd.Wait() // read fails at the end of its input.
	require.True(t, strings.HasSuffix(text, "é…"), text)
	require.LessOrEqual(t, len(text), commandMax+len("…"))
}
