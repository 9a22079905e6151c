package steering

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/listen"
	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// alone is a server that is a process of its own: it accepts everybody and closes
// nobody, until its input ends.
type alone struct {
	PinDir   string
	PinGroup int // -1: none.
	Shards   int
	Address  string
	Hello    byte // What a client gets once it is accepted and counted.
}

// mortal is a wrapper that lets its child be killed: testutil.Child wants an end
// without an error.
var mortal = []string{"sh", "-c", `"$@"; exit 0`, "sh"}

// mustServeAlone returns when the server listens and has published its pins.
func mustServeAlone(tb testing.TB, a alone, wrapper ...string) (report childReport, end func()) {
	tb.Helper()
	arg, err := json.Marshal(a)
	require.NoError(tb, err)
	return mustChild(tb, "serve "+string(arg), wrapper...)
}

// mustDie kills a mortal server and waits until nothing is left of its process.
func mustDie(tb testing.TB, report childReport, end func()) {
	tb.Helper()
	require.NoError(tb, unix.Kill(report.PID, unix.SIGKILL))
	end()
}

// serveAlone is the child of mustServeAlone.
func serveAlone(arg string) error {
	var a alone
	if err := json.Unmarshal([]byte(arg), &a); err != nil {
		return err
	}
	log := &lines{}
	o := testOptions(a.Shards, a.PinDir, log)
	o.PinGroup = a.PinGroup
	s, groups, err := start(o, a.Address)
	if err != nil {
		return err
	}
	report := childReport{Status: s.Status(), Log: log.all(), PID: os.Getpid(), Address: groups[0].Address.String()}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return err
	}
	polled := []unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}}
	for _, fd := range groups[0].FDs {
		polled = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for polled[0].Revents == 0 {
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for shard, p := range polled[1:] {
			if err := greet(p, s.Slot(routing.ShardID(shard)), a.Hello); err != nil {
				return err
			}
		}
	}
	return s.Close()
}

// greet accepts what a listener has.
func greet(p unix.PollFd, slot *Slot, hello byte) error {
	for p.Revents != 0 {
		fd, _, err := unix.Accept4(int(p.Fd), unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return err
		}
		slot.EndTurn(1, 0, 0)
		_, _ = unix.Write(fd, []byte{hello}) // The client may be gone.
	}
	return nil
}

// mustPut writes an entry of a pinned setting.
func mustPut(tb testing.TB, pin string, entry, value uint32) {
	tb.Helper()
	m, err := ebpf.LoadPinnedMap(pin, nil)
	require.NoError(tb, err)
	defer m.Close()
	require.NoError(tb, m.Update(entry, value, ebpf.UpdateExist))
}

// mustPin makes a map and pins it.
func mustPin(tb testing.TB, path string, kind ebpf.MapType, valueSize, entries uint32) {
	tb.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: valueSize, MaxEntries: entries})
	require.NoError(tb, err)
	defer m.Close()
	require.NoError(tb, m.Pin(path))
}

// mustPinProgram makes a program and pins it.
func mustPinProgram(tb testing.TB, path string) {
	tb.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{asm.LoadImm(asm.R0, 0, asm.DWord), asm.Return()},
	})
	require.NoError(tb, err)
	defer p.Close()
	require.NoError(tb, p.Pin(path))
}

func netns(tb testing.TB) uint64 {
	tb.Helper()
	var st unix.Stat_t
	require.NoError(tb, unix.Stat("/proc/thread-self/ns/net", &st))
	return st.Ino
}

// steers has a server place four connections for each of its shards.
func (v *server) steers() {
	v.tb.Helper()
	n := 4 * len(v.accepted)
	before := v.counted()["picked_least_loaded"]
	v.dial(0, n, 1)
	for shard, got := range v.accept(n) {
		require.Equal(v.tb, 4, got, "shard %d", shard)
	}
	require.EqualValues(v.tb, n, v.counted()["picked_least_loaded"]-before)
}

// What an operator has set ends with the process, however that ends.
func TestCrash(t *testing.T) {
	testutil.RequireBPF(t)
	for _, c := range []struct {
		name      string
		shards    int
		addresses []string
		taken     int
	}{
		{"as before", 2, []string{"127.0.0.1:0"}, 1},
		{"one address more", 2, []string{"127.0.0.1:0", "[::1]:0"}, 1},
		{"another number of shards", 3, []string{"127.0.0.1:0"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testutil.BPFFS(t)
			pin := func(name string) string { return filepath.Join(dir, "8000", name) }
			dead, end := mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: 2, Address: "127.0.0.1:0"}, mortal...)
			require.Equal(t, Pinned, dead.Status.Mode, "%+v", dead)
			mustPut(t, pin("policy"), 0, uint32(steerPolicyKindPOLICY_HASH))
			mustPut(t, pin("drain"), 1, 1)
			mustPut(t, pin("admission"), 0, 100)
			sockets, policy := mapID(t, pin("sockets_0")), mapID(t, pin("policy"))
			mustDie(t, dead, end)
			require.Equal(t, sockets, mapID(t, pin("sockets_0")), "pins outlive their process")

			v := mustServeWith(t, c.shards, dir, func(o *Options) {
				o.Values["policy"][0], o.Values["ramp"][0] = uint32(steerPolicyKindPOLICY_WEIGHTED), 77
			}, c.addresses...)
			require.Equal(t, Status{Mode: Pinned, PinPath: filepath.Join(dir, "8000")}, v.Status())
			require.Len(t, v.log.all(), 1)
			require.Contains(t, v.log.all()[0], "replaced the pins of a wsd that ended without removing them")
			require.Contains(t, v.log.all()[0], fmt.Sprintf(`owner="pid %d in network namespace %d" sockarrays_taken_over=%d`, dead.PID, netns(t), c.taken))
			require.Equal(t, c.taken == 1, sockets == mapID(t, pin("sockets_0")))
			require.NotEqual(t, policy, mapID(t, pin("policy")))

			values, err := v.Values()
			require.NoError(t, err)
			require.Equal(t, v.Configured(), values)
			require.EqualValues(t, 77, values["ramp"][0])
			report, err := v.Report()
			require.NoError(t, err)
			require.Empty(t, append(report.Changed, report.Ignored...))
			for group := range c.addresses {
				v.dial(group, 6*c.shards, 1)
			}
			n := 6 * c.shards * len(c.addresses)
			for shard, got := range v.accept(n) {
				require.Equal(t, n/c.shards, got, "shard %d", shard)
			}
			require.Equal(t, map[string]uint64{"picked_weighted": uint64(n)}, v.counted())
		})
	}
}

// A process may die at any step of building its pins, or of removing them.
func TestCrashAmidPins(t *testing.T) {
	testutil.RequireBPF(t)
	for _, c := range []struct {
		name     string
		crash    func(t *testing.T, pins, aside string)
		replaced bool
	}{
		{"while it built", func(t *testing.T, pins, aside string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(pins))
			require.NoError(t, os.Mkdir(aside, 0o700))
			mustPin(t, filepath.Join(aside, "slots_v2"), ebpf.Array, 8, 1)
		}, false},
		{"before it published", func(t *testing.T, pins, aside string) {
			t.Helper()
			require.NoError(t, os.Rename(pins, aside))
		}, false},
		{"while it removed those of a dead owner", func(t *testing.T, pins, aside string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(pins, "owner")))
			require.NoError(t, os.Remove(filepath.Join(pins, "sockets_0")))
			require.NoError(t, os.Mkdir(aside, 0o700))
			mustPin(t, filepath.Join(aside, "owner"), ebpf.Array, 16, 1)
		}, true},
		{"while it removed the last of its own", func(t *testing.T, pins, _ string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(pins))
			require.NoError(t, os.Mkdir(pins, 0o750))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testutil.BPFFS(t)
			dead, end := mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: 2, Address: "127.0.0.1:0"}, mortal...)
			whole := tree(t, dir)
			mustDie(t, dead, end)
			c.crash(t, filepath.Join(dir, "8000"), filepath.Join(dir, "8000_new"))
			v := mustServe(t, 2, dir)
			require.Equal(t, Pinned, v.Status().Mode, v.Status().Reason)
			require.Equal(t, whole, tree(t, dir))
			require.Equal(t, c.replaced, len(v.log.all()) == 1, "%q", v.log.all())
			v.steers()
			require.NoError(t, v.Close())
			require.Empty(t, tree(t, dir))
		})
	}
}

// Whatever is in the directory of a dead owner, it is replaced.
func TestForeignPins(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	pins := filepath.Join(dir, "8000")
	v := mustServe(t, 2, dir)
	whole := tree(t, dir)
	require.NoError(t, v.Close())

	sockets, owner := filepath.Join(pins, "sockets_0"), filepath.Join(pins, "owner")
	for _, c := range []struct {
		name  string
		make  func(t *testing.T)
		taken int
	}{
		{"nothing", func(*testing.T) {}, 0},
		{"sockets_0 is a hash", func(t *testing.T) { t.Helper(); mustPin(t, sockets, ebpf.Hash, 8, 2) }, 0},
		{"sockets_0 is an array", func(t *testing.T) { t.Helper(); mustPin(t, sockets, ebpf.Array, 8, 2) }, 0},
		{"sockets_0 is of another size", func(t *testing.T) { t.Helper(); mustPin(t, sockets, ebpf.ReusePortSockArray, 8, 256) }, 0},
		{"sockets_0 has other values", func(t *testing.T) { t.Helper(); mustPin(t, sockets, ebpf.ReusePortSockArray, 4, 2) }, 0},
		{"sockets_0 is a program", func(t *testing.T) { t.Helper(); mustPinProgram(t, sockets) }, 0},
		{"sockets_0 is a directory", func(t *testing.T) {
			t.Helper()
			require.NoError(t, os.Mkdir(sockets, 0o700))
			mustPin(t, filepath.Join(sockets, "x"), ebpf.Array, 8, 2)
		}, 0},
		{"sockets_0 without an owner", func(t *testing.T) { t.Helper(); mustPin(t, sockets, ebpf.ReusePortSockArray, 8, 2) }, 1},
		{"owner has other values", func(t *testing.T) { t.Helper(); mustPin(t, owner, ebpf.Array, 4, 1) }, 0},
		{"owner has no entry", func(t *testing.T) { t.Helper(); mustPin(t, owner, ebpf.Hash, 16, 1) }, 0},
		{"owner is a program", func(t *testing.T) { t.Helper(); mustPinProgram(t, owner) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, os.Mkdir(pins, 0o750))
			c.make(t)
			v := mustServe(t, 2, dir)
			require.Equal(t, Pinned, v.Status().Mode, v.Status().Reason)
			require.Equal(t, whole, tree(t, dir))
			require.Len(t, v.log.all(), 1)
			require.Contains(t, v.log.all()[0], `owner="another process (cannot read its owner map: `)
			require.Contains(t, v.log.all()[0], fmt.Sprintf("sockarrays_taken_over=%d", c.taken))
			v.steers()
			require.NoError(t, v.Close())
		})
	}
}

// A pin by the name of our directory is no dead owner's: it stays.
func TestForeignPinOfThePort(t *testing.T) {
	testutil.RequireBPF(t)
	spec, err := loadSteer()
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
	}{
		{"map", func(t *testing.T, path string) { t.Helper(); mustPin(t, path, ebpf.Array, 8, 1) }},
		{"program", func(t *testing.T, path string) { t.Helper(); mustPinProgram(t, path) }},
		{"map that can be opened as a file", func(t *testing.T, path string) { // For it has BTF.
			t.Helper()
			m, err := ebpf.NewMap(spec.Maps[steerMapPolicy])
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, m.Pin(path))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testutil.BPFFS(t)
			c.make(t, filepath.Join(dir, "8000"))
			before := tree(t, dir)
			v := mustServe(t, 2, dir)
			require.Equal(t, Unpinned, v.Status().Mode)
			require.Contains(t, v.Status().Reason, "8000: not a directory")
			require.Len(t, v.log.all(), 1)
			v.steers()
			require.NoError(t, v.Close())
			require.Equal(t, before, tree(t, dir))
		})
	}
}

func TestPinGroup(t *testing.T) {
	testutil.RequireBPF(t)
	const group = 54321
	bpffs := testutil.BPFFS(t)
	dir := filepath.Join(bpffs, "wsd")
	v := mustServeWith(t, 2, dir, func(o *Options) { o.PinGroup = group })
	require.Equal(t, Pinned, v.Status().Mode, v.Status().Reason)
	all := tree(t, bpffs)
	require.Greater(t, len(all), 20)
	for name, mode := range all {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(bpffs, name), &st))
		require.EqualValues(t, group, st.Gid, name)
		require.Zero(t, st.Uid, name)
		if mode.IsDir() {
			require.Equal(t, os.ModeDir|0o750, mode, name)
		} else {
			require.EqualValues(t, 0o640, mode, name)
		}
	}
	require.NoError(t, v.Close())
	require.Equal(t, []string{"wsd"}, names(all, tree(t, bpffs)))
}

// names lists what of one tree is in another, too.
func names[V any](all, there map[string]V) (list []string) {
	for name := range all {
		if _, is := there[name]; is {
			list = append(list, name)
		}
	}
	return list
}

// A group that wsd may not give files to.
func TestPinGroupRefused(t *testing.T) {
	testutil.RequireBPF(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		testutil.SkipOrFail(t, "needs setpriv to give up capabilities")
	}
	bpffs := testutil.BPFFS(t)
	own := filepath.Join(bpffs, "own")
	require.NoError(t, os.Mkdir(own, 0o750))
	before := tree(t, bpffs)
	for _, dir := range []string{bpffs, filepath.Join(bpffs, "a", "wsd"), own} {
		report, end := mustServeAlone(t, alone{PinDir: dir, PinGroup: 54321, Shards: 2, Address: "127.0.0.1:0", Hello: 'h'},
			setpriv, "--bounding-set", "-chown", "--inh-caps", "-chown")
		require.Equal(t, Unpinned, report.Status.Mode, "%+v", report)
		require.Contains(t, report.Status.Reason, "steering.pin_group")
		require.Contains(t, report.Status.Reason, "CAP_CHOWN")
		require.Len(t, report.Log, 1)
		require.Contains(t, report.Log[0], "steering without pins")
		require.Equal(t, before, tree(t, bpffs))
		require.NoError(t, connect(report.Address))
		end()
	}
	// A mount that this had wsd make is told all the same.
	dir := filepath.Join(t.TempDir(), "wsd")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	report, _ := mustServeAlone(t, alone{PinDir: dir, PinGroup: 54321, Shards: 2, Address: "127.0.0.1:0"},
		setpriv, "--bounding-set", "-chown", "--inh-caps", "-chown")
	require.Equal(t, Unpinned, report.Status.Mode, "%+v", report)
	require.Contains(t, report.Status.Reason, "steering.pin_group")
	require.Len(t, report.Log, 2)
	require.Contains(t, report.Log[0], "mounted a bpffs")
	require.Empty(t, tree(t, dir))
}

// Shards are in for new connections when they listen everywhere.
func TestSeveralGroupsStart(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, groups = 3, 3
	o := testOptions(shards, unpinned, &lines{})
	o.Groups = groups
	s, err := New(o)
	require.NoError(t, err)
	v := &server{tb: t, Steering: s, log: &lines{}, accepted: make([][]int, shards), closed: map[int]bool{}}
	t.Cleanup(v.stop)
	draining := func() (all []bool) {
		for shard := range shards {
			all = append(all, v.figures(shard).Draining)
		}
		return all
	}
	require.Equal(t, []bool{true, true, true}, draining())
	var seen [][]bool
	add := func(group, fd int) error {
		err := s.Add(group, fd)
		seen = append(seen, draining())
		return err
	}
	for range groups {
		opened, err := listen.Open(listen.Options{
			Addresses: []string{"127.0.0.1:0"}, Shards: shards,
			Opened:    func(_, fd int) error { return s.Attach(len(v.groups), fd) },
			Listening: func(_, fd int) error { return add(len(v.groups), fd) },
		})
		require.NoError(t, err)
		v.groups = append(v.groups, opened...)
		if len(v.groups) == 1 { // It listens, and whoever comes early is not turned away.
			v.dial(0, 9, 1)
			require.Equal(t, []int{3, 3, 3}, v.accept(9))
			require.Equal(t, map[string]uint64{"picked_fallback": 9}, v.counted())
		}
	}
	all := []bool{true, true, true}
	require.Equal(t, [][]bool{all, all, all, all, all, all, {false, true, true}, {false, false, true}, {false, false, false}}, seen)
	s.Publish(8000)
	for group := range groups {
		v.dial(group, 3, 1)
	}
	require.Equal(t, []int{3, 3, 3}, v.accept(9))
	require.Equal(t, map[string]uint64{"picked_fallback": 9, "picked_least_loaded": 9}, v.counted())
}
