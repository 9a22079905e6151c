package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

const (
	acceptBacklogMin = 4096 // clients per shard that may wait for one turn of its loop
	synBacklogMin    = 4096
	// A client that never reads costs the kernel this much of what SO_SNDBUF
	// asks for: it doubles the figure and adds its own bookkeeping (85 KB
	// measured at 32 KiB).
	stalledPerSendBuffer = 2.6
)

// atLeast is the common shape: one number in one file, a floor, a sysctl.
func (in *inspector) atLeast(check, key string, floor uint64, why string) Result {
	r := Result{Check: check, Wanted: fmt.Sprintf("%d or more, %s", floor, why)}
	value, err := in.number("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	r.Found = fmt.Sprintf("%s is %d", key, value)
	if value < floor {
		r.Status, r.Remedy = Warn, fmt.Sprintf("sysctl -w %s=%d", key, floor)
	}
	return r
}

func (in *inspector) acceptBacklog() Result {
	return in.atLeast("accept backlog", "net.core.somaxconn", acceptBacklogMin, "so that a burst of clients waits instead of being refused")
}

// synBacklog matters only without SYN cookies: with them the listener's own
// backlog is the limit.
func (in *inspector) synBacklog() Result {
	r := in.atLeast("SYN backlog", "net.ipv4.tcp_max_syn_backlog", synBacklogMin, "unless SYN cookies are on")
	cookies, err := in.read("/proc/sys/net/ipv4/tcp_syncookies")
	if err == nil && cookies != "0" && r.Status == Warn && r.Remedy != "" {
		r.Status, r.Remedy = OK, ""
		r.Found += ", SYN cookies are on"
	}
	return r
}

func (in *inspector) sendBuffer() Result {
	r := Result{Check: "send buffer", Wanted: fmt.Sprintf("net.core.wmem_max at %d or more, as client.kernel_send_buffer asks", in.SendBuffer)}
	value, err := in.number("/proc/sys/net/core/wmem_max")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Older kernels show it in the first network namespace only; their
		// default is above every sensible buffer.
		r.Found, r.Wanted = "net.core.wmem_max is not to be seen from this network namespace", ""
	case err != nil:
		r.Status, r.Found = Warn, unreadable(err)
	default:
		r.Found = fmt.Sprintf("net.core.wmem_max is %d", value)
		if value < uint64(in.SendBuffer) {
			r.Status, r.Remedy = Warn, fmt.Sprintf("sysctl -w net.core.wmem_max=%d", in.SendBuffer)
		}
	}
	return r
}

// tcpMemory compares the machine's limit with every client stalled at once.
func (in *inspector) tcpMemory() Result {
	worst := uint64(float64(in.Connections) * float64(in.SendBuffer) * stalledPerSendBuffer)
	pages := worst/uint64(os.Getpagesize()) + 1
	r := Result{Check: "TCP memory", Wanted: fmt.Sprintf("%s, if all %d clients stop reading", size(worst), in.Connections)}
	text, err := in.read("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
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
	r.Found = fmt.Sprintf("pressure begins at %s (net.ipv4.tcp_mem)", size(pressure*uint64(os.Getpagesize())))
	if pressure < pages {
		r.Status = Warn
		r.Remedy = fmt.Sprintf(`sysctl -w net.ipv4.tcp_mem="%d %d %d", or a smaller --client.kernel-send-buffer`, pages*3/4, pages, pages*3/2)
	}
	return r
}

// conntrack: without room in the table the kernel drops new connections, and
// says so only in its log.
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
	// 0 means no limit.
	if limit != 0 && limit < count+uint64(in.Connections) {
		r.Status = Warn
		r.Remedy = fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, or do not track the client port: iptables -t raw -A PREROUTING -p tcp --dport PORT -j CT --notrack", 2*(count+uint64(in.Connections)))
	}
	return r
}

// localPorts concerns whoever dials from this machine: a source address has
// that many connections to one listening address, whatever the server can hold.
func (in *inspector) localPorts() Result {
	r := Result{Check: "local ports", Wanted: fmt.Sprintf("%d or more, only if a load generator here dials one address from one address", in.Connections)}
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
		r.Remedy = `sysctl -w net.ipv4.ip_local_port_range="1024 65535", or dial several addresses`
	}
	return r
}

// size prints bytes in the unit an operator thinks in.
func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
