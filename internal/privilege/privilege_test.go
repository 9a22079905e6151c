package privilege

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
)

// childVariable names a directory, and makes this binary drop its privileges in place of running tests.
const childVariable = "WSD_TEST_PRIVILEGE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// report is what the child says of itself.
type report struct {
	State   State
	Threads []State // What each thread may do afterwards, also those that started later.
	Changed string  // Error of changing the directory.
	Chowned string  // Error of what takes a capability that was dropped.
}

// child drops everything but what it takes to change the directory, with some threads in the way.
func child(dir string) {
	hold := func() {
		ready := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(ready)
			select {}
		}()
		<-ready
	}
	for range 3 {
		hold()
	}
	needs := []Need{
		{For: "do what needs nothing", Capabilities: []int{unix.CAP_NET_ADMIN}, Try: func() error { return nil }},
		{For: "do what nobody can", Capabilities: []int{unix.CAP_SYS_ADMIN}, Try: func() error { return os.ErrInvalid }},
		{For: "change it", Capabilities: []int{unix.CAP_NET_RAW, unix.CAP_DAC_OVERRIDE}, Try: func() error { return MayChange(dir) }},
	}
	for range 100 { // Each leaves threads behind that are about to end.
		needs = append(needs, Need{For: "do what nobody can", Capabilities: []int{unix.CAP_SYS_ADMIN, unix.CAP_BPF}, Try: func() error { return os.ErrInvalid }})
	}
	state := Drop(needs)
	for range 3 {
		hold()
	}
	r := report{State: state, Changed: text(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)), Chowned: text(os.Chown(dir, 1, 1))}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, path := range tasks {
		status, err := os.ReadFile(path)
		if err == nil {
			r.Threads = append(r.Threads, parse(string(status)))
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

func text(err error) string { return fmt.Sprint(err) }

// requireRoot skips or fails the test without root and the capabilities that it is about.
func requireRoot(t *testing.T) {
	t.Helper()
	had, err := own()
	require.NoError(t, err)
	if want := Of(unix.CAP_DAC_OVERRIDE, unix.CAP_SETPCAP, unix.CAP_CHOWN); os.Geteuid() != 0 || had.Effective&want != want {
		testutil.SkipOrFail(t, "needs root with CAP_DAC_OVERRIDE, CAP_SETPCAP and CAP_CHOWN")
	}
}

// withoutC returns this binary, or one of the same tests that is not linked with C.
func withoutC(t *testing.T) string {
	t.Helper()
	if !cgo {
		return os.Args[0]
	}
	binary := filepath.Join(t.TempDir(), "test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// foreign returns a directory that only another user may change.
func foreign(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.Chown(dir, 65534, 65534))
	return dir
}

func TestDrop(t *testing.T) {
	requireRoot(t)
	dir := foreign(t)
	cmd := exec.CommandContext(t.Context(), withoutC(t))
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(out, &r))
	keep := Of(unix.CAP_DAC_OVERRIDE)
	require.Equal(t, State{Effective: keep, NoNewPrivs: true, Kept: []Kept{{"CAP_DAC_OVERRIDE", "change it"}}}, r.State)
	require.Equal(t, "<nil>", r.Changed)
	require.Contains(t, r.Chowned, "operation not permitted")
	require.GreaterOrEqual(t, len(r.Threads), 6)
	for _, thread := range r.Threads {
		require.Equal(t, State{Effective: keep, NoNewPrivs: true}, thread)
	}
}

func TestWith(t *testing.T) {
	requireRoot(t)
	dir := foreign(t)
	var changed error
	change := func() { changed = MayChange(dir) }
	require.NoError(t, With(0, change))
	require.ErrorIs(t, changed, unix.EACCES)
	require.NoError(t, With(Of(unix.CAP_DAC_OVERRIDE), change))
	require.NoError(t, changed)
	require.NoError(t, MayChange(dir), "the process is as before")

	// No thread is left behind with less than the others, not even one that is about to end: Drop would find it.
	before, err := Read()
	require.NoError(t, err)
	for range 2000 {
		require.NoError(t, With(0, func() {}))
		require.NoError(t, verify(before.Effective, before.NoNewPrivs))
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, []string{}, Set(0).Names())
	require.Equal(t, []string{"CAP_CHOWN", "CAP_BPF", "CAP_50"}, Of(50, unix.CAP_BPF, unix.CAP_CHOWN).Names())
	require.Equal(t, "CAP_CHECKPOINT_RESTORE", Name(unix.CAP_CHECKPOINT_RESTORE))
	require.Equal(t, "CAP_SYS_ADMIN", Name(unix.CAP_SYS_ADMIN))
	require.Equal(t, "CAP_-1", Name(-1))
}

func TestParse(t *testing.T) {
	require.Equal(t, State{Effective: Of(unix.CAP_BPF), Bounding: Of(unix.CAP_CHOWN, unix.CAP_BPF), NoNewPrivs: true},
		parse("Name:\twsd\nCapEff:\t0000008000000000\nCapBnd:\t0000008000000001\nNoNewPrivs:\t1\n"))
	require.Equal(t, State{}, parse(""))
}
