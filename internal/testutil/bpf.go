package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// RequireRoot is the environment variable that, set to 1, makes a test fail for
// what it would else skip for.
const RequireRoot = "WSD_REQUIRE_ROOT"

// RequireBPF skips the test unless the process is root and may load and attach
// eBPF programs. With WSD_REQUIRE_ROOT=1 it fails the test instead. Call it from
// the test's own goroutine.
func RequireBPF(tb testing.TB) {
	tb.Helper()
	if lack := lacking(capBPF, capNetAdmin); lack != "" {
		SkipOrFail(tb, lack)
	}
}

// SkipOrFail skips the test for a reason of the machine's, or fails it with
// WSD_REQUIRE_ROOT=1. Call it from the test's own goroutine.
func SkipOrFail(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv(RequireRoot) == "1" {
		tb.Fatalf("%s, and %s=1 forbids to skip", reason, RequireRoot)
	}
	tb.Skip(reason)
}

// capability is one that a test may need.
type capability struct {
	name string
	bit  uint
}

var (
	capBPF      = capability{"CAP_BPF", unix.CAP_BPF}
	capNetAdmin = capability{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}
	capNetRaw   = capability{"CAP_NET_RAW", unix.CAP_NET_RAW}
	capSysAdmin = capability{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}
)

// lacking names the first thing that is missing of root and these, or nothing.
func lacking(needed ...capability) string {
	if os.Geteuid() != 0 {
		return "needs root"
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Sprintf("needs root, and cannot read the capabilities: %v", err)
	}
	for _, c := range needed {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			return "needs " + c.name
		}
	}
	return ""
}

// BPFFS mounts a bpffs that is the test's alone, returns its path, and unmounts it
// when the test ends. The test needs what RequireBPF asks for.
func BPFFS(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "bpf")
	require.NoError(tb, os.Mkdir(dir, 0o700))
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0755"); err != nil {
		SkipOrFail(tb, fmt.Sprintf("needs CAP_SYS_ADMIN to mount a bpffs: %v", err))
	}
	tb.Cleanup(func() { require.NoError(tb, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}
