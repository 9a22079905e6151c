package admission

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recorded makes a cgroup tree of version 2 and a /proc with the given texts.
type recorded struct {
	t    *testing.T
	root string
}

func record(t *testing.T) recorded {
	t.Helper()
	r := recorded{t, t.TempDir()}
	for name, text := range map[string]string{
		"cg/cgroup.controllers": "cpu memory\n", "cg/cpu.max": "max 100000\n", "cg/cpu.stat": "usage_usec 0\n",
		"cg/memory.max": "max\n", "cg/memory.current": "0\n", "cg/memory.stat": "inactive_file 0\n",
		"proc/sys/net/ipv4/tcp_mem": "100 200 1000\n", "proc/self/net/sockstat": "sockets: used 5\nTCP: inuse 3 orphan 0 tw 4 alloc 9 mem 250\n",
	} {
		r.write(name, text)
	}
	return r
}

func (r recorded) write(name, text string) {
	r.t.Helper()
	name = filepath.Join(r.root, name)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(r.t, os.WriteFile(name, []byte(text), 0o600))
}

func (r recorded) open() *machine {
	r.t.Helper()
	m, err := newMachine(filepath.Join(r.root, "cg"))
	require.NoError(r.t, err)
	m.procRoot = r.root
	return m
}

func TestMachine(t *testing.T) {
	r := record(t)
	m := r.open()
	now := time.Now()
	step := func() usage {
		now = now.Add(Interval)
		u, err := m.read(now)
		require.NoError(t, err)
		return u
	}
	u := step()
	require.Zero(t, u.cpuAble, "there is nothing to compare with")
	require.Zero(t, u.memory)
	require.Equal(t, Memory{Used: 250 * uint64(os.Getpagesize()), Max: 1000 * uint64(os.Getpagesize())}, u.tcp)
	require.InDelta(t, 0.25, u.tcp.Share(), 1e-9)

	// Own CPU time counts where there is no quota.
	was := ownCPUTime()
	for ownCPUTime() < was+2*time.Millisecond {
	}
	u = step()
	require.GreaterOrEqual(t, u.cpuUsed, 2*time.Millisecond)

	// Limits are read again once a second, the use of them each time.
	r.write("cg/cpu.max", "50000 100000\n")
	r.write("cg/cpu.stat", "nr_periods 1\nusage_usec 1000000\n")
	r.write("cg/memory.max", "1000\n")
	r.write("cg/memory.current", "900\n")
	for range refreshEvery - 2 {
		u = step()
	}
	require.Zero(t, u.memory)
	u = step()
	require.Equal(t, Memory{Used: 900, Max: 1000}, u.memory)
	require.InDelta(t, 0.5, m.cpus, 0)
	require.Equal(t, Interval/2, u.cpuAble)
	require.Less(t, u.cpuUsed, Interval, "CPU time that the group used before is not from now")

	// All processes of the group use up its quota.
	r.write("cg/cpu.stat", "usage_usec 1045000\n")
	r.write("cg/memory.stat", "inactive_file 400\n")
	u = step()
	require.InDelta(t, 45*time.Millisecond, u.cpuUsed, float64(time.Millisecond))
	require.Equal(t, Memory{Used: 500, Max: 1000}, u.memory)
}

// What cannot be read is said, and the rest still counts.
func TestMachineUnreadable(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"cg/cpu.max", "fast\n", "cpu.max"},
		{"cg/memory.max", "lots\n", "memory.max"},
		{"cg/memory.current", "x\n", "memory.current"},
		{"proc/sys/net/ipv4/tcp_mem", "1 2\n", "is not three numbers"},
		{"proc/sys/net/ipv4/tcp_mem", "1 2 x\n", "tcp_mem"},
		{"proc/self/net/sockstat", "UDP: mem 5\n", "the memory of TCP is missing"},
		{"proc/self/net/sockstat", "TCP: inuse 1 mem\n", "the memory of TCP is missing"},
		{"proc/self/net/sockstat", "TCP: mem -3\n", "sockstat"},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := record(t)
			r.write("cg/memory.max", "1000\n")
			r.write("cg/memory.current", "900\n")
			r.write(c.file, c.text)
			m := r.open()
			_, err := m.read(time.Now())
			require.ErrorContains(t, err, c.want)
			require.Positive(t, m.cpus)
		})
	}
	// A network namespace may not show the limit of TCP memory.
	r := record(t)
	require.NoError(t, os.Remove(filepath.Join(r.root, "proc/sys/net/ipv4/tcp_mem")))
	u, err := r.open().read(time.Now())
	require.NoError(t, err)
	require.Zero(t, u.tcp)

	_, err = New(Options{CgroupRoot: t.TempDir()})
	require.ErrorContains(t, err, "is not a cgroup tree")
}

// The real machine can be read.
func TestRealMachine(t *testing.T) {
	m, err := newMachine("")
	require.NoError(t, err)
	now := time.Now()
	for range 3 {
		_, err = m.read(now)
		require.NoError(t, err)
		now = now.Add(Interval)
	}
	require.Positive(t, m.cpus)
}

func BenchmarkRead(b *testing.B) {
	m, err := newMachine("")
	require.NoError(b, err)
	now := time.Now()
	for b.Loop() {
		now = now.Add(Interval)
		_, _ = m.read(now)
	}
}
