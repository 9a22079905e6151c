package steering

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/listen"
	"wsd/internal/routing"
	"wsd/internal/testutil"
)

func openFiles(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(tb, err)
	return len(entries)
}

func TestModeOff(t *testing.T) {
	v := mustServeWith(t, 2, unpinned, func(o *Options) { o.Mode = ModeOff })
	require.Equal(t, Status{Mode: Hash, Reason: "steering.mode is off"}, v.Status())
	require.Empty(t, v.log.all())
	require.Empty(t, v.counted())
	setting, err := SettingNamed("weight")
	require.NoError(t, err)
	require.ErrorIs(t, v.Set(setting, 1, 5), ErrNotSteering)

	// Where nothing is picked all is counted as it is accepted, so the figures are true.
	v.dial(0, 20, 1)
	v.accept(20)
	loads := v.loads()
	require.EqualValues(t, 20, loads[0]+loads[1])
	v.Reconcile()
	v.Watch()
	require.Equal(t, loads, v.loads())
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Mode = "on" }, `BUG: steering mode "on"`},
		{func(o *Options) { o.Shards = 0 }, "BUG: steer 1 groups to 0 shards"},
		{func(o *Options) { o.Shards = 257 }, "BUG: steer 1 groups to 257 shards"},
		{func(o *Options) { o.Groups = 0 }, "BUG: steer 0 groups to 2 shards"},
		{func(o *Options) { o.Values["weight"] = nil }, "BUG: 0 values of weight for 2 shards"},
		{func(o *Options) { o.Values["admission"][0] = 101 }, "BUG: admission is 101, the maximum is 100"},
	} {
		o := testOptions(2, unpinned, &lines{})
		o.Mode = ModeOff
		c.change(&o)
		_, err := New(o)
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
		require.Contains(t, report.Err, "steering.mode is require")
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
	for _, mode := range []Mode{ModeRequire, ModeAuto} {
		refuse := func() {
			log := &lines{}
			o := testOptions(2, dir, log)
			o.Mode, o.Groups = mode, 2
			s, err := New(o)
			require.NoError(t, err)
			groups, err := listen.Open(listen.Options{Addresses: []string{"127.0.0.1:0"}, Shards: 2, Opened: s.Attach, Listening: s.Add})
			require.NoError(t, err)
			err = s.Add(1, int(plain.Fd()))
			if mode == ModeRequire {
				require.ErrorContains(t, err, "listen address 1: put the listener of shard 0 into map sockets")
			} else {
				require.NoError(t, err)
				s.Publish(8000)
				require.Equal(t, Hash, s.Status().Mode)
				require.Len(t, log.all(), 1)
				mustDial(t, groups[0].Address.String()) // The program is detached: nobody is refused.
			}
			require.NoError(t, groups[0].Close())
		}
		refuse() // ebpf keeps what it learns about the kernel.
		before := openFiles(t)
		refuse()
		if mode == ModeAuto {
			before++ // The client.
		}
		require.Equal(t, before, openFiles(t))
		require.Empty(t, tree(t, dir))
	}
	v := mustServe(t, 2, dir)
	require.Equal(t, Pinned, v.Status().Mode)
}

func TestNoLeak(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	before := 0
	for i := range 3 {
		s, groups, err := start(testOptions(2, dir, &lines{}), "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, groups[0].Close())
		if i == 0 {
			before = openFiles(t) // ebpf keeps what it learns about the kernel.
		}
	}
	require.Equal(t, before, openFiles(t))
	require.Empty(t, tree(t, dir))
}
