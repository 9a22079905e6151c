package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

const (
	acceptBacklogMin = 4096 // Clients of one shard that may wait for its next loop turn.
	synBacklogMin    = 4096 // Handshakes that may be in progress at one listener.

	// stalledPerSendBuffer is the kernel memory of a client that does not read, as a multiple of SO_SNDBUF: the kernel
	// doubles the value and adds its own data (85 KB measured with 32 KiB).
	stalledPerSendBuffer = 2.6
)

// atLeast checks that a sysctl is at least lowest.
func (in *inspector) atLeast(check, key string, lowest uint64, why string) Result {
	r := Result{Check: check, Wanted: fmt.Sprintf("%d or more, %s", lowest, why)}
	value, err := in.number("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	r.Found = fmt.Sprintf("%s is %d", key, value)
	if value < lowest {
		r.Status, r.Fix = Warn, []Fix{sysctl(key, lowest)}
		r.Remedy = r.Fix[0].command()
	}
	return r
}

func (in *inspector) acceptBacklog() Result {
	return in.atLeast("accept backlog", "net.core.somaxconn", acceptBacklogMin,
		"so that a burst of clients waits instead of being refused")
}

// synBacklog matters only without SYN cookies. With them the backlog of the listener is the limit.
func (in *inspector) synBacklog() Result {
	r := in.atLeast("SYN backlog", "net.ipv4.tcp_max_syn_backlog", synBacklogMin, "unless SYN cookies are on")
	cookies, err := in.read("/proc/sys/net/ipv4/tcp_syncookies")
	if err == nil && cookies != "0" && r.Status == Warn && r.Remedy != "" {
		r.Status, r.Remedy, r.Fix = OK, "", nil
		r.Found += ", SYN cookies are on"
	}
	return r
}

func (in *inspector) sendBuffer() Result {
	r := Result{Check: "send buffer", Wanted: fmt.Sprintf("net.core.wmem_max at %d or more, as "+
		"client.kernel_send_buffer asks", in.SendBuffer)}
	value, err := in.number("/proc/sys/net/core/wmem_max")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Older kernels show it only in the initial network namespace. Their default is larger than any sensible
		// buffer.
		r.Found, r.Wanted = "net.core.wmem_max is not visible in this network namespace", ""
	case err != nil:
		r.Status, r.Found = Warn, unreadable(err)
	default:
		r.Found = fmt.Sprintf("net.core.wmem_max is %d", value)
		if value < uint64(in.SendBuffer) { //nolint:gosec // The configuration has checked it.
			r.Status, r.Fix = Warn, []Fix{sysctl("net.core.wmem_max", in.SendBuffer)}
			r.Remedy = r.Fix[0].command()
		}
	}
	return r
}

// tcpMemory compares the limit of the machine with the memory needed if no client reads.
func (in *inspector) tcpMemory() Result {
	worst := uint64(float64(in.Connections) * float64(in.SendBuffer) * stalledPerSendBuffer)
	pageSize := uint64(os.Getpagesize()) //nolint:gosec // Positive.
	pages := worst/pageSize + 1
	r := Result{Check: "TCP memory", Wanted: fmt.Sprintf("%s, in case all %d clients stop reading", size(worst),
		in.Connections)}
	text, err := in.read("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		if errors.Is(err, fs.ErrNotExist) {
			r.Remedy = "run wsd doctor outside the container: net.ipv4.tcp_mem counts for the whole machine, and " +
				"only its first network namespace has it"
		}
		return r
	}
	f := strings.Fields(text)
	if len(f) != 3 {
		r.Status, r.Found = Warn, fmt.Sprintf("net.ipv4.tcp_mem is %q", text)
		return r
	}
	pressure, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		r.Status, r.Found = Warn, fmt.Sprintf("net.ipv4.tcp_mem is %q", text)
		return r
	}
	r.Found = fmt.Sprintf("memory pressure begins at %s (net.ipv4.tcp_mem)", size(pressure*pageSize))
	if pressure < pages {
		r.Status = Warn
		r.Fix = []Fix{sysctl("net.ipv4.tcp_mem", fmt.Sprintf("%d %d %d", pages*3/4, pages, pages*3/2))}
		r.Remedy = r.Fix[0].command() + ", or a smaller --client.kernel-send-buffer"
	}
	return r
}

// conntrack checks the room in the connection tracking table. If it is full, the kernel drops new connections, and says
// so only in its log.
func (in *inspector) conntrack() Result {
	r := Result{Check: "conntrack", Wanted: fmt.Sprintf("room for %d clients", in.Connections)}
	limit, err := in.number("/proc/sys/net/netfilter/nf_conntrack_max")
	if errors.Is(err, fs.ErrNotExist) {
		r.Found, r.Wanted = "not loaded", ""
		return r
	}
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	count, err := in.number("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	r.Found = fmt.Sprintf("%d of %d entries in use", count, limit)
	if in.tracked() {
		r.Found += fmt.Sprintf("; the clients of port %d are tracked", in.Port)
	}
	// A limit of 0 means no limit.
	if limit != 0 && limit < count+in.connections() {
		r.Status = Warn
		r.Fix = []Fix{sysctl("net.netfilter.nf_conntrack_max", 2*(count+in.connections()))}
		r.Remedy = fmt.Sprintf("%[1]s, or do not track the client port: iptables -t raw -A PREROUTING -p tcp "+
			"--dport %[2]d -j CT --notrack; iptables -t raw -A OUTPUT -p tcp --sport %[2]d -j CT --notrack",
			r.Fix[0].command(), in.Port)
	}
	return r
}

// conntrackRead is how much of the table of tracked connections is looked at, in bytes.
const conntrackRead = 1 << 20

// tracked reports whether the beginning of the table, which root alone may read, has a connection to the client port.
func (in *inspector) tracked() bool {
	f, err := os.Open(in.under("/proc/net/nf_conntrack"))
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, conntrackRead))
	return err == nil && strings.Contains(string(text), fmt.Sprintf(" dport=%d ", in.Port))
}

// localPorts matters only for clients on this machine: from one local address, only so many connections to one server
// address are possible, whatever the server can hold.
func (in *inspector) localPorts() Result {
	r := Result{Check: "local ports", Wanted: fmt.Sprintf("%d or more, but only for a load generator on this machine "+
		"that uses one address", in.Connections)}
	text, err := in.read("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	var low, high int
	if n, err := fmt.Sscan(text, &low, &high); n != 2 || err != nil || high < low {
		r.Status, r.Found = Warn, fmt.Sprintf("net.ipv4.ip_local_port_range is %q", text)
		return r
	}
	ports := high - low + 1
	r.Found = fmt.Sprintf("%d (%d to %d)", ports, low, high)
	if ports < in.Connections {
		r.Status = Warn
		// No fix: a server needs none.
		r.Remedy = `sysctl -w net.ipv4.ip_local_port_range="1024 65535", or use several addresses`
	}
	return r
}

// size returns a number of bytes in a convenient unit.
func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
