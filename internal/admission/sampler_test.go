package admission

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type shedder struct {
	levels []int
	now    atomic.Int64
}

func (s *shedder) Shed(percent int) {
	s.levels = append(s.levels, percent)
	s.now.Store(int64(percent))
}

// rig is a sampler on a recorded machine, which the test moves from sample to sample.
type rig struct {
	recorded
	*Sampler
	loop loop
	shed shedder
	log  bytes.Buffer
	now  time.Time
}

func newRig(t *testing.T, dryRun bool) *rig {
	t.Helper()
	r := &rig{recorded: record(t), now: time.Now()}
	r.write("cg/cpu.max", "10000 100000\n") // A tenth of a CPU, so that this test itself uses little of it.
	r.write("cg/memory.max", "104857600\n")
	s, err := New(Options{
		Marks: defaults(), DryRun: dryRun, CgroupRoot: filepath.Join(r.root, "cg"), Loops: []Loop{r.loop.loop()},
		DescriptorsLeft: func() int64 { return 77 }, Shedder: &r.shed, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	require.NoError(t, err)
	s.machine.procRoot = r.root
	r.Sampler = s
	s.begin(r.now)
	return r
}

func (r *rig) step(n int, turn time.Duration) {
	for range n {
		r.now = r.now.Add(Interval)
		r.loop.turn(turn)
		r.sample(r.now, 0)
	}
}

// Memory that runs short refuses more and more, then everybody, until it is free again. Both edges are in the log.
func TestSamplerMemory(t *testing.T) {
	r := newRig(t, false)
	r.write("cg/memory.current", "83886079\n")
	r.step(5, ms)
	require.Empty(t, r.shed.levels)
	st := r.Status()
	require.Empty(t, st.Reason())
	require.EqualValues(t, 77, st.DescriptorsLeft)
	require.Equal(t, Memory{Used: 83886079, Max: 100 << 20}, st.Memory)

	r.write("cg/memory.current", "83886080\n")
	r.step(15, ms)
	require.Equal(t, []int{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, r.shed.levels)
	st = r.Status()
	require.Equal(t, "memory is scarce: 80 % of 100 MiB used (refused from 80 % on, until 75 %)", st.Reason())
	r.write("cg/memory.current", "78643201\n")
	r.step(50, ms)
	require.Equal(t, 100, r.Status().Level)
	r.write("cg/memory.current", "78643200\n")
	r.step(20, ms)
	require.Zero(t, r.Status().Level)
	require.Zero(t, r.shed.levels[len(r.shed.levels)-1])
	require.EqualValues(t, 1, r.Stats().Memory.Load())
	require.Zero(t, r.Stats().CPU.Load())

	lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	require.Len(t, lines, 3, r.log.String())
	require.Contains(t, lines[0], `level=WARN msg="refusing a rising part of the new clients" percent=10 reason="memory is scarce: 80 %`)
	require.Contains(t, lines[1], `level=WARN msg="refusing all new clients" percent=100`)
	require.Contains(t, lines[2], `level=INFO msg="accepting all new clients again" percent=0`)
	require.Contains(t, lines[2], "after=7.4s") // 1.4 s over the mark, 5 s between, 1 s of ramp.
}

// CPU time counts on the average, and only with late loops.
func TestSamplerCPU(t *testing.T) {
	r := newRig(t, true)
	usage := 0
	busy := func(seconds int, turn time.Duration) {
		for range seconds * 10 {
			usage += 10000 // Microseconds in 100 ms of a tenth of a CPU: all of it.
			r.write("cg/cpu.stat", fmt.Sprintf("usage_usec %d\n", usage))
			r.step(1, turn)
		}
	}
	busy(4, 200*ms)
	require.Empty(t, r.shed.levels, "a burst")
	busy(3, 10*ms)
	require.Empty(t, r.shed.levels, "busy, but quick")
	busy(1, 60*ms)
	require.Equal(t, []int{10, 20, 30, 40, 50, 60, 70, 80}, r.shed.levels)
	st := r.Status()
	require.Contains(t, st.Reason(), "CPU time is scarce: 100 % of 0.10 CPUs used, loop lag 59ms (refused from 85 % and 50ms on, until 75 %)")
	require.Contains(t, r.log.String(), `msg="dry run: would refuse a rising part of the new clients"`)
	busy(6, ms)
	require.Less(t, r.Status().Level, 80, "it is quick again")
	require.EqualValues(t, 1, r.Stats().CPU.Load())
}

// 10,000 decisions in a second cost as many reads of the cgroup as none: one each interval.
func TestDecisionsReadNothing(t *testing.T) {
	r := newRig(t, false)
	first := r.machine.reads
	for range 10 {
		for range 1000 {
			_ = r.shed.now.Load() // All that a decision looks at.
		}
		r.step(1, ms)
	}
	require.LessOrEqual(t, r.machine.reads-first, 11)
	require.EqualValues(t, 10, r.Stats().Samples.Load())
}

// One failed read does not end an overload, but a figure that stays away does not refuse for ever.
func TestSamplerUnreadMemory(t *testing.T) {
	r := newRig(t, false)
	r.write("cg/memory.current", "90000000\n")
	r.step(10, ms)
	require.Equal(t, 100, r.Status().Level)
	r.write("cg/memory.current", "\n") // As a reader may find a file that is being written.
	r.step(5, ms)
	require.Equal(t, 100, r.Status().Level)
	require.EqualValues(t, 90000000, r.Status().Memory.Used)
	r.step(30, ms)
	require.Zero(t, r.Status().Level)
}

// A figure that cannot be read is said once, and so is its return.
func TestSamplerUnread(t *testing.T) {
	r := newRig(t, false)
	r.write("cg/memory.current", "none\n")
	r.step(30, ms)
	r.write("cg/memory.current", "0\n")
	r.step(30, ms)
	lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	require.Len(t, lines, 2, r.log.String())
	require.Contains(t, lines[0], "level=WARN msg=\"admission ignores figures that cannot be read\"")
	require.Contains(t, lines[1], "level=INFO msg=\"admission can read its figures again\"")
}

// A sampler that runs late has seen how late everybody is.
func TestSamplerLate(t *testing.T) {
	r := newRig(t, false)
	r.sample(r.now.Add(Interval+70*ms), 70*ms)
	require.Equal(t, 70*ms, r.Status().Lag)
}

func TestStartStop(t *testing.T) {
	r := newRig(t, false)
	r.Start()
	for deadline := time.Now().Add(20 * time.Second); r.Stats().Samples.Load() < 3; time.Sleep(ms) {
		require.True(t, time.Now().Before(deadline), "no samples")
	}
	r.Stop()
}

// TCP memory counts like that of a cgroup: beyond the last value of tcp_mem nobody can be sent anything.
func TestSamplerTCPMemory(t *testing.T) {
	r := newRig(t, false)
	tcp := func(pages int) {
		r.write("proc/self/net/sockstat", fmt.Sprintf("TCP: inuse 3 orphan 0 tw 4 alloc 9 mem %d\n", pages))
		r.step(refreshEvery, ms)
	}
	tcp(799)
	require.Empty(t, r.shed.levels)
	tcp(800)
	st := r.Status()
	require.Positive(t, st.Level)
	require.Contains(t, st.Reason(), "TCP memory (net.ipv4.tcp_mem) is scarce: 80 %")
	tcp(750)
	r.step(refreshEvery, ms)
	require.Zero(t, r.Status().Level)
}
