package steering

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/listen"
	"wsd/internal/routing"
	"wsd/internal/testutil"
)

func mustListen(tb testing.TB, shards int) [][]int {
	tb.Helper()
	groups, err := listen.Open(listen.Options{Addresses: []string{"127.0.0.1:0"}, Shards: shards})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, groups[0].Close()) })
	return fds(groups)
}

func openFiles(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(tb, err)
	return len(entries)
}

func TestModeOff(t *testing.T) {
	log := &lines{}
	s, err := Start(Options{Mode: ModeOff, Shards: 2, Groups: mustListen(t, 2), Logger: log.logger()})
	require.NoError(t, err)
	require.Equal(t, Status{Mode: Hash, Reason: "steering.mode is off"}, s.Status())
	require.Empty(t, log.all())
	s.Slot(1).AddClosed(1)
	require.EqualValues(t, -1, s.Slot(1).Load())
	require.Zero(t, s.Counters())
	require.NoError(t, s.Close())
}

func TestValidate(t *testing.T) {
	log, two := slog.New(slog.DiscardHandler), [][]int{{3, 4}}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Mode: "on", Shards: 2, Groups: two, Logger: log}, `BUG: steering mode "on"`},
		{Options{Mode: ModeOff, Shards: 0, Groups: two, Logger: log}, "BUG: steer 1 groups to 0 shards"},
		{Options{Mode: ModeOff, Shards: 257, Groups: two, Logger: log}, "BUG: steer 1 groups to 257 shards"},
		{Options{Mode: ModeOff, Shards: 2, Logger: log}, "BUG: steer 0 groups to 2 shards"},
		{Options{Mode: ModeOff, Shards: 3, Groups: two, Logger: log}, "BUG: group 0 has 2 listeners for 3 shards"},
	} {
		_, err := Start(c.o)
		require.EqualError(t, err, c.want)
	}
}

// A process without the capability, as a container has it.
func TestUnprivileged(t *testing.T) {
	testutil.RequireBPF(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		testutil.SkipOrFail(t, "needs setpriv to give up capabilities")
	}
	dir := testutil.BPFFS(t)
	without := []string{setpriv, "--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin"}

	t.Run("require", func(t *testing.T) {
		report, _ := mustChild(t, "require:2:"+dir, without...)
		require.Contains(t, report.Err, "steering.mode require")
		require.Contains(t, report.Err, "CAP_BPF is missing")
		require.NotContains(t, report.Err, "\n")
		require.Empty(t, report.Log, "the error is enough")
	})
	t.Run("auto", func(t *testing.T) {
		report, _ := mustChild(t, "auto:2:"+dir, without...)
		require.Empty(t, report.Err)
		require.Equal(t, Hash, report.Status.Mode)
		require.Contains(t, report.Status.Reason, "CAP_BPF is missing")
		require.Empty(t, report.Status.PinPath)
		require.Len(t, report.Log, 1)
		require.Contains(t, report.Log[0], "level=WARN")
		require.Zero(t, report.Picks)
	})
	t.Run("off", func(t *testing.T) {
		report, _ := mustChild(t, "off:2:"+dir, without...)
		require.Equal(t, Status{Mode: Hash, Reason: "steering.mode is off"}, report.Status)
		require.Empty(t, report.Log)
	})
	// Either is enough, pins included: the verifier has stricter rules for the first.
	for _, capability := range []string{"bpf", "sys_admin"} {
		for _, shards := range []int{1, 2, 64, routing.ShardsMax} {
			t.Run(fmt.Sprintf("%s alone, %d shards", capability, shards), func(t *testing.T) {
				report, end := mustChild(t, fmt.Sprintf("require:%d:%s", shards, dir), setpriv, "--bounding-set", "-all,+"+capability, "--inh-caps", "-all")
				require.Empty(t, report.Err)
				require.Equal(t, Pinned, report.Status.Mode, "%+v", report)
				require.Equal(t, 1, report.Picks)
				end()
			})
		}
	}
}

// What the kernel refuses late leaves nothing behind: no descriptor, no pin.
func TestRefused(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	plain, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer plain.Close()
	var good [][]int
	for _, mode := range []Mode{ModeRequire, ModeAuto} {
		start := func() {
			good = mustListen(t, 2)
			log := &lines{}
			groups := [][]int{good[0], {int(plain.Fd()), int(plain.Fd())}}
			s, err := Start(Options{Mode: mode, PinDir: dir, Port: 8000, Shards: 2, Groups: groups, Logger: log.logger()})
			if mode == ModeRequire {
				require.ErrorContains(t, err, "listen address 1: put the listener of shard 0 into map sockets")
				return
			}
			require.NoError(t, err)
			require.Equal(t, Hash, s.Status().Mode)
			require.Len(t, log.all(), 1)
		}
		start() // ebpf keeps what it learns about the kernel.
		before := openFiles(t)
		start()
		require.Equal(t, before+2, openFiles(t), "two listeners")
		require.Empty(t, tree(t, dir))
	}
	// Its listeners can be steered once the kernel has freed the map they were in.
	require.Eventually(t, func() bool {
		s, err := Start(Options{Mode: ModeRequire, PinDir: dir, Port: 8000, Shards: 2, Groups: good, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			require.ErrorIs(t, err, unix.EBUSY)
			return false
		}
		require.Equal(t, Pinned, s.Status().Mode)
		require.NoError(t, s.Close())
		return true
	}, 5*time.Second, 10*time.Millisecond)
}

func TestNoLeak(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	// A socket stays in its map until the kernel has freed that, so each round has its own.
	rounds := [][][]int{mustListen(t, 2), mustListen(t, 2), mustListen(t, 2)}
	before := 0
	for i, groups := range rounds {
		s, err := Start(Options{Mode: ModeRequire, PinDir: dir, Port: 8000, Shards: 2, Groups: groups, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		if i == 0 {
			before = openFiles(t) // ebpf keeps what it learns about the kernel.
		}
	}
	require.Equal(t, before, openFiles(t))
	require.Empty(t, tree(t, dir))
}
