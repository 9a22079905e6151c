package steering

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		{"not a bpffs", full, "the directory is not empty"},
		{"a file", file, "is a file"},
		{"relative", "wsd", "must be an absolute path"},
		{"dot", filepath.Join(bpffs, "wsd.d"), "must not contain a dot"},
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

// Somebody removes the pins while they are in use, or others take their place.
func TestPinsRemoved(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	v := mustServe(t, 2, dir)
	v.Watch()
	require.Equal(t, Pinned, v.Status().Mode)
	require.NoError(t, os.RemoveAll(v.Status().PinPath))
	v.Watch()
	require.Equal(t, Unpinned, v.Status().Mode)
	require.Contains(t, v.Status().Reason, "were removed")
	v.Watch()
	require.Len(t, v.log.all(), 1, "said once")
	v.dial(0, 4, 1)
	require.Equal(t, []int{2, 2}, v.accept(4))
}
