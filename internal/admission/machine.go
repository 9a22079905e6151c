package admission

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/cgroup"
)

// refreshEvery is how many samples pass between two looks at the limits, which hardly ever change.
const refreshEvery = int(time.Second / Interval)

// machine reads what this process may use and what it has used.
type machine struct {
	procRoot string // Directory that replaces / in paths below /proc, for tests.
	tree     *cgroup.Tree
	reads    int // Calls of read.

	// Limits, from the last refresh.
	cpus   float64 // CPUs that this process may use.
	quotas []cgroup.Quota
	limits []cgroup.MemoryLimit
	tcp    Memory // TCP memory of the machine; it moves slowly against its limit. Zero if unknown.

	// From the last read.
	own   time.Duration   // CPU time of this process.
	group []time.Duration // CPU time of the groups with a quota, in the order of quotas; negative: unknown.
	when  time.Time

	memory Memory // What memoryInUse could read last.
	unread int    // Calls of memoryInUse since then.
}

// newMachine opens the cgroup trees that are mounted, or those below root if that is not empty.
func newMachine(root string) (*machine, error) {
	tree, err := cgroup.Mounted("")
	if root != "" {
		tree, err = cgroup.At(root)
	}
	if err != nil {
		return nil, err
	}
	return &machine{tree: tree}, nil
}

// usage is what read found.
type usage struct {
	cpuUsed time.Duration // CPU time used since the last read.
	cpuAble time.Duration // CPU time that was possible since then.
	memory  Memory        // Of the limit that is closest to its end; zero without a limit.
	tcp     Memory        // Of all TCP sockets of the machine; zero if unknown.
}

// Memory is a part of a limit.
type Memory struct {
	Used uint64 // Bytes in use.
	Max  uint64 // The limit in bytes; 0: there is none.
}

// Share returns which part of the limit is in use, or 0 without a limit.
func (m Memory) Share() float64 {
	if m.Max == 0 {
		return 0
	}
	return float64(m.Used) / float64(m.Max)
}

// read measures since the last call. What cannot be read is left out, and the error says why.
func (m *machine) read(now time.Time) (u usage, err error) {
	if m.reads%refreshEvery == 0 {
		err = m.refresh()
	}
	elapsed := now.Sub(m.when)
	first := m.reads == 0
	m.reads++
	m.when = now

	own := ownCPUTime()
	u.cpuAble = time.Duration(float64(elapsed) * m.cpus)
	u.cpuUsed = own - m.own
	m.own = own
	for i := range m.quotas {
		used, known, readErr := m.quotas[i].Used()
		if readErr != nil || !known {
			err = errors.Join(err, readErr)
			m.group[i] = -1
			continue
		}
		if before := m.group[i]; before >= 0 {
			// The processes of the group share its quota. What others of them use is not left for this one.
			share := float64(used-before) / (m.quotas[i].CPUs * float64(elapsed))
			u.cpuUsed = max(u.cpuUsed, time.Duration(share*float64(u.cpuAble)))
		}
		m.group[i] = used
	}
	if first || elapsed <= 0 {
		u.cpuUsed, u.cpuAble = 0, 0 // There is nothing to compare with.
	}
	var readErr error
	u.memory, readErr = m.memoryInUse()
	u.tcp = m.tcp
	return u, errors.Join(err, readErr)
}

// memoryInUse returns the memory of the limit that is closest to its end. If that cannot be read, the last value stands
// for up to a second, so that one failed read does not end an overload.
func (m *machine) memoryInUse() (closest Memory, err error) {
	for i := range m.limits {
		used, readErr := m.limits[i].Used()
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		if now := (Memory{Used: used, Max: max(1, m.limits[i].Bytes)}); now.Share() >= closest.Share() {
			closest = now
		}
	}
	if err == nil {
		m.memory, m.unread = closest, 0
	} else if m.unread++; m.unread < refreshEvery && m.memory.Share() > closest.Share() {
		return m.memory, err
	}
	return closest, err
}

// refresh reads the limits, and what changes slowly.
func (m *machine) refresh() error {
	quotas, err := m.tree.Quotas()
	if err == nil && !slices.Equal(quotas, m.quotas) {
		m.quotas, m.group = quotas, slices.Repeat([]time.Duration{-1}, len(quotas))
	}
	limits, limitsErr := m.tree.MemoryLimits()
	if limitsErr == nil {
		m.limits = limits
	}
	allowed, affinityErr := allowedCPUs()
	if affinityErr != nil {
		allowed = runtime.NumCPU()
	}
	m.cpus = min(float64(allowed), float64(runtime.GOMAXPROCS(0)), cgroup.Lowest(m.quotas))
	tcp, tcpErr := m.tcpMemory()
	if tcpErr == nil {
		m.tcp = tcp
	}
	return errors.Join(err, limitsErr, affinityErr, tcpErr)
}

// allowedCPUs returns the number of CPUs in the affinity of this process.
func allowedCPUs() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &set); err != nil {
		return 0, fmt.Errorf("read the CPU affinity: %w", err)
	}
	return max(1, set.Count()), nil
}

// ownCPUTime returns the CPU time of all threads of this process, in the kernel and outside of it.
func ownCPUTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) // Cannot fail: the clock exists and t is writable.
	return time.Duration(t.Nano())
}

// tcpMemoryMax returns the third value of net.ipv4.tcp_mem in bytes, or 0 where a network namespace does not show it.
func (m *machine) tcpMemoryMax() (uint64, error) {
	const name = "/proc/sys/net/ipv4/tcp_mem"
	text, err := os.ReadFile(filepath.Join(m.procRoot, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text))
	if len(f) != 3 {
		return 0, fmt.Errorf("read %s: %q is not three numbers", name, strings.TrimSpace(string(text)))
	}
	return pages(name, f[2])
}

// tcpMemory returns the memory of all TCP sockets of the machine and its limit, or zero if the limit is not visible.
func (m *machine) tcpMemory() (tcp Memory, err error) {
	if tcp.Max, err = m.tcpMemoryMax(); err != nil || tcp.Max == 0 {
		return Memory{}, err
	}
	tcp.Used, err = m.tcpMemoryUsed()
	return tcp, err
}

// tcpMemoryUsed returns the memory that the buffers of all TCP sockets of the machine use.
func (m *machine) tcpMemoryUsed() (uint64, error) {
	const name = "/proc/self/net/sockstat"
	text, err := os.ReadFile(filepath.Join(m.procRoot, name))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		if i := slices.Index(f, "mem"); i >= 0 && i+1 < len(f) {
			return pages(name, f[i+1])
		}
	}
	return 0, fmt.Errorf("read %s: the memory of TCP is missing", name)
}

func pages(name, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 50)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n * uint64(os.Getpagesize()), nil //nolint:gosec // A page size is positive.
}
