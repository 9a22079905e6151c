package steering

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
)

// tree is what is below a directory: names with their modes.
func tree(tb testing.TB, dir string) map[string]fs.FileMode {
	tb.Helper()
	all := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		// The debug files are the kernel's own, in the root of each bpffs.
		if name, _ := filepath.Rel(dir, path); name != "." && filepath.Ext(name) != ".debug" {
			all[name] = info.Mode()
		}
		return err
	})
	require.NoError(tb, err)
	return all
}

// mapID tells which map a pin stands for.
func mapID(tb testing.TB, pin string) ebpf.MapID {
	tb.Helper()
	m, err := ebpf.LoadPinnedMap(pin, nil)
	require.NoError(tb, err)
	defer m.Close()
	info, err := m.Info()
	require.NoError(tb, err)
	id, ok := info.ID()
	require.True(tb, ok)
	return id
}

func TestPins(t *testing.T) {
	testutil.RequireBPF(t)
	dir := filepath.Join(testutil.BPFFS(t), "wsd")
	defer unix.Umask(unix.Umask(0o077))
	v := mustServe(t, 2, dir, "127.0.0.1:0", "[::1]:0")
	require.Equal(t, Status{Mode: Pinned, PinPath: filepath.Join(dir, "8000")}, v.Status())
	require.Empty(t, v.log.all())
	want := map[string]fs.FileMode{"8000": fs.ModeDir | 0o750}
	for _, name := range []string{
		"slots_v2", "outcomes_v2", "owner", "sources", "source_exempt", "sockets_0", "sockets_1",
		"policy", "weight", "drain", "stall_bound", "ramp", "pending_max", "cpu_local_bound", "admission", "admission_dry_run",
		"source_rate", "source_burst", "source_prefix4", "source_prefix6", "source_dry_run",
	} {
		want["8000/"+name] = 0o640
	}
	require.Equal(t, want, tree(t, dir))

	owner, err := ebpf.LoadPinnedMap(filepath.Join(dir, "8000", "owner"), nil)
	require.NoError(t, err)
	defer owner.Close()
	var record steerOwnerRecord
	require.NoError(t, owner.Lookup(uint32(0), &record))
	var ns unix.Stat_t
	require.NoError(t, unix.Stat("/proc/self/ns/net", &ns))
	require.Equal(t, steerOwnerRecord{Pid: uint32(os.Getpid()), Shards: 2, Netns: ns.Ino}, record)

	require.NoError(t, v.Close())
	require.Empty(t, tree(t, dir), "Close removes the pins")
}

// operator has plain bpftool and the path of the pins.
type operator struct {
	v       *server
	bpftool string
}

func newOperator(v *server) operator {
	v.tb.Helper()
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		testutil.SkipOrFail(v.tb, "needs bpftool")
	}
	return operator{v, bpftool}
}

// do runs bpftool on one of the pins.
func (o operator) do(command, name string, args ...string) string {
	o.v.tb.Helper()
	args = append([]string{"map", command, "pinned", filepath.Join(o.v.Status().PinPath, name)}, args...)
	out, err := exec.Command(o.bpftool, args...).CombinedOutput()
	require.NoError(o.v.tb, err, "%s", out)
	return string(out)
}

// octets are bytes as bpftool reads them.
func octets(b []byte) (args []string) {
	for _, octet := range b {
		args = append(args, strconv.Itoa(int(octet)))
	}
	return args
}

func word(value uint32) []string { return octets(binary.NativeEndian.AppendUint32(nil, value)) }

// update writes an entry, and has the test fail if that touches a figure or a counter.
func (o operator) update(name string, key, value []string) {
	o.v.tb.Helper()
	state := func() (all []any) {
		ends, notes := o.v.Outcomes()
		for shard := range o.v.accepted {
			all = append(all, o.v.figures(shard))
		}
		return append(all, ends, notes)
	}
	before := state()
	o.do("update", name, slices.Concat([]string{"key"}, key, []string{"value"}, value)...)
	require.Equal(o.v.tb, before, state())
}

func (o operator) set(name string, entry, value uint32) {
	o.v.tb.Helper()
	o.update(name, word(entry), word(value))
}

// exemptKey is the key of source_exempt: the length, then the address as IPv6.
func exemptKey(prefix string) []string {
	p := netip.MustParsePrefix(prefix)
	bits, address := p.Bits(), p.Addr().As16()
	if p.Addr().Is4() {
		bits += 96
	}
	return append(word(uint32(bits)), octets(address[:])...)
}

// next dials and tells which shards got how many.
func (o operator) next(n int) []int {
	o.v.tb.Helper()
	o.v.dial(0, n, 1)
	return o.v.accept(n)
}

// news are the lines that Watch logs of a change, which it does once.
func (o operator) news() []string {
	o.v.tb.Helper()
	before := len(o.v.log.all())
	o.v.Watch()
	after := o.v.log.all()
	o.v.Watch()
	require.Equal(o.v.tb, after, o.v.log.all())
	return after[before:]
}

// bpftool is what an operator reads and writes with. What it writes counts for the
// next connection.
func TestBPFTool(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 4, testutil.BPFFS(t))
	o := newOperator(v)
	require.Equal(t, []int{2, 2, 2, 2}, o.next(8))
	slots := o.do("dump", "slots_v2")
	require.Contains(t, slots, `"picked": 2`)
	require.Contains(t, slots, `"closed": 0`)
	require.Contains(t, o.do("dump", "outcomes_v2"), `"placed": 0`)

	o.set("drain", 3, 1)
	require.Equal(t, []int{3, 3, 3, 0}, o.next(9))
	o.set("drain", 3, 0)
	require.Equal(t, []int{0, 0, 0, 3}, o.next(3))

	o.set("weight", 1, 10000)
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_WEIGHTED))
	require.Equal(t, []int{0, 9, 0, 0}, o.next(9))
	o.set("weight", 1, 0) // It drains.
	require.Equal(t, []int{2, 0, 2, 2}, o.next(6))
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_HASH))
	o.next(7)
	require.EqualValues(t, 7, v.counted()["picked_hash"])
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_LEAST_LOADED))

	o.set("admission", 0, 100)
	require.Equal(t, 5, v.try(5, ""))
	o.set("admission_dry_run", 0, 1)
	require.Zero(t, v.try(5, ""))
	v.accept(5)
	require.EqualValues(t, 5, v.counted()["refused_admission"])
	require.EqualValues(t, 5, v.counted()["dry_run_admission"])
	o.set("admission", 0, 0)

	// A shard that nobody else would be chosen for: it is empty, and has been busy for long.
	v.end(2, len(v.accepted[2]))
	v.Slot(2).BeginTurn(1)
	require.Equal(t, []int{0, 0, 1, 0}, o.next(1))
	o.set("stall_bound", 0, 50)
	require.Zero(t, o.next(3)[2])
	require.EqualValues(t, 3, v.counted()["skipped_stalled"])
	o.set("stall_bound", 0, 0)
	require.Equal(t, []int{0, 0, 1, 0}, o.next(1))
}

func TestBPFToolSources(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, testutil.BPFFS(t))
	o := newOperator(v)
	limited := func(source string) bool { // A second may pass now and then.
		refused := v.try(10, source)
		require.True(t, refused == 0 || refused > 4, "%d of 10", refused)
		return refused > 0
	}
	require.False(t, limited("127.0.7.1"))
	o.set("source_rate", 0, 1)
	require.True(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.8.1"))
	o.update("source_exempt", exemptKey("127.0.7.0/24"), word(1))
	require.False(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.8.1"))
	o.update("source_exempt", exemptKey("127.0.7.9/32"), word(0)) // But for one of them.
	require.False(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.7.9"))
	o.update("source_exempt", exemptKey("2001:db8::/32"), word(1))
	exempt, err := v.Exempt()
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.7.0/24"), netip.MustParsePrefix("2001:db8::/32")}, exempt)
	o.do("delete", "source_exempt", append([]string{"key"}, exemptKey("127.0.7.0/24")...)...)
	require.True(t, limited("127.0.7.2"))
	o.set("source_burst", 0, 1000)
	require.False(t, limited("127.0.7.3"))
	o.set("source_rate", 0, 0)
	require.False(t, limited("127.0.7.9"))
}

// A value out of range is no value: what counts instead is documented, and wsd tells.
func TestBPFToolOutOfRange(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t))
	o := newOperator(v)
	o.set("policy", 0, 9)
	require.Equal(t, []int{2, 2, 2}, o.next(6))
	require.Equal(t, map[string]uint64{"picked_least_loaded": 6}, v.counted())
	o.set("admission", 0, 101)
	require.Zero(t, v.try(30, ""))
	v.accept(30)
	report, err := v.Report()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"admission is 101, the configuration says 0", "policy is 9, the configuration says least-loaded"}, report.Changed)
	require.ElementsMatch(t, []string{
		"admission is 101 in its map, at most 100 is in range: 0 counts instead",
		"policy is 9 in its map, at most 4 is in range: least-loaded counts instead",
	}, report.Ignored)

	o.set("policy", 0, uint32(steerPolicyKindPOLICY_WEIGHTED))
	o.set("weight", 2, anyU32) // Counts as 100, which the others have.
	require.Equal(t, []int{3, 3, 3}, o.next(9))
	for _, name := range []string{"stall_bound", "ramp", "pending_max", "cpu_local_bound", "source_rate", "source_burst", "source_prefix4", "source_prefix6"} {
		o.set(name, 0, anyU32)
	}
	require.Equal(t, []int{3, 3, 3}, o.next(9))
	require.Zero(t, v.try(30, ""))
	v.accept(30)
	report, err = v.Report()
	require.NoError(t, err)
	require.Len(t, report.Ignored, 10)
	require.Contains(t, report.Ignored, "weight of shard 2 is 4294967295 in its map, at most 10000 is in range: 100 counts instead")
	require.Len(t, report.Changed, 11, "the policy is in range by now")
	require.Equal(t, []uint64{0, 0, 0}, []uint64{v.figures(0).Uncounted, v.figures(1).Uncounted, v.figures(2).Uncounted})
	require.Equal(t, map[string]uint64{"picked_least_loaded": 36, "picked_weighted": 48}, v.counted())
}

// Each change is logged once, and so is the return to what was configured.
func TestBPFToolIsLogged(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t))
	o := newOperator(v)
	require.Empty(t, o.news())
	for _, c := range []struct {
		name         string
		entry, value uint32
		want         string
	}{
		{"weight", 2, 250, "weight of shard 2 is 250, the configuration says 100"},
		{"policy", 0, uint32(steerPolicyKindPOLICY_P2C), "policy is p2c, the configuration says least-loaded"},
		{"drain", 1, 1, "drain of shard 1 is true, the configuration says false"},
		{"admission", 0, 7, "admission is 7, the configuration says 0"},
		{"stall_bound", 0, 1500, "stall_bound is 1.5s, the configuration says 0s"},
		{"source_rate", 0, 9, "source_rate is 9, the configuration says 0"},
	} {
		began := v.Configured()[c.name][c.entry]
		o.set(c.name, c.entry, c.value)
		report, err := v.Report()
		require.NoError(t, err)
		require.Equal(t, []string{c.want}, report.Changed)
		require.Empty(t, report.Ignored)
		lines := o.news()
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `level=INFO msg="a steering setting was changed"`)
		require.Contains(t, lines[0], c.want)

		o.set(c.name, c.entry, began)
		report, err = v.Report()
		require.NoError(t, err)
		require.Empty(t, append(report.Changed, report.Ignored...))
		lines = o.news()
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `level=INFO msg="a steering setting is as configured again"`)
		require.Contains(t, lines[0], c.name)
	}

	// Out of range there are two edges.
	o.set("admission", 0, 101)
	lines := o.news()
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], `level=WARN msg="a steering setting is out of range" setting="admission is 101 in its map`)
	require.Contains(t, lines[1], "admission is 101, the configuration says 0")
	o.set("admission", 0, 1)
	lines = o.news()
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], `msg="a steering setting is in range again" setting=admission`)
	require.Contains(t, lines[1], "admission is 1, the configuration says 0")

	o.update("source_exempt", exemptKey("192.0.2.0/24"), word(1))
	lines = o.news()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "source_exempt has 192.0.2.0/24, the configuration has not")
	o.do("delete", "source_exempt", append([]string{"key"}, exemptKey("192.0.2.0/24")...)...)
	lines = o.news()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `msg="a steering setting is as configured again" setting="source_exempt 192.0.2.0/24"`)
}

func TestPinsInUse(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	first := mustServe(t, 2, dir)
	before, id := tree(t, dir), mapID(t, filepath.Join(dir, "8000", "slots_v2"))

	second := mustServe(t, 2, dir)
	require.Equal(t, Unpinned, second.Status().Mode)
	require.Empty(t, second.Status().PinPath)
	require.Contains(t, second.Status().Reason, fmt.Sprintf("in use by pid %d in network namespace ", os.Getpid()))
	require.Len(t, second.log.all(), 1)
	second.dial(0, 2, 1)
	require.Equal(t, []int{1, 1}, second.accept(2), "it steers all the same")
	require.NoError(t, second.Close())

	require.Equal(t, before, tree(t, dir), "nothing is left of the attempt")
	require.Equal(t, id, mapID(t, filepath.Join(dir, "8000", "slots_v2")))
	require.NoError(t, first.Close())
	third := mustServe(t, 2, dir)
	require.Equal(t, Pinned, third.Status().Mode)
}

func TestDeadOwner(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	report, end := mustChild(t, "require:2:"+dir)
	require.Equal(t, Pinned, report.Status.Mode, "%+v", report)
	require.Equal(t, 1, report.Picks)
	old := mapID(t, filepath.Join(dir, "8000", "slots_v2"))

	// As long as it lives, its pins stay.
	v := mustServe(t, 3, dir)
	require.Equal(t, Unpinned, v.Status().Mode)
	require.NotContains(t, v.Status().Reason, fmt.Sprintf("pid %d ", os.Getpid()))
	require.NoError(t, v.Close())
	require.Equal(t, old, mapID(t, filepath.Join(dir, "8000", "slots_v2")))

	// It ends without Close; a half-built set of pins is there as well.
	end()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "8000_new"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "8000_new", "half"), 0o700))
	require.Equal(t, old, mapID(t, filepath.Join(dir, "8000", "slots_v2")), "pins outlive their process")
	v = mustServe(t, 3, dir)
	require.Equal(t, Status{Mode: Pinned, PinPath: filepath.Join(dir, "8000")}, v.Status())
	require.NotEqual(t, old, mapID(t, filepath.Join(dir, "8000", "slots_v2")))
	require.NoDirExists(t, filepath.Join(dir, "8000_new"))
}

// Pins that somebody else removed, or replaced, are not Close's to remove.
func TestCloseForeignPins(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	first := mustServe(t, 2, dir)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "8000")))
	second := mustServe(t, 2, dir)
	require.Equal(t, Pinned, second.Status().Mode)
	require.NoError(t, first.Close())
	require.DirExists(t, second.Status().PinPath)
	require.NoError(t, os.RemoveAll(second.Status().PinPath))
	require.NoError(t, second.Close())
}

func TestUnpinned(t *testing.T) {
	testutil.RequireBPF(t)
	bpffs, full := testutil.BPFFS(t), t.TempDir()
	file := filepath.Join(full, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct{ name, dir, want string }{
		{"not a bpffs", full, "it is not empty"},
		{"a file", file, "is a file"},
		{"relative", "wsd", "must be an absolute path"},
		{"dot", filepath.Join(bpffs, "wsd.d"), "may hold no dot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := mustServe(t, 2, c.dir)
			s := v.Status()
			require.Equal(t, Unpinned, s.Mode)
			require.Empty(t, s.PinPath)
			require.Contains(t, s.Reason, c.want)
			require.NotContains(t, s.Reason, "\n")
			require.Len(t, v.log.all(), 1)
			v.dial(0, 4, 1)
			require.Equal(t, []int{2, 2}, v.accept(4))
		})
	}
	require.Empty(t, tree(t, bpffs))
	require.Len(t, tree(t, full), 1)
}

func TestMountsBPFFS(t *testing.T) {
	testutil.RequireBPF(t)
	dir := filepath.Join(t.TempDir(), "a", "wsd")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	v := mustServe(t, 2, dir)
	require.Equal(t, Pinned, v.Status().Mode)
	require.Contains(t, v.Status().Reason, "wsd mounted one")
	require.NoError(t, v.Close())
	on, err := onBPFFS(dir)
	require.NoError(t, err)
	require.True(t, on, "the mount stays")
}

// The object is committed, so it must not tell where it was built.
func TestObject(t *testing.T) {
	for _, path := range []string{"/work", "/home", "/root", "/tmp", "/usr"} {
		require.False(t, bytes.Contains(_SteerBytes, []byte(path)), path)
	}
	object, err := elf.NewFile(bytes.NewReader(_SteerBytes))
	require.NoError(t, err)
	for _, s := range object.Sections {
		require.False(t, strings.HasPrefix(s.Name, ".debug"), s.Name)
	}
	require.NotNil(t, object.Section(".BTF"))
	require.NotNil(t, object.Section(".BTF.ext"))
}
