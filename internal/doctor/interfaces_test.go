package doctor

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInterfaces(t *testing.T) {
	const eth0 = "/sys/class/net/eth0"
	six := map[string]string{"/proc/self/status": "CapEff:\t000001ffffffffff\nSeccomp:\t0\nCpus_allowed_list:\t0-5\n"}
	noCard := map[string]string{}
	for path := range goodTree {
		if strings.HasPrefix(path, eth0) {
			noCard[path] = missing
		}
	}
	with := func(changes ...map[string]string) map[string]string {
		files := map[string]string{}
		for _, m := range changes {
			for path, text := range m {
				files[path] = text
			}
		}
		return files
	}
	mounted := func(options string) map[string]string {
		return map[string]string{"/proc/self/mountinfo": goodTree["/proc/self/mountinfo"] + "40 22 0:40 / /sys/fs/bpf rw - bpf bpf " + options + "\n"}
	}
	kernel := func(release string) map[string]string {
		return map[string]string{"/proc/sys/kernel/osrelease": release}
	}
	testChecks(t, []checkCase{
		{name: "a queue for each CPU", check: "NIC queues", want: OK, found: "eth0 has 4 receive queues for 4 CPUs"},
		{name: "fewer queues than CPUs", check: "NIC queues", machine: machine{files: six}, want: Warn, found: "4 receive queues for 6 CPUs", remedy: "ethtool -L eth0 combined 6"},
		{name: "RPS", check: "NIC queues", machine: machine{files: with(six, map[string]string{
			eth0 + "/queues/rx-0/rps_cpus": "3f", eth0 + "/queues/rx-1/rps_cpus": "3f", eth0 + "/queues/rx-2/rps_cpus": "3f", eth0 + "/queues/rx-3/rps_cpus": "0000003f",
		})}, want: OK, found: "spread by RPS"},
		{name: "no card", check: "NIC queues", machine: machine{files: noCard}, want: OK, found: "no network card"},
		{name: "XPS", check: "transmit queues", want: OK, found: "2 transmit queues"},
		{name: "no XPS", check: "transmit queues", machine: machine{files: map[string]string{eth0 + "/queues/tx-1/xps_cpus": "00000000,00000000"}}, want: Warn, found: "of which 1 belong to no CPU", remedy: "xps_cpus"},
		{name: "no card", check: "transmit queues", machine: machine{files: noCard}, want: OK, found: "no network card"},
		{name: "another driver", check: "network allowance", machine: machine{driver: "virtio_net"}, want: OK, found: "no network card here"},
		{name: "within", check: "network allowance", machine: machine{driver: "ena", counters: map[string]uint64{"pps_allowance_exceeded": 0}}, want: OK, found: "nothing was held back"},
		{name: "over", check: "network allowance", machine: machine{driver: "ena", counters: map[string]uint64{"conntrack_allowance_exceeded": 7}}, want: Warn, found: "eth0 conntrack_allowance_exceeded 7", remedy: "security group"},
		{name: "on", check: "MPTCP", want: OK, found: "fall back"},
		{name: "off", check: "MPTCP", machine: machine{files: map[string]string{"/proc/sys/net/mptcp/enabled": "0"}}, want: OK, found: "off"},
		{name: "none", check: "MPTCP", machine: machine{files: map[string]string{"/proc/sys/net/mptcp/enabled": missing}}, want: OK, found: "not supported"},
		{name: "none", check: "listen overflows", want: OK, found: "0 overflows"},
		{name: "some", check: "listen overflows", machine: machine{files: map[string]string{"/proc/net/netstat": "TcpExt: ListenOverflows ListenDrops\nTcpExt: 12 14\n"}}, want: Warn, found: "12 overflows, 14 drops", remedy: "somaxconn"},
		{name: "not counted", check: "listen overflows", machine: machine{files: map[string]string{"/proc/net/netstat": "IpExt: A\nIpExt: 1\n"}}, want: OK, found: "not counted"},
		{name: "missing", check: "listen overflows", machine: machine{files: map[string]string{"/proc/net/netstat": missing}}, want: Warn, found: "not readable"},
		{name: "tracked", check: "conntrack", machine: machine{files: map[string]string{"/proc/net/nf_conntrack": "ipv4 2 tcp 6 431999 ESTABLISHED src=192.0.2.1 dst=192.0.2.2 sport=40000 dport=8000 src=192.0.2.2\n"}}, want: OK, found: "port 8000 are tracked"},
		{name: "old kernel", check: "BPF token", machine: machine{files: kernel("6.8.1")}, want: OK, found: "kernels before 6.9 have none"},
		{name: "not delegated", check: "BPF token", machine: machine{files: with(kernel("6.18.0"), mounted("rw,mode=700"))}, want: OK, found: "none is delegated"},
		{name: "delegated", check: "BPF token", machine: machine{files: mounted("rw,delegate_cmds=any,delegate_maps=any,delegate_progs=any,delegate_attachs=any")}, want: OK, found: "/sys/fs/bpf delegates"},
		{name: "in part", check: "BPF token", machine: machine{files: mounted("rw,delegate_cmds=any")}, want: Warn, found: "delegate_cmds=any", remedy: "delegate_attachs=cgroup_inet_ingress:sk_reuseport_select_or_migrate"},
		{name: "what wsd needs", check: "BPF token", machine: machine{files: mounted("rw,delegate_cmds=map_create:prog_load:btf_load,delegate_maps=array:percpu_array:lru_hash:lpm_trie:reuseport_sockarray,delegate_progs=socket_filter:sk_reuseport,delegate_attachs=cgroup_inet_ingress:sk_reuseport_select_or_migrate")}, want: OK, found: "delegates bpf()"},
		{name: "other programs", check: "BPF token", machine: machine{files: mounted("rw,delegate_cmds=any,delegate_maps=any,delegate_progs=xdp:unspec,delegate_attachs=any")}, want: Warn, found: "xdp", remedy: "mount the bpffs with delegate_progs=socket_filter:sk_reuseport"},
		{name: "as a number", check: "BPF token", machine: machine{files: mounted("rw,delegate_cmds=0x21,delegate_maps=any,delegate_progs=any,delegate_attachs=any")}, want: OK, found: "0x21"},
		{name: "version 2", check: "cgroups", want: OK, found: "version 2"},
		{name: "version 1", check: "cgroups", machine: machine{files: v1(nil)}, want: OK, found: "version 1"},
		{name: "none", check: "cgroups", machine: machine{files: map[string]string{"/proc/self/mountinfo": "22 1 0:20 / /proc rw - proc proc rw\n"}}, want: Warn, found: "no cgroup", remedy: "limits.memory"},
		{name: "user namespace with a token", check: "capabilities", machine: machine{files: with(map[string]string{"/proc/self/uid_map": "0 1000 1\n"}, mounted("rw,delegate_cmds=any,delegate_maps=any,delegate_progs=any,delegate_attachs=any"))}, want: OK, found: "with a BPF token"},
	})
}

func TestMask(t *testing.T) {
	for cpus, want := range map[int]string{1: "1", 4: "f", 32: "ffffffff", 33: "1,ffffffff", 64: "ffffffff,ffffffff"} {
		require.Equal(t, want, mask(cpus))
	}
}

// The driver of this machine's card is asked in earnest, whatever it counts.
func TestCounters(t *testing.T) {
	cards, err := (&inspector{}).nics()
	if err != nil || len(cards) == 0 {
		t.Skip("no network card is visible here")
	}
	got, err := counters(cards[0].name)
	require.NoError(t, err)
	for name := range got {
		require.NotEmpty(t, name)
	}
	_, err = counters("none-such")
	require.ErrorContains(t, err, "none-such")
}

// The script sets what is wrong, and nothing else. A shell can read it, also if the machine's files hold odd text.
func TestScript(t *testing.T) {
	r := machine{files: map[string]string{
		"/proc/sys/net/core/somaxconn":               "128\n",
		"/proc/sys/net/ipv4/tcp_mem":                 "100 200 300\n",
		"/proc/sys/kernel/unprivileged_bpf_disabled": "x'\n$(reboot)\n",
		"/proc/self/limits":                          "Max open files            1024                 4096                 files\n",
	}}.report(t)
	var out bytes.Buffer
	require.NoError(t, r.Script(&out))
	script := out.String()
	require.Contains(t, script, "\nsysctl -w net.core.somaxconn=4096\n")
	require.Contains(t, script, "\nnet.core.somaxconn = 4096\n")
	require.Regexp(t, `\nsysctl -w net\.ipv4\.tcp_mem="\d+ \d+ \d+"\n`, script)
	require.Contains(t, script, "#   open files: limit 1024")
	require.NotContains(t, script, "\n$(reboot)")
	require.NotContains(t, script, "wmem_max")
	check := exec.CommandContext(context.Background(), "sh", "-n")
	check.Stdin, check.Stderr = strings.NewReader(script), os.Stderr
	require.NoError(t, check.Run())

	out.Reset()
	require.NoError(t, machine{}.report(t).Script(&out))
	require.Contains(t, out.String(), "nothing that a script could set")
	require.NotContains(t, out.String(), "sysctl")
}
