package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/steering"
	"wsd/internal/testutil"
)

func TestGoodMachineIsContent(t *testing.T) {
	r := machine{}.report(t)
	for _, result := range r.Results {
		require.Equal(t, OK, result.Status, "%+v", result)
		require.Empty(t, result.Remedy, "%+v", result)
	}
	require.False(t, r.Failed())
}

// checkCase is a machine, and what a check finds there.
type checkCase struct {
	name  string
	check string
	machine
	want   Status
	found  string // a part of it
	remedy string // a part of it; empty: there is none
}

func testChecks(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.check+"/"+c.name, func(t *testing.T) {
			got := c.examine(t, c.check)
			require.Equal(t, c.want, got.Status, "%+v", got)
			require.Contains(t, got.Found, c.found)
			if c.remedy == "" {
				require.Empty(t, got.Remedy)
			}
			require.Contains(t, got.Remedy, c.remedy)
		})
	}
}

func TestChecks(t *testing.T) {
	status := func(capEff, seccomp, cpus string) string {
		return "CapEff:\t" + capEff + "\nSeccomp:\t" + seccomp + "\nCpus_allowed_list:\t" + cpus + "\n"
	}
	const all = "000001ffffffffff"
	off := Options{Steering: "off"}

	testChecks(t, []checkCase{
		{name: "old kernel", check: "kernel", machine: machine{files: map[string]string{"/proc/sys/kernel/osrelease": "5.13.19\n"}},
			want: Fail, found: "5.13.19", remedy: "newer kernel"},
		{name: "oldest that will do", check: "kernel", machine: machine{files: map[string]string{"/proc/sys/kernel/osrelease": "5.14-rc1\n"}},
			want: OK, found: "5.14-rc1"},
		{name: "old kernel without steering", check: "kernel", machine: machine{files: map[string]string{"/proc/sys/kernel/osrelease": "4.19.0\n"}, options: off},
			want: OK, found: "not used"},
		{name: "release that is none", check: "kernel", machine: machine{files: map[string]string{"/proc/sys/kernel/osrelease": "next\n"}},
			want: Warn, found: `"next"`},
		{name: "no proc", check: "kernel", machine: machine{files: map[string]string{"/proc/sys/kernel/osrelease": missing}},
			want: Warn, found: "not readable", remedy: "mount -t proc"},

		{name: "no capability", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": status("0000000000001000", "0", "0")}},
			want: Fail, found: "neither CAP_BPF nor CAP_SYS_ADMIN", remedy: "--cap-add BPF"},
		{name: "no capability without steering", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": status("0", "0", "0")}, options: off},
			want: OK, found: "not used"},
		{name: "CAP_BPF alone", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": status("0000008000000000", "0", "0")}},
			want: OK, found: "CAP_BPF"},
		{name: "CAP_SYS_ADMIN alone", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": status("0000000000200000", "0", "0")}},
			want: OK, found: "without CAP_BPF"},
		{name: "user namespace", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/uid_map": "0 1000 1\n"}},
			want: Fail, found: "user namespace", remedy: "--userns=host"},
		{name: "no CapEff", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": "Name:\twsd\n"}},
			want: Warn, found: "CapEff"},
		{name: "CapEff not a number", check: "capabilities", machine: machine{files: map[string]string{"/proc/self/status": status("many", "0", "0")}},
			want: Warn, found: `"many"`},

		{name: "filter refuses", check: "seccomp", machine: machine{files: map[string]string{"/proc/self/status": status(all, "2", "0")}, reach: fmt.Errorf("call bpf(): %w", unix.EPERM)},
			want: Fail, found: "operation not permitted", remedy: "--cap-add BPF"},
		{name: "filter lets through", check: "seccomp", machine: machine{files: map[string]string{"/proc/self/status": status(all, "2", "0")}},
			want: OK, found: "filtered; bpf() reaches the kernel"},
		{name: "refused without a filter", check: "seccomp", machine: machine{reach: unix.EPERM},
			want: OK, found: "no filter"},
		{name: "no seccomp in the kernel", check: "seccomp", machine: machine{files: map[string]string{"/proc/self/status": "CapEff:\t0\n"}},
			want: OK, found: "not supported by this kernel"},

		{name: "load refused", check: "eBPF program", machine: machine{load: unix.EPERM},
			want: Fail, found: "kernel's hash", remedy: "capabilities and seccomp"},
		{name: "load unknown", check: "eBPF program", machine: machine{load: unix.ENOSYS, options: Options{Steering: "require"}},
			want: Fail, found: "not implemented", remedy: "CONFIG_BPF_SYSCALL"},
		{name: "load otherwise", check: "eBPF program", machine: machine{load: unix.ENOMEM},
			want: Fail, found: "cannot allocate"},
		{name: "verifier refuses", check: "eBPF program", machine: machine{load: errors.Join(steering.ErrVerifier, unix.EACCES)},
			want: Fail, found: "verifier", remedy: "use another kernel"},
		{name: "load without steering", check: "eBPF program", machine: machine{load: unix.EPERM, options: off},
			want: OK, found: "not tried"},

		{name: "everybody may load", check: "unprivileged bpf", machine: machine{files: map[string]string{"/proc/sys/kernel/unprivileged_bpf_disabled": "0\n"}},
			want: Warn, found: "every user", remedy: "sysctl -w kernel.unprivileged_bpf_disabled=2"},
		{name: "unprivileged missing", check: "unprivileged bpf", machine: machine{files: map[string]string{"/proc/sys/kernel/unprivileged_bpf_disabled": missing}},
			want: Warn, found: "not readable"},
		{name: "unprivileged odd", check: "unprivileged bpf", machine: machine{files: map[string]string{"/proc/sys/kernel/unprivileged_bpf_disabled": "x"}},
			want: Warn, found: `"x"`},

		{name: "interpreter", check: "eBPF JIT", machine: machine{files: map[string]string{"/proc/sys/net/core/bpf_jit_enable": "0\n"}},
			want: Warn, found: "interprets", remedy: "sysctl -w net.core.bpf_jit_enable=1"},
		{name: "jit missing", check: "eBPF JIT", machine: machine{files: map[string]string{"/proc/sys/net/core/bpf_jit_enable": missing}},
			want: OK, found: "not visible"},

		{name: "sysfs in place of bpffs", check: "pin directory", machine: machine{magic: unix.SYSFS_MAGIC},
			want: Warn, found: "/sys/fs/bpf is not on a bpffs but on sysfs", remedy: "mount -t bpf bpf /sys/fs/bpf"},
		{name: "another directory not on bpffs", check: "pin directory", machine: machine{magic: unix.TMPFS_MAGIC, options: Options{PinDir: "/run/pins"}},
			want: Warn, found: "tmpfs", remedy: "mount -t bpf bpf /run/pins"},
		{name: "bpffs of root alone", check: "pin directory", machine: machine{writable: fmt.Errorf("write: %w", unix.EACCES)},
			want: Warn, found: "permission denied", remedy: "mkdir -p /sys/fs/bpf/wsd && chown"},
		{name: "bpffs read-only", check: "pin directory", machine: machine{writable: unix.EROFS},
			want: Warn, found: "read-only", remedy: "remount,rw /sys/fs/bpf"},
		{name: "pin directory is a file", check: "pin directory", machine: machine{files: map[string]string{"/sys/fs/bpf/wsd": "x"}},
			want: Warn, found: "not a directory", remedy: "steering.pin_dir"},
		{name: "pin directory exists", check: "pin directory", machine: machine{files: map[string]string{"/sys/fs/bpf/wsd/8000/slots": ""}},
			want: OK, found: "/sys/fs/bpf/wsd is on a bpffs"},
		{name: "pins without steering", check: "pin directory", machine: machine{magic: unix.SYSFS_MAGIC, options: off},
			want: OK, found: "not used"},

		{name: "few files", check: "open files", machine: machine{files: map[string]string{"/proc/self/limits": "Max open files            1024                 4096                 files\n"}},
			want: Fail, found: "limit 1024 (hard 4096)", remedy: "LimitNOFILE=13024"},
		{name: "soft limit is raised", check: "open files", machine: machine{files: map[string]string{"/proc/self/limits": "Max open files            1024                 unlimited            files\n"}},
			want: OK, found: "hard unlimited"},
		{name: "more clients wanted", check: "open files", machine: machine{options: Options{Connections: 2_000_000}},
			want: Fail, found: "1048576", remedy: "2001024"},
		{name: "limits missing", check: "open files", machine: machine{files: map[string]string{"/proc/self/limits": missing}},
			want: Warn, found: "not readable"},
		{name: "limits without the line", check: "open files", machine: machine{files: map[string]string{"/proc/self/limits": "Max processes 1 1\n"}},
			want: Warn, found: "Max open files"},
		{name: "limits not a number", check: "open files", machine: machine{files: map[string]string{"/proc/self/limits": "Max open files few many files\n"}},
			want: Warn, found: "few"},

		{name: "nr_open", check: "open files, machine", machine: machine{files: map[string]string{"/proc/sys/fs/nr_open": "4096\n"}},
			want: Fail, found: "fs.nr_open 4096", remedy: "sysctl -w fs.nr_open=13024"},
		{name: "file-max", check: "open files, machine", machine: machine{files: map[string]string{"/proc/sys/fs/file-max": "8192\n"}},
			want: Fail, found: "fs.file-max 8192", remedy: "sysctl -w fs.file-max=26048"},
		{name: "nr_open missing", check: "open files, machine", machine: machine{files: map[string]string{"/proc/sys/fs/nr_open": missing}},
			want: Warn, found: "nr_open"},
		{name: "file-max missing", check: "open files, machine", machine: machine{files: map[string]string{"/proc/sys/fs/file-max": missing}},
			want: Warn, found: "file-max"},

		{name: "somaxconn", check: "accept backlog", machine: machine{files: map[string]string{"/proc/sys/net/core/somaxconn": "128\n"}},
			want: Warn, found: "net.core.somaxconn is 128", remedy: "sysctl -w net.core.somaxconn=4096"},
		{name: "somaxconn missing", check: "accept backlog", machine: machine{files: map[string]string{"/proc/sys/net/core/somaxconn": missing}},
			want: Warn, found: "not readable"},
		{name: "syn backlog, no cookies", check: "SYN backlog", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_max_syn_backlog": "512\n", "/proc/sys/net/ipv4/tcp_syncookies": "0\n"}},
			want: Warn, found: "512", remedy: "sysctl -w net.ipv4.tcp_max_syn_backlog=4096"},
		{name: "syn backlog, cookies", check: "SYN backlog", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_max_syn_backlog": "512\n"}},
			want: OK, found: "SYN cookies are on"},
		{name: "syn backlog missing", check: "SYN backlog", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_max_syn_backlog": missing}},
			want: Warn, found: "not readable"},

		{name: "wmem_max", check: "send buffer", machine: machine{files: map[string]string{"/proc/sys/net/core/wmem_max": "16384\n"}},
			want: Warn, found: "16384", remedy: "sysctl -w net.core.wmem_max=32768"},
		{name: "wmem_max missing", check: "send buffer", machine: machine{files: map[string]string{"/proc/sys/net/core/wmem_max": missing}},
			want: OK, found: "not visible"},
		{name: "wmem_max odd", check: "send buffer", machine: machine{files: map[string]string{"/proc/sys/net/core/wmem_max": "big"}},
			want: Warn, found: "big"},

		{name: "tcp_mem", check: "TCP memory", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_mem": "100 200 300\n"}},
			want: Warn, found: "net.ipv4.tcp_mem", remedy: "sysctl -w net.ipv4.tcp_mem="},
		{name: "tcp_mem missing", check: "TCP memory", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_mem": missing}},
			want: Warn, found: "not readable", remedy: "outside the container"},
		{name: "tcp_mem short", check: "TCP memory", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_mem": "1 2\n"}},
			want: Warn, found: `"1 2"`},
		{name: "tcp_mem odd", check: "TCP memory", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/tcp_mem": "1 b 3\n"}},
			want: Warn, found: `"1 b 3"`},

		{name: "conntrack full", check: "conntrack", machine: machine{files: map[string]string{"/proc/sys/net/netfilter/nf_conntrack_max": "12000\n"}},
			want: Warn, found: "17 of 12000", remedy: "--notrack"},
		{name: "conntrack without limit", check: "conntrack", machine: machine{files: map[string]string{"/proc/sys/net/netfilter/nf_conntrack_max": "0\n"}},
			want: OK, found: "17 of 0"},
		{name: "conntrack not loaded", check: "conntrack", machine: machine{files: map[string]string{"/proc/sys/net/netfilter/nf_conntrack_max": missing}},
			want: OK, found: "not loaded"},
		{name: "conntrack without count", check: "conntrack", machine: machine{files: map[string]string{"/proc/sys/net/netfilter/nf_conntrack_count": missing}},
			want: Warn, found: "not readable"},
		{name: "conntrack odd", check: "conntrack", machine: machine{files: map[string]string{"/proc/sys/net/netfilter/nf_conntrack_max": "-1"}},
			want: Warn, found: "-1"},

		{name: "few ports", check: "local ports", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": "50000 50099\n"}},
			want: Warn, found: "100 (50000 to 50099)", remedy: `"1024 65535"`},
		{name: "ports missing", check: "local ports", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": missing}},
			want: Warn, found: "not readable"},
		{name: "clock", check: "clock", machine: machine{unsynced: true}, want: Warn, found: "not synchronized", remedy: "chrony"},
		{name: "clock unknown", check: "clock", machine: machine{clock: unix.EPERM}, want: OK, found: "operation not permitted"},
		{name: "clock broken", check: "clock", machine: machine{clock: unix.EFAULT}, want: Warn, found: "bad address", remedy: "chrony"},

		{name: "ports odd", check: "local ports", machine: machine{files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": "9 1"}},
			want: Warn, found: `"9 1"`},
	})
}

// Every check must survive a machine that shows it nothing at all.
func TestEmptyMachine(t *testing.T) {
	gone := map[string]string{}
	for path := range goodTree {
		gone[path] = missing
	}
	r := machine{files: gone, magic: unix.TMPFS_MAGIC, load: unix.ENOSYS, reach: unix.ENOSYS}.report(t)
	require.Len(t, r.Results, len(machine{}.report(t).Results))
	require.True(t, r.Failed())
}

func TestRunStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Empty(t, Run(ctx, Options{}).Results)
}

// The real system calls: whatever this process may do, both must answer, and
// agree with each other.
func TestRealSystem(t *testing.T) {
	s := System{}.orKernel()
	magic, err := s.FileSystem("/proc")
	require.NoError(t, err)
	require.EqualValues(t, unix.PROC_SUPER_MAGIC, magic)
	_, err = s.FileSystem("/proc/does/not/exist")
	require.ErrorIs(t, err, unix.ENOENT)
	require.NoError(t, s.Writable(t.TempDir()))
	require.Error(t, s.Writable("/proc/does/not/exist"))
	if s.Load(1, 0) == nil {
		require.NoError(t, s.Reach(), "a program loads, so bpf() must be in reach")
	}
}

// doctor loads the program that wsd loads. With room for three descriptors a program of a few instructions would load; the
// real one, with its maps, does not.
func TestLoadsTheRealProgram(t *testing.T) {
	testutil.RequireBPF(t)
	require.NoError(t, System{}.orKernel().Load(1, 0))
	next, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(next))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = uint64(next) + 3
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	err = System{}.orKernel().Load(1, 0)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
	require.ErrorContains(t, err, fmt.Sprintf("nofile) is %d", low.Cur))
}

func TestOutputs(t *testing.T) {
	r := Report{Results: []Result{
		{Check: "kernel", Found: "6.1", Wanted: "5.14"},
		{Check: "accept backlog", Status: Warn, Found: "128", Wanted: "4096", Remedy: `sysctl -w a="1 2" && b`},
		{Check: "open files", Status: Fail, Found: "10", Remedy: "ulimit"},
	}}
	var text bytes.Buffer
	require.NoError(t, r.Text(&text))
	require.Equal(t, strings.Join([]string{
		"OK    kernel          6.1 (wanted: 5.14)",
		"WARN  accept backlog  128 (wanted: 4096)",
		`                      remedy: sysctl -w a="1 2" && b`,
		"FAIL  open files      10",
		"                      remedy: ulimit",
		"3 checks: 1 OK, 1 WARN, 1 FAIL",
		"",
	}, "\n"), text.String())

	var out bytes.Buffer
	require.NoError(t, r.JSON(&out))
	require.Contains(t, out.String(), "&& b", "a remedy can be copied as it is")
	var back struct {
		Failed  bool
		Results []map[string]string
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &back))
	require.True(t, back.Failed)
	require.Equal(t, "WARN", back.Results[1]["status"])
	require.Equal(t, []string{"check", "found", "remedy", "status"}, slices.Sorted(maps.Keys(back.Results[2])))

	_, closed := io.Pipe()
	require.NoError(t, closed.Close())
	require.ErrorIs(t, r.Text(closed), io.ErrClosedPipe)
	require.ErrorIs(t, r.JSON(closed), io.ErrClosedPipe)
}
