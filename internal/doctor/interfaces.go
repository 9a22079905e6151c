package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nic is a network card as /sys/class/net shows it.
type nic struct {
	name   string
	rx, tx []string // Names of its queues, such as rx-0.
}

// plainName is a name that a shell takes as it is. The kernel allows others.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// fix returns a command that names the card, or nothing if a shell could misread the name.
func (n nic) fix(command string) []Fix {
	if !plainName.MatchString(n.name) {
		return nil
	}
	return []Fix{{Command: command}}
}

// nics returns the network cards, without loopback, bridges and other interfaces that have no device.
func (in *inspector) nics() ([]nic, error) {
	const dir = "/sys/class/net"
	entries, err := os.ReadDir(in.under(dir))
	if err != nil {
		return nil, err
	}
	var list []nic
	for _, entry := range entries {
		base := filepath.Join(dir, entry.Name())
		if _, err := os.Stat(in.under(filepath.Join(base, "device"))); err != nil {
			continue
		}
		queues, err := os.ReadDir(in.under(filepath.Join(base, "queues")))
		if err != nil {
			return nil, err
		}
		n := nic{name: entry.Name()}
		for _, queue := range queues {
			switch {
			case strings.HasPrefix(queue.Name(), "rx-"):
				n.rx = append(n.rx, queue.Name())
			case strings.HasPrefix(queue.Name(), "tx-"):
				n.tx = append(n.tx, queue.Name())
			}
		}
		list = append(list, n)
	}
	return list, nil
}

// queues compares the receive queues of each network card with the CPUs that wsd may use. With fewer queues than CPUs a
// few CPUs do the network work of all, unless the kernel spreads it in software (RPS).
func (in *inspector) queues() Result {
	r := Result{Check: "NIC queues", Wanted: "a receive queue for each CPU, or RPS"}
	cards, err := in.nics()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	cpus, ok := in.cpusAllowed()
	if len(cards) == 0 || !ok {
		r.Found, r.Wanted = "no network card is visible from here", ""
		return r
	}
	var found, remedy []string
	for _, card := range cards {
		unspread := 0
		for _, queue := range card.rx {
			if in.zeroMask(filepath.Join("/sys/class/net", card.name, "queues", queue, "rps_cpus")) {
				unspread++
			}
		}
		text := fmt.Sprintf("%s has %d receive queues for %d CPUs", card.name, len(card.rx), cpus)
		if len(card.rx) < cpus {
			if unspread == 0 {
				text += ", spread by RPS"
			} else {
				r.Status = Warn
				spread := fmt.Sprintf("for q in /sys/class/net/%s/queues/rx-*/rps_cpus; do echo %s >$q; done",
					card.name, mask(cpus))
				remedy = append(remedy, fmt.Sprintf("ethtool -L %s combined %d, or, if the card has no more: %s",
					card.name, cpus, spread))
				r.Fix = append(r.Fix, card.fix(spread)...)
			}
		}
		found = append(found, text)
	}
	r.Found, r.Remedy = strings.Join(found, "; "), strings.Join(remedy, "; ")
	return r
}

// transmit checks XPS: with several transmit queues and no map, every CPU may send on every queue, and they wait for
// each other's locks.
func (in *inspector) transmit() Result {
	r := Result{Check: "transmit queues", Wanted: "each queue belongs to some CPUs (XPS)"}
	cards, err := in.nics()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	var found, remedy []string
	for _, card := range cards {
		unmapped := 0
		for _, queue := range card.tx {
			if in.zeroMask(filepath.Join("/sys/class/net", card.name, "queues", queue, "xps_cpus")) {
				unmapped++
			}
		}
		text := fmt.Sprintf("%s has %d transmit queues", card.name, len(card.tx))
		if len(card.tx) > 1 && unmapped > 0 {
			r.Status = Warn
			text += fmt.Sprintf(", of which %d belong to no CPU", unmapped)
			assign := fmt.Sprintf("n=0; for q in /sys/class/net/%s/queues/tx-*/xps_cpus; do "+
				"printf '%%x' $((1 << n %% 32)) >$q; n=$((n + 1)); done", card.name)
			remedy = append(remedy, assign)
			r.Fix = append(r.Fix, card.fix(assign)...)
		}
		found = append(found, text)
	}
	if len(found) == 0 {
		r.Found, r.Wanted = "no network card is visible from here", ""
		return r
	}
	r.Found, r.Remedy = strings.Join(found, "; "), strings.Join(remedy, "; ")
	return r
}

// zeroMask reports whether a mask of CPUs, such as 00000000,00000000, exists and names none.
func (in *inspector) zeroMask(path string) bool {
	text, err := in.read(path)
	return err == nil && strings.Trim(text, "0,") == ""
}

// mask returns the mask of the first CPUs, as rps_cpus takes it: hexadecimal, a comma before each 8 digits.
func mask(cpus int) string {
	var words []string
	for ; cpus > 0; cpus -= 32 {
		words = append(words, fmt.Sprintf("%08x", uint64(1)<<min(cpus, 32)-1))
	}
	slices.Reverse(words)
	words[0] = strings.TrimLeft(words[0], "0")
	return strings.Join(words, ",")
}

func (in *inspector) cpusAllowed() (int, bool) {
	list, err := in.status("Cpus_allowed_list")
	if err != nil {
		return 0, false
	}
	n, err := countCPUs(list)
	return n, err == nil
}

// allowances are the counters of Amazon's driver ena for packets that were delayed or dropped because they exceeded the
// instance's allowance. Other drivers lack them.
var allowances = []string{
	"bw_in_allowance_exceeded", "bw_out_allowance_exceeded", "pps_allowance_exceeded", "conntrack_allowance_exceeded",
	"linklocal_allowance_exceeded",
}

// allowance looks at what the network of a cloud has held back since the machine started. Nothing else tells of it.
func (in *inspector) allowance() Result {
	r := Result{Check: "network allowance", Wanted: "nothing was held back"}
	cards, err := in.nics()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	var over []string
	counted := false
	for _, card := range cards {
		driver, err := os.Readlink(in.under(filepath.Join("/sys/class/net", card.name, "device/driver")))
		if err != nil || filepath.Base(driver) != "ena" {
			continue
		}
		counters, err := in.System.Counters(card.name)
		if err != nil {
			r.Status, r.Found = Warn, fmt.Sprintf("%s: %v", card.name, err)
			return r
		}
		counted = true
		for _, name := range allowances {
			if n := counters[name]; n > 0 {
				over = append(over, fmt.Sprintf("%s %s %d", card.name, name, n))
			}
		}
	}
	switch {
	case !counted:
		r.Found, r.Wanted = "no network card here counts it", ""
	case len(over) == 0:
		r.Found = "nothing was held back since the start"
	default:
		r.Status, r.Found = Warn, strings.Join(over, ", ")
		r.Remedy = "use a larger instance, or more of them: the cloud delays and drops packets beyond the allowance " +
			"of this one (conntrack: allow the client port to everybody in the security group, so that it " +
			"tracks nothing)"
	}
	return r
}

// mptcp says whether clients may use several paths. wsd listens for TCP alone, so it only reports.
func (in *inspector) mptcp() Result {
	r := Result{Check: "MPTCP"}
	value, err := in.read("/proc/sys/net/mptcp/enabled")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Found = "not supported by this kernel; wsd listens for TCP alone"
	case err != nil:
		r.Status, r.Found = Warn, unreadable(err)
	case value == "0":
		r.Found = "off; wsd listens for TCP alone"
	default:
		r.Found = "on; wsd listens for TCP alone, and clients that offer MPTCP fall back on it"
	}
	return r
}

// overflows looks at how many connections the accept queues could not take since the machine started.
func (in *inspector) overflows() Result {
	r := Result{Check: "listen overflows", Wanted: "no connection was lost because a queue of a listener was full"}
	text, err := in.read("/proc/net/netstat")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	overflows, ok := tcpExt(text, "ListenOverflows")
	if !ok {
		r.Found, r.Wanted = "not counted by this kernel", ""
		return r
	}
	drops, _ := tcpExt(text, "ListenDrops")
	r.Found = fmt.Sprintf("%d overflows, %d drops in this network namespace since its start", overflows, drops)
	if overflows > 0 {
		r.Status = Warn
		r.Remedy = "raise net.core.somaxconn, give wsd more shards or CPU, or limit what arrives " +
			"(steering.limits.source_rate); the counters go back to 0 at the next boot only"
	}
	return r
}

// tcpExt returns a counter of /proc/net/netstat, which has a line of names above each line of values.
func tcpExt(text, name string) (uint64, bool) {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		if i := slices.Index(names, name); i > 0 && i < len(f) {
			n, err := strconv.ParseUint(f[i], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
