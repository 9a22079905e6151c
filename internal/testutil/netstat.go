package testutil

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"
)

// Counter reads one of the kernel's counters of the namespace. Its name is the one
// that nstat prints, such as TcpOutRsts, TcpExtSyncookiesSent or Icmp6OutMsgs; a
// name that the kernel does not know fails the test.
func (n *NetNS) Counter(name string) int {
	n.tb.Helper()
	for _, file := range []string{"snmp", "netstat"} {
		// Pairs of lines, each behind its group's name: the names, and the values.
		lines := strings.Split(n.read(file), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := range names {
				if j > 0 && strings.TrimSuffix(names[0], ":")+names[j] == name {
					return n.number(values[j])
				}
			}
		}
	}
	for line := range strings.Lines(n.read("snmp6")) {
		if field := strings.Fields(line); len(field) == 2 && field[0] == name {
			return n.number(field[1])
		}
	}
	require.FailNow(n.tb, "no such counter", name)
	return 0
}

// HalfOpen counts the connections to a port of the namespace, of both IP versions,
// that wait for the last segment of their handshake. Those that the kernel
// remembers in a cookie alone are not among them: see TcpExtSyncookiesSent.
func (n *NetNS) HalfOpen(port uint16) int {
	n.tb.Helper()
	const stateSynReceived = "03"
	suffix := fmt.Sprintf(":%04X", port)
	count := 0
	for _, file := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(n.read(file)) {
			// Number, local address, remote address, state.
			field := strings.Fields(line)
			if len(field) > 3 && strings.HasSuffix(field[1], suffix) && field[3] == stateSynReceived {
				count++
			}
		}
	}
	return count
}

// read returns one of the files with which the kernel describes the network.
func (n *NetNS) read(file string) string {
	n.tb.Helper()
	var text []byte
	require.NoError(n.tb, n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + file)
		return err
	}))
	return string(text)
}

func (n *NetNS) number(text string) int {
	n.tb.Helper()
	value, err := strconv.Atoi(text)
	require.NoError(n.tb, err)
	return value
}
