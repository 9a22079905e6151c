package listen

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Holder is the process that listens where we would.
type Holder struct {
	Address string // It listens on; empty if no listener is to be seen.
	PID     int    // 0 if its descriptors may not be read.
	Command string // Its command line, cut; empty without PID.
	UID     int    // Who owns the socket.
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process of uid %d, listening on %s (run as root to see which)", h.UID, h.Address)
	}
	return fmt.Sprintf("pid %d (%s), listening on %s", h.PID, h.Command, h.Address)
}

// commandMax is how much of a command line a message shows, in bytes.
const commandMax = 80

// findHolder looks for a listener that overlaps want. It reads all of /proc, and
// is for an error's text alone.
func findHolder(want *net.TCPAddr) Holder {
	for _, table := range []string{"/proc/self/net/tcp6", "/proc/self/net/tcp"} {
		for _, s := range listeners(table) {
			if !overlaps(want, s.address) {
				continue
			}
			h := Holder{Address: s.address.String(), UID: s.uid}
			h.PID = processOf(s.inode)
			if h.PID != 0 {
				h.Command = commandOf(h.PID)
			}
			return h
		}
	}
	return Holder{}
}

// listener is a line of /proc/net/tcp or tcp6.
type listener struct {
	address netip.AddrPort
	uid     int
	inode   string
}

func listeners(table string) []listener {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []listener
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if l, ok := parseListener(lines.Text()); ok {
			list = append(list, l)
		}
	}
	return list
}

// parseListener reads a line: number, local address, remote address, state, two
// queues, timer, retransmits, uid, timeout, inode.
func parseListener(line string) (l listener, ok bool) {
	const stateListen = "0A"
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != stateListen {
		return l, false
	}
	host, port, found := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(host)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || errPort != nil || len(raw)%4 != 0 {
		return l, false
	}
	// The kernel prints each 32-bit word as the machine reads it: little-endian.
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return l, false
	}
	uid, err := strconv.Atoi(f[7])
	if err != nil {
		return l, false
	}
	return listener{address: netip.AddrPortFrom(a, uint16(n)), uid: uid, inode: f[9]}, true
}

// overlaps tells whether a listener takes connections that want would get. The
// IPv6 wildcard is taken for both families: a message is better with a doubt
// than without a name.
func overlaps(want *net.TCPAddr, has netip.AddrPort) bool {
	if want.Port != int(has.Port()) {
		return false
	}
	mine, ok := netip.AddrFromSlice(want.IP)
	if !ok {
		return true // No host: everything.
	}
	mine, theirs := mine.Unmap(), has.Addr().Unmap()
	switch {
	case theirs == netip.IPv6Unspecified(), mine == netip.IPv6Unspecified():
		return true
	case theirs == netip.IPv4Unspecified(), mine == netip.IPv4Unspecified():
		return mine.Is4() && theirs.Is4()
	}
	return mine == theirs
}

// processOf finds the process with a descriptor of the socket, or 0.
func processOf(inode string) int {
	link := "socket:[" + inode + "]"
	// Two of three wildcards match by name alone; what may not be read is left out.
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != link {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
		if err == nil {
			return pid
		}
	}
	return 0
}

func commandOf(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	b, err := os.ReadFile(dir + "/cmdline")
	text := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	if err != nil || text == "" {
		b, _ = os.ReadFile(dir + "/comm")
		text = strings.TrimSpace(string(b))
	}
	if len(text) > commandMax {
		text = strings.ToValidUTF8(text[:commandMax], "") + "…"
	}
	return text
}
