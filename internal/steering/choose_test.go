package steering

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// chooser runs bpf/choose.h in the kernel, on maps of its own.
type chooser struct {
	shards  int
	program *ebpf.Program
	drain   *ebpf.Map
	slots   []Slot
}

func mustChooser(tb testing.TB, shards int) *chooser {
	tb.Helper()
	testutil.RequireBPF(tb)
	spec, err := loadSteer()
	require.NoError(tb, err)
	program := spec.Programs[steerProgChooseTest]
	require.NoError(tb, tailor(spec, shards))
	spec.Programs = map[string]*ebpf.ProgramSpec{steerProgChooseTest: program}
	coll, err := ebpf.NewCollection(spec)
	require.NoError(tb, err)
	tb.Cleanup(coll.Close)
	slots, err := mapTable(coll.Maps[steerMapSlots])
	require.NoError(tb, err)
	return &chooser{
		shards: shards, program: coll.Programs[steerProgChooseTest],
		drain: coll.Maps[steerMapDrain], slots: slots.slice(shards),
	}
}

func (c *chooser) run(tb testing.TB, start int) (shard int, draining bool) {
	tb.Helper()
	args := steerChooseArgs{Start: uint32(start)}
	ret, err := c.program.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	require.NoError(tb, err)
	require.Zero(tb, ret)
	require.Zero(tb, args.Failed)
	return int(args.Shard), args.Draining != 0
}

// setLoad makes a load out of all four figures.
func (c *chooser) setLoad(shard int, load int64, r *rand.Rand) {
	cells := c.slots[shard].cells
	migrated, closed, correction := uint64(r.IntN(1000)), uint64(r.IntN(1_000_000)), int64(r.IntN(2000)-1000)
	atomic.StoreUint64(&cells.Migrated, migrated)
	atomic.StoreUint64(&cells.Closed, closed)
	atomic.StoreUint64(&cells.Correction, uint64(correction))
	atomic.StoreUint64(&cells.Picked, uint64(load)+closed+uint64(correction)-migrated)
}

func (c *chooser) setDrain(tb testing.TB, shard int, value uint32) {
	tb.Helper()
	require.NoError(tb, c.drain.Put(uint32(shard), value))
}

// want is the choice as it is described: of the shards that do not drain, or of
// all when all do, the least loaded; among equals the first from start on.
func want(loads []int64, drains []bool, start int) (shard int, draining bool) {
	best, drainingBest := -1, -1
	for i := range loads {
		shard := (start + i) % len(loads)
		if drainingBest < 0 || loads[shard] < loads[drainingBest] {
			drainingBest = shard
		}
		if !drains[shard] && (best < 0 || loads[shard] < loads[best]) {
			best = shard
		}
	}
	if best < 0 {
		return drainingBest, true
	}
	return best, false
}

func TestChoose(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 7, 8, 64, 255, routing.ShardsMax} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			c := mustChooser(t, shards)
			r := rand.New(rand.NewPCG(uint64(shards), 1))
			for round := range 200 {
				// Few different loads make ties; a drain of all, of none and of some.
				span, offset := int64(1)<<r.IntN(33), int64(r.IntN(3)-1)<<r.IntN(33)
				draining := []float64{0, 0.1, 0.5, 0.95, 1}[round%5]
				loads, drains := make([]int64, shards), make([]bool, shards)
				for i := range shards {
					loads[i], drains[i] = r.Int64N(span)+offset, r.Float64() < draining
					c.setLoad(i, loads[i], r)
					c.setDrain(t, i, 0)
					if drains[i] {
						c.setDrain(t, i, []uint32{1, 2, 200, ^uint32(0)}[r.IntN(4)])
					}
				}
				start := r.IntN(shards)
				shard, all := c.run(t, start)
				wantShard, wantAll := want(loads, drains, start)
				require.Equal(t, wantShard, shard, "loads %d drain %v start %d", loads, drains, start)
				require.Equal(t, wantAll, all, "loads %d drain %v start %d", loads, drains, start)
			}
		})
	}
}

func TestChooseTable(t *testing.T) {
	c := mustChooser(t, 4)
	for _, tt := range []struct {
		name     string
		loads    []int64
		drains   []bool
		start    int
		shard    int
		draining bool
	}{
		{"empty", []int64{0, 0, 0, 0}, []bool{false, false, false, false}, 0, 0, false},
		{"least", []int64{5, 4, 3, 4}, []bool{false, false, false, false}, 0, 2, false},
		{"tie at start", []int64{1, 0, 0, 0}, []bool{false, false, false, false}, 2, 2, false},
		{"tie behind start", []int64{0, 0, 1, 1}, []bool{false, false, false, false}, 2, 0, false},
		{"below zero", []int64{0, -1, 3, -5}, []bool{false, false, false, false}, 0, 3, false},
		{"least drains", []int64{5, 4, 3, 4}, []bool{false, false, true, false}, 0, 1, false},
		{"least drains, tie", []int64{5, 4, 3, 4}, []bool{false, false, true, false}, 2, 3, false},
		{"least drains, others below zero", []int64{-1, -2, -5, -3}, []bool{false, false, true, false}, 0, 3, false},
		{"one is left, below zero", []int64{-9, -9, -9, -1}, []bool{true, true, true, false}, 0, 3, false},
		{"one is left", []int64{0, 0, 0, 1_000_000}, []bool{true, true, true, false}, 1, 3, false},
		{"all drain", []int64{5, 4, 3, 4}, []bool{true, true, true, true}, 0, 2, true},
		{"all drain, tie", []int64{0, 0, 0, 0}, []bool{true, true, true, true}, 3, 3, true},
		{"all drain, below zero", []int64{-1, -2, -5, -3}, []bool{true, true, true, true}, 0, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for i, load := range tt.loads {
				c.setLoad(i, load, r)
				require.Equal(t, load, c.slots[i].Load(), "Go and C count alike")
				c.setDrain(t, i, 0)
				if tt.drains[i] {
					c.setDrain(t, i, 1)
				}
			}
			shard, draining := c.run(t, tt.start)
			require.Equal(t, tt.shard, shard)
			require.Equal(t, tt.draining, draining)
		})
	}
}

// Equal shards take turns as start does.
func TestChooseTies(t *testing.T) {
	c := mustChooser(t, 5)
	for _, drain := range []uint32{0, 1} {
		for i := range c.shards {
			c.setDrain(t, i, drain)
		}
		for start := range c.shards {
			shard, _ := c.run(t, start)
			require.Equal(t, start, shard)
		}
	}
}

// What the choice costs, as the kernel counts it (BPF_ENABLE_STATS): ns/run is
// without the system call that runs it, ns/op with it.
func BenchmarkChoose(b *testing.B) {
	for _, shards := range []int{1, 7, 64, routing.ShardsMax} {
		for _, drains := range []bool{false, true} {
			b.Run(fmt.Sprintf("shards=%d/drain=%v", shards, drains), func(b *testing.B) {
				c := mustChooser(b, shards)
				if drains {
					c.setDrain(b, 0, 1)
				}
				stats := mustStats(b)
				defer stats.Close()
				args := steerChooseArgs{}
				before, err := c.program.Stats()
				require.NoError(b, err)
				for b.Loop() {
					if _, err := c.program.Run(&ebpf.RunOptions{Context: &args}); err != nil {
						b.Fatal(err)
					}
				}
				after, err := c.program.Stats()
				require.NoError(b, err)
				b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount), "ns/run")
			})
		}
	}
}

func mustStats(tb testing.TB) io.Closer {
	tb.Helper()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	require.NoError(tb, err)
	return stats
}
