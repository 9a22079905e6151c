package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
)

// testdata/v2 is the top of the tree as a container of Docker sees it: --cpus 1.5 --memory 256m.
func TestRecordedV2(t *testing.T) {
	tree, err := At("testdata/v2")
	require.NoError(t, err)
	quotas, err := tree.Quotas()
	require.NoError(t, err)
	require.Len(t, quotas, 1)
	require.InDelta(t, 1.5, Lowest(quotas), 0)
	used, ok, err := quotas[0].Used()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 8412734*time.Microsecond, used)

	limits, err := tree.MemoryLimits()
	require.NoError(t, err)
	lowest, ok := LowestMemory(limits)
	require.True(t, ok)
	require.EqualValues(t, 256<<20, lowest)
	bytes, err := limits[0].Used()
	require.NoError(t, err)
	require.EqualValues(t, 91312128-13107200, bytes, "files that nobody has used lately do not count")
}

// write makes a tree of files. A text of "-" leaves a file out.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if text == "-" {
			continue
		}
		name = filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	return root
}

// Limits hold for all groups below, whatever the version, and each has the use of its own group.
func TestGroupsAbove(t *testing.T) {
	v2 := map[string]string{
		"proc/self/cgroup":               "0::/a/b\n",
		"proc/self/mountinfo":            "29 22 0:26 / /cg rw shared:9 - cgroup2 cgroup2 rw\n",
		"cg/a/b/cpu.max":                 "max 100000\n",
		"cg/a/cpu.max":                   "200000 100000\n",
		"cg/a/cpu.stat":                  "nr_periods 0\nusage_usec 7\n",
		"cg/a/b/memory.max":              "1000\n",
		"cg/a/b/memory.current":          "600\n",
		"cg/a/b/memory.stat":             "active_file 7\ninactive_file 100\n",
		"cg/a/memory.max":                "4000\n",
		"cg/a/memory.current":            "50\n",
		"cg/a/memory.stat":               "inactive_file 60\n",
		"cg/cpu.stat":                    "usage_usec 999\n",
		"cg/somebody/else/cpu.max":       "1 1\n",
		"cg/a/b/below/memory.max":        "1\n",
		"cg/a/b/below/memory.current":    "1\n",
		"cg/a/b/below/below/cpu.max":     "1 100\n",
		"cg/a/b/below/below/memory.stat": "\n",
	}
	v1 := map[string]string{
		"proc/self/cgroup": "4:memory:/a/b\n3:cpuacct:/a/b\n2:cpu:/a/b\n0::/\n",
		"proc/self/mountinfo": "30 29 0:31 / /m rw - cgroup cgroup rw,memory\n31 29 0:32 / /c rw - cgroup cgroup rw,cpu\n" +
			"33 29 0:34 / /t rw - cgroup cgroup rw,cpuacct\n32 29 0:33 / /u rw - cgroup2 cgroup2 rw\n",
		"c/cpu.cfs_quota_us":          "-1\n",
		"c/a/cpu.cfs_quota_us":        "200000\n",
		"c/a/cpu.cfs_period_us":       "100000\n",
		"c/a/b/cpu.cfs_quota_us":      "-1\n",
		"t/a/cpuacct.usage":           "7000\n",
		"m/memory.limit_in_bytes":     "9223372036854771712\n",
		"m/a/memory.limit_in_bytes":   "4000\n",
		"m/a/memory.usage_in_bytes":   "50\n",
		"m/a/memory.stat":             "inactive_file 1\ntotal_inactive_file 60\n",
		"m/a/b/memory.limit_in_bytes": "1000\n",
		"m/a/b/memory.usage_in_bytes": "600\n",
		"m/a/b/memory.stat":           "inactive_file 0\ntotal_inactive_file 100\n",
	}
	for name, files := range map[string]map[string]string{"v2": v2, "v1": v1} {
		t.Run(name, func(t *testing.T) {
			tree, err := Mounted(write(t, files))
			require.NoError(t, err)
			quotas, err := tree.Quotas()
			require.NoError(t, err)
			require.Len(t, quotas, 1)
			require.InDelta(t, 2, quotas[0].CPUs, 0)
			used, ok, err := quotas[0].Used()
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, 7*time.Microsecond, used)

			limits, err := tree.MemoryLimits()
			require.NoError(t, err)
			require.Len(t, limits, 2)
			for i, want := range []struct{ limit, used uint64 }{{1000, 500}, {4000, 0}} {
				require.Equal(t, want.limit, limits[i].Bytes)
				got, err := limits[i].Used()
				require.NoError(t, err)
				require.Equal(t, want.used, got)
			}
		})
	}
}

// Beyond memory.high the kernel slows a process down, so that it is full there.
func TestMemoryHigh(t *testing.T) {
	files := map[string]string{"memory.max": "900", "memory.high": "max", "memory.current": "400", "memory.stat": "inactive_file 100\n"}
	for high, want := range map[string]uint64{"max": 900, "500": 500, "1000": 900} {
		files["memory.high"] = high
		tree, err := At(write(t, files))
		require.NoError(t, err)
		limits, err := tree.MemoryLimits()
		require.NoError(t, err)
		lowest, ok := LowestMemory(limits)
		require.True(t, ok)
		require.Equal(t, want, lowest, high)
		for _, l := range limits {
			used, err := l.Used()
			require.NoError(t, err)
			require.EqualValues(t, 300, used)
		}
	}
	files["memory.high"] = "lots"
	tree, err := At(write(t, files))
	require.NoError(t, err)
	_, err = tree.MemoryLimits()
	require.ErrorContains(t, err, "read memory.high of group /")
}

// Version 1 may count CPU time in another tree, and this process may be in another group there.
func TestCPUTimeOfAnotherGroup(t *testing.T) {
	tree, err := Mounted(write(t, map[string]string{
		"proc/self/cgroup":     "3:cpuacct:/\n2:cpu:/a\n",
		"proc/self/mountinfo":  "31 29 0:32 / /c rw - cgroup cgroup rw,cpu\n33 29 0:34 / /t rw - cgroup cgroup rw,cpuacct\n",
		"c/a/cpu.cfs_quota_us": "50000\n", "c/a/cpu.cfs_period_us": "100000\n",
		"t/cpuacct.usage": "7000\n", "t/a/cpuacct.usage": "8000\n",
	}))
	require.NoError(t, err)
	quotas, err := tree.Quotas()
	require.NoError(t, err)
	require.Len(t, quotas, 1)
	_, ok, err := quotas[0].Used()
	require.NoError(t, err)
	require.False(t, ok)
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct {
		file, text, want string
	}{
		{"cpu.max", "fast\n", `read cpu.max of group /: parse "fast"`},
		{"cpu.max", "1 0\n", "both must be more than 0"},
		{"cpu.max", "1e308 1e-308\n", "both must be more than 0"},
		{"cpu.max", "NaN 1\n", "both must be more than 0"},
		{"cpu.max", "-5 1\n", "both must be more than 0"},
		{"cpu.max", "x 1\n", `"x"`},
		{"cpu.stat", "user_usec 1\n", "usage_usec is missing"},
		{"cpu.stat", "usage_usec many\n", "many"},
		{"memory.max", "lots\n", "lots"},
		{"memory.current", "-1\n", "-1"},
		{"memory.stat", "inactive_file none\n", "none"},
		{"memory.stat", "file 3\n", "inactive_file is missing"},
	} {
		t.Run(c.file+" "+strings.TrimSpace(c.text), func(t *testing.T) {
			files := map[string]string{"cpu.max": "1 2", "cpu.stat": "usage_usec 1", "memory.max": "9", "memory.current": "9", "memory.stat": "inactive_file 3"}
			files[c.file] = c.text
			tree, err := At(write(t, files))
			require.NoError(t, err)
			require.ErrorContains(t, use(tree), c.want)
		})
	}
	tree, err := At(write(t, map[string]string{"cpu.max": "1 2", "memory.max": "9", "memory.current": "9"}))
	require.NoError(t, err)
	require.NoError(t, use(tree), "what counts may be missing")
}

// use reads everything that a tree says.
func use(tree *Tree) error {
	quotas, err := tree.Quotas()
	if err != nil {
		return err
	}
	for _, q := range quotas {
		if _, _, err := q.Used(); err != nil {
			return err
		}
	}
	limits, err := tree.MemoryLimits()
	if err != nil {
		return err
	}
	for _, m := range limits {
		if _, err := m.Used(); err != nil {
			return err
		}
	}
	return nil
}

func TestAt(t *testing.T) {
	_, err := At(t.TempDir())
	require.ErrorContains(t, err, "is not a cgroup tree")
	_, err = At(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	// A tree of version 1 in which the group of this process may not exist.
	tree, err := At(write(t, map[string]string{
		"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n", "cpu,cpuacct/cpuacct.usage": "5\n",
		"memory/memory.limit_in_bytes": "77\n",
	}))
	require.NoError(t, err)
	quotas, err := tree.Quotas()
	require.NoError(t, err)
	if groups, err := tree.groups(); err == nil && groups["cpu"] == "" {
		t.Skip("this machine has no controllers of version 1")
	}
	require.InDelta(t, 0.5, Lowest(quotas), 0)
	limits, err := tree.MemoryLimits()
	require.NoError(t, err)
	lowest, ok := LowestMemory(limits)
	require.True(t, ok)
	require.EqualValues(t, 77, lowest)
}

// A real quota and a real limit of version 1 hold for this process while it is in a group that has them.
func TestRealV1(t *testing.T) {
	if os.Geteuid() != 0 {
		testutil.SkipOrFail(t, "needs root")
	}
	tree, err := Mounted("")
	require.NoError(t, err)
	groups, err := tree.groups()
	require.NoError(t, err)
	name := "wsd-test-" + strconv.Itoa(os.Getpid())
	enter := func(controller string) (dir string) {
		h, ok, err := tree.hierarchy(controller)
		require.NoError(t, err)
		if !ok || h.unified {
			t.Skip("this machine does not have the controller " + controller + " in version 1")
		}
		dir = filepath.Join(h.mount, groups[controller], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("cannot make a group: %v", err)
		}
		t.Cleanup(func() {
			require.NoError(t, os.WriteFile(filepath.Join(h.mount, groups[controller], "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
			require.NoError(t, unix.Rmdir(dir))
		})
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
		return dir
	}
	dir := enter(controllerCPU)
	if groups[controllerCPUTime] != groups[controllerCPU] || !strings.HasPrefix(dir, mustMount(t, tree, controllerCPUTime)) {
		enter(controllerCPUTime)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cpu.cfs_quota_us"), []byte("150000"), 0))
	quotas, err := tree.Quotas()
	require.NoError(t, err)
	require.InDelta(t, 1.5, Lowest(quotas), 0)
	before, ok, err := quotas[0].Used()
	require.NoError(t, err)
	require.True(t, ok)
	for sum := 0.0; ; sum = math.Sqrt(sum + 2) {
		if after, _, err := quotas[0].Used(); err != nil || after > before+time.Millisecond {
			require.NoError(t, err)
			break
		}
	}

	dir = enter(controllerMemory)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("805306368"), 0))
	limits, err := tree.MemoryLimits()
	require.NoError(t, err)
	require.EqualValues(t, 768<<20, limits[0].Bytes)
	first, err := limits[0].Used()
	require.NoError(t, err)
	// Not of the heap, which may have pages left that another group was charged for.
	block, err := unix.Mmap(-1, 0, 32<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(block)) }()
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	second, err := limits[0].Used()
	require.NoError(t, err)
	require.Greater(t, second, first+16<<20)
}

func mustMount(t *testing.T, tree *Tree, controller string) string {
	t.Helper()
	h, ok, err := tree.hierarchy(controller)
	require.NoError(t, err)
	require.True(t, ok)
	return h.mount + "/"
}
