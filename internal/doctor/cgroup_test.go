package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// v1 is a machine with version 1 controllers beside an empty unified tree, as
// Debian's "hybrid" layout and this project's own test machine have it.
func v1(changes map[string]string) map[string]string {
	files := map[string]string{
		"/proc/self/cgroup": "5:memory:/docker/c1\n3:cpu,cpuacct:/docker/c1\n1:name=systemd:/docker/c1\n0::/\n",
		"/proc/self/mountinfo": "30 29 0:31 / /sys/fs/cgroup/memory rw shared:4 - cgroup cgroup rw,memory\n" +
			"31 29 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"32 29 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		"/sys/fs/cgroup/cpu/docker/c1/cpu.cfs_quota_us":         "-1\n",
		"/sys/fs/cgroup/cpu/docker/c1/cpu.cfs_period_us":        "100000\n",
		"/sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes": "9223372036854771712\n",
		"/sys/fs/cgroup/memory/docker/memory.limit_in_bytes":    "9223372036854771712\n",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes":           "9223372036854771712\n",
		"/sys/fs/cgroup/unified/cgroup.procs":                   "1\n",
		"/sys/fs/cgroup/system.slice/wsd.service/cpu.max":       missing,
		"/sys/fs/cgroup/system.slice/wsd.service/memory.max":    missing,
		"/sys/fs/cgroup/system.slice/cpu.max":                   missing,
		"/sys/fs/cgroup/system.slice/memory.max":                missing,
	}
	for path, text := range changes {
		files[path] = text
	}
	return files
}

func TestCgroups(t *testing.T) {
	const group = "/sys/fs/cgroup/system.slice/wsd.service"
	for _, c := range []struct {
		name, check string
		files       map[string]string
		want        Status
		found       string
		remedy      string
	}{
		{name: "v2 quota", check: "CPU", files: map[string]string{group + "/cpu.max": "150000 100000\n"},
			want: Warn, found: "4 CPUs, quota 1.50 CPUs", remedy: "--cpuset-cpus 0 "},
		{name: "v2 quota of a group above", check: "CPU", files: map[string]string{"/sys/fs/cgroup/system.slice/cpu.max": "50000 100000\n", group + "/cpu.max": "200000 100000\n"},
			want: Warn, found: "quota 0.50 CPUs", remedy: "AllowedCPUs=0 "},
		{name: "v2 quota of all CPUs", check: "CPU", files: map[string]string{group + "/cpu.max": "400000 100000\n"},
			want: OK, found: "quota 4.00 CPUs"},
		{name: "v2 quota malformed", check: "CPU", files: map[string]string{group + "/cpu.max": "fast\n"},
			want: Warn, found: "cpu.max"},
		{name: "v2 period zero", check: "CPU", files: map[string]string{group + "/cpu.max": "1 0\n"},
			want: Warn, found: "period"},
		{name: "v2 quota not a number", check: "CPU", files: map[string]string{group + "/cpu.max": "x 100000\n"},
			want: Warn, found: `"x"`},
		{name: "v2 in a container's own namespace", check: "CPU", files: map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "100000 100000\n"},
			want: Warn, found: "quota 1.00 CPUs", remedy: "--cpuset-cpus 0 "},
		{name: "v2 part of the tree mounted", check: "CPU",
			files: map[string]string{
				"/proc/self/cgroup":      "0::/docker/c1/inner\n",
				"/proc/self/mountinfo":   "29 22 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
				"/sys/fs/cgroup/cpu.max": "max 100000\n",
				group + "/cpu.max":       "1 100000\n",
			},
			want: OK, found: "no quota"},
		{name: "v2 another's part mounted", check: "memory",
			files: map[string]string{
				"/proc/self/cgroup":         "0::/docker/c10\n",
				"/proc/self/mountinfo":      "29 22 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
				"/sys/fs/cgroup/memory.max": "1048576\n",
			},
			want: Warn, found: "cgroup limit 1024 KiB", remedy: "--memory"},
		{name: "v1 none", check: "CPU", files: v1(nil), want: OK, found: "4 CPUs, no quota"},
		{name: "v1 quota", check: "CPU", files: v1(map[string]string{"/sys/fs/cgroup/cpu/docker/c1/cpu.cfs_quota_us": "250000\n"}),
			want: Warn, found: "quota 2.50 CPUs", remedy: "--cpuset-cpus 0-1"},
		{name: "v1 without period", check: "CPU", files: v1(map[string]string{"/sys/fs/cgroup/cpu/docker/c1/cpu.cfs_quota_us": "250000\n", "/sys/fs/cgroup/cpu/docker/c1/cpu.cfs_period_us": missing}),
			want: Warn, found: "cpu.cfs_period_us"},
		{name: "no cgroups", check: "CPU", files: map[string]string{"/proc/self/mountinfo": "22 1 0:20 / /proc rw - proc proc rw\nshort - line\n"},
			want: OK, found: "no quota"},
		{name: "mountinfo missing", check: "CPU", files: map[string]string{"/proc/self/mountinfo": missing},
			want: Warn, found: "mountinfo"},
		{name: "cgroup file missing", check: "CPU", files: map[string]string{"/proc/self/cgroup": missing},
			want: Warn, found: "not readable"},
		{name: "status missing", check: "CPU", files: map[string]string{"/proc/self/status": missing},
			want: Warn, found: "not readable"},
		{name: "CPU list malformed", check: "CPU", files: map[string]string{"/proc/self/status": "Cpus_allowed_list:\t3-1\n"},
			want: Warn, found: "backwards"},

		{name: "v2 limit", check: "memory", files: map[string]string{group + "/memory.max": "268435456\n"},
			want: Warn, found: "cgroup limit 256 MiB", remedy: "--memory"},
		{name: "v2 limit of a group above", check: "memory", files: map[string]string{"/sys/fs/cgroup/system.slice/memory.max": "104857600\n", group + "/memory.max": "8589934592\n"},
			want: Warn, found: "cgroup limit 100 MiB", remedy: "MemoryMax="},
		{name: "v2 enough", check: "memory", files: map[string]string{group + "/memory.max": "17179869184\n"},
			want: OK, found: "cgroup limit 16 GiB"},
		{name: "v2 limit malformed", check: "memory", files: map[string]string{group + "/memory.max": "lots\n"},
			want: Warn, found: "lots"},
		{name: "v1 none", check: "memory", files: v1(nil), want: OK, found: "no cgroup limit"},
		{name: "v1 limit", check: "memory", files: v1(map[string]string{"/sys/fs/cgroup/memory/docker/memory.limit_in_bytes": "134217728\n"}),
			want: Warn, found: "cgroup limit 128 MiB", remedy: "MemoryMax="},

		{name: "v2 nearly full", check: "admission", files: map[string]string{group + "/memory.max": "1073741824\n", group + "/memory.current": "1000000000\n"},
			want: Warn, found: "93 % of 1024 MiB memory in use", remedy: "admission.memory_high (80)"},
		{name: "v2 full of files", check: "admission", files: map[string]string{group + "/memory.max": "1073741824\n", group + "/memory.current": "1000000000\n", group + "/memory.stat": "inactive_file 900000000\n"},
			want: OK, found: "9 % of 1024 MiB memory in use; the kernel refuses with a reset"},
		{name: "no limit", check: "admission", want: OK, found: "no memory limit; the kernel refuses"},
		{name: "v2 unreadable", check: "admission", files: map[string]string{group + "/memory.max": "1073741824\n", group + "/memory.current": "many\n"},
			want: Warn, found: "memory.current"},
	} {
		t.Run(c.check+"/"+c.name, func(t *testing.T) {
			got := machine{files: c.files}.examine(t, c.check)
			require.Equal(t, c.want, got.Status, "%+v", got)
			require.Contains(t, got.Found, c.found)
			if c.remedy == "" {
				require.Empty(t, got.Remedy)
			}
			require.Contains(t, got.Remedy, c.remedy)
		})
	}
}

func TestCountCPUs(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-1,4,6-7": 5, "127": 1} {
		got, err := countCPUs(list)
		require.NoError(t, err)
		require.Equal(t, want, got, list)
	}
	for _, list := range []string{"", "a", "1-b", "4-2"} {
		_, err := countCPUs(list)
		require.Error(t, err, list)
	}
}
