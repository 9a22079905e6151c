package listen

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// childVariable makes the test binary listen, as another process, instead of
// running the tests: "group ADDRESS" by Open, "plain ADDRESS" by package net.
const childVariable = "WSD_TEST_CHILD"

func TestMain(m *testing.M) {
	if arg := os.Getenv(childVariable); arg != "" {
		if err := child(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child prints the address it has, or the error, and goes on until its input ends.
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
	cmd := exec.Command(os.Args[0])
	// The race detector would make each child sleep for a second at its end.
	cmd.Env = append(os.Environ(), childVariable+"="+arg, "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		stdin.Close()
		require.NoError(tb, cmd.Wait(), stderr.String())
	})
	line, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(tb, err, "%s", &stderr)
	return cmd.Process.Pid, strings.TrimSpace(line)
}

// mustOpen opens groups that close when the test ends.
func mustOpen(tb testing.TB, shards int, addresses ...string) []Group {
	tb.Helper()
	groups, err := Open(Options{Addresses: addresses, Shards: shards})
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
