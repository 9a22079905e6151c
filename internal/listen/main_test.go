package listen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, child) }

// child listens, as another process: "group ADDRESS" by Open, "plain ADDRESS" by package net. It prints the address it has, or the error,
// and goes on until its input ends.
func child(arg string) error {
	how, address, _ := strings.Cut(arg, " ")
	if how == "plain" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Println(l.Addr())
	} else {
		groups, err := Open(Options{Addresses: []string{address}, Shards: 2})
		if err != nil {
			fmt.Println("error: " + err.Error())
		} else {
			fmt.Println(groups[0].Address)
		}
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// mustChild runs a child until it has printed its line.
func mustChild(tb testing.TB, arg string) (pid int, line string) {
	tb.Helper()
	pid, stdout, _ := testutil.Child(tb, arg)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(tb, err)
	return pid, strings.TrimSpace(line)
}

// mustOpen opens groups that close when the test ends.
func mustOpen(tb testing.TB, shards int, addresses ...string) []Group {
	tb.Helper()
	return mustOpenWith(tb, Options{Addresses: addresses, Shards: shards})
}

func mustOpenWith(tb testing.TB, o Options) []Group {
	tb.Helper()
	groups, err := Open(o)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		for _, g := range groups {
			require.NoError(tb, g.Close())
		}
	})
	return groups
}

// openSockets are the process's descriptors that are sockets.
func openSockets(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(tb, err)
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
