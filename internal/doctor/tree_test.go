package doctor

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// goodTree is a machine on which every check is content with default options.
var goodTree = map[string]string{
	"/proc/sys/kernel/osrelease":                 "6.1.0-18-amd64\n",
	"/proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
	"/proc/sys/net/core/bpf_jit_enable":          "1\n",
	"/proc/sys/net/core/somaxconn":               "4096\n",
	"/proc/sys/net/core/wmem_max":                "212992\n",
	"/proc/sys/net/ipv4/tcp_max_syn_backlog":     "4096\n",
	"/proc/sys/net/ipv4/tcp_syncookies":          "1\n",
	"/proc/sys/net/ipv4/tcp_mem":                 "1000000\t2000000\t3000000\n",
	"/proc/sys/net/ipv4/ip_local_port_range":     "32768\t60999\n",
	"/proc/sys/net/netfilter/nf_conntrack_max":   "262144\n",
	"/proc/sys/net/netfilter/nf_conntrack_count": "17\n",
	"/proc/sys/fs/nr_open":                       "1048576\n",
	"/proc/sys/fs/file-max":                      "9223372036854775807\n",
	"/proc/self/status": "Name:\twsd\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n" +
		"Seccomp:\t0\nSeccomp_filters:\t0\nCpus_allowed_list:\t0-3\n",
	"/proc/self/uid_map": "         0          0 4294967295\n",
	"/proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units\n" +
		"Max processes             95000                95000                processes\n" +
		"Max open files            65536                1048576              files\n",
	"/proc/self/cgroup":                                  "0::/system.slice/wsd.service\n",
	"/proc/self/mountinfo":                               "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
	"/proc/net/netstat":                                  "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 0 0\nIpExt: InNoRoutes\nIpExt: 3\n",
	"/proc/sys/net/mptcp/enabled":                        "1\n",
	"/sys/class/net/lo/mtu":                              "65536\n",
	"/sys/class/net/eth0/device/vendor":                  "0x1d0f\n",
	"/sys/class/net/eth0/queues/rx-0/rps_cpus":           "0\n",
	"/sys/class/net/eth0/queues/rx-1/rps_cpus":           "0\n",
	"/sys/class/net/eth0/queues/rx-2/rps_cpus":           "0\n",
	"/sys/class/net/eth0/queues/rx-3/rps_cpus":           "0\n",
	"/sys/class/net/eth0/queues/tx-0/xps_cpus":           "3\n",
	"/sys/class/net/eth0/queues/tx-1/xps_cpus":           "c\n",
	"/sys/fs/bpf/.keep":                                  "",
	"/sys/fs/cgroup/system.slice/wsd.service/cpu.max":    "max 100000\n",
	"/sys/fs/cgroup/system.slice/wsd.service/memory.max": "max\n",
	"/sys/fs/cgroup/system.slice/cpu.max":                "max 100000\n",
	"/sys/fs/cgroup/system.slice/memory.max":             "max\n",
}

// missing as a file's text leaves the file out.
const missing = "\x00missing"

// machine is one fake: the good tree with changes, and system calls that say
// what the fields say.
type machine struct {
	files    map[string]string
	magic    int64
	writable error
	reach    error
	load     error
	options  Options
	driver   string // Of eth0.
	counters map[string]uint64
	unsynced bool
	clock    error
}

// examine runs every check on the fake and returns the named one's result.
func (m machine) examine(tb testing.TB, check string) Result {
	tb.Helper()
	for _, result := range m.report(tb).Results {
		if result.Check == check {
			return result
		}
	}
	tb.Fatalf("no check is called %q", check)
	return Result{}
}

func (m machine) report(tb testing.TB) Report {
	tb.Helper()
	root := tb.TempDir()
	files := maps.Clone(goodTree)
	maps.Copy(files, m.files)
	for path, text := range files {
		if text == missing {
			continue
		}
		path = filepath.Join(root, path)
		require.NoError(tb, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(tb, os.WriteFile(path, []byte(text), 0o644))
	}
	if m.driver != "" {
		require.NoError(tb, os.Symlink("../../../bus/pci/drivers/"+m.driver, filepath.Join(root, "/sys/class/net/eth0/device/driver")))
	}
	if m.magic == 0 {
		m.magic = unix.BPF_FS_MAGIC
	}
	o := m.options
	o.Root = root
	o.System = System{
		FileSystem: func(string) (int64, error) { return m.magic, nil },
		Writable:   func(string) error { return m.writable },
		Reach:      func() error { return m.reach },
		Load:       func(int, int) error { return m.load },
		Counters:   func(string) (map[string]uint64, error) { return m.counters, nil },

		Synchronized: func() (bool, error) { return !m.unsynced, m.clock },
	}
	return Run(context.Background(), o)
}
