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

// Holder is the process that uses a port.
type Holder struct {
	Address string // Address that it listens on; empty if no listener is visible.
	PID     int    // Process id; 0 if this process may not read it.
	Command string // Command line, shortened; empty without PID.
	UID     int    // User id of the owner of the socket.
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process of uid %d, listening on %s (run as root to see which)", h.UID, h.Address)
	}
	return fmt.Sprintf("pid %d (%s), listening on %s", h.PID, h.Command, h.Address)
}

// commandMax is the maximum length of a command line in a message, in bytes.
const commandMax = 80

// findHolder returns the process with a listener that overlaps want. It reads all of /proc, so it is only for the text
// of an error.
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

// listener is one line of /proc/net/tcp or tcp6.
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

// parseListener reads a line of /proc/net/tcp: number, local address, remote address, state, two queues, timer,
// retransmits, uid, timeout, inode. ok is false unless it is a listener.
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
	// The kernel prints each 32-bit word in the byte order of the machine, which is little-endian.
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

// overlaps reports whether a listener gets connections that want would get. It assumes that the IPv6 wildcard covers
// both families: a message that may name the wrong process is better than one that names none.
func overlaps(want *net.TCPAddr, has netip.AddrPort) bool {
	if want.Port != int(has.Port()) {
		return false
	}
	mine, ok := netip.AddrFromSlice(want.IP)
	if !ok {
		return true // No host means every address.
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

// processOf returns the id of a process that has a descriptor of the socket, or 0 if none is visible.
func processOf(inode string) int {
	link := "socket:[" + inode + "]"
	// Glob leaves out directories that this process may not read.
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
