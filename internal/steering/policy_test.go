package steering

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// Each policy by real connections, switched while the program runs.
func TestPolicies(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 4
	v := mustServe(t, shards, unpinned)
	use := func(policy steerPolicyKind, n int) []int {
		v.set("policy", 0, uint32(policy))
		v.dial(0, n, 1)
		got := v.accept(n)
		for shard, n := range got {
			v.end(shard, n) // The next policy begins with nobody there.
		}
		return got
	}
	require.Equal(t, []int{50, 50, 50, 50}, use(steerPolicyKindPOLICY_LEAST_LOADED, 200))

	for shard, weight := range []uint32{100, 200, 300, 0} {
		v.set("weight", shard, weight)
	}
	require.Equal(t, []int{100, 200, 300, 0}, use(steerPolicyKindPOLICY_WEIGHTED, 600))

	got := use(steerPolicyKindPOLICY_P2C, 400)
	require.LessOrEqual(t, slices.Max(got)-slices.Min(got), 12, "%d", got)

	// All shards belong to some CPU, and this thread's SYNs come in on one.
	v.set("cpu_local_bound", 0, 40)
	got = use(steerPolicyKindPOLICY_CPU_LOCAL, 200)
	require.LessOrEqual(t, slices.Max(got)-slices.Min(got), 41, "%d", got)

	got = use(steerPolicyKindPOLICY_HASH, 400)
	require.Greater(t, slices.Min(got), 50, "%d", got)

	count := v.counted()
	require.EqualValues(t, 200, count["picked_least_loaded"])
	require.EqualValues(t, 600, count["picked_weighted"])
	require.EqualValues(t, 400, count["picked_p2c"])
	require.EqualValues(t, 200, count["picked_cpu_local"]+count["picked_remote"])
	require.EqualValues(t, 400, count["picked_hash"])
}

// A connection goes to a shard of the CPU that it comes in on, until the bound.
func TestCPULocal(t *testing.T) {
	testutil.RequireBPF(t)
	var before unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &before))
	if before.Count() < 2 {
		t.Skip("needs two CPUs")
	}
	v := mustServe(t, 4, unpinned)
	v.set("policy", 0, uint32(steerPolicyKindPOLICY_CPU_LOCAL))
	v.set("cpu_local_bound", 0, 10)
	// Loopback's SYN is handled on the CPU of the thread that sends it.
	dial := func(n int) []int {
		done := make(chan error, 1)
		go func() { done <- dialOnCPU(t, v.groups[0].Address.String(), 1, n) }()
		require.NoError(t, <-done)
		return v.accept(n)
	}
	got := dial(20)
	require.Equal(t, []int{0, 10, 0, 10}, got)
	got = dial(8)
	require.NotZero(t, got[0]+got[2], "beyond the bound the others get some: %d", got)
}

// Shares by weight are within two connections or 2 %, at any moment from empty on.
func TestWeighted(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 16
	v := mustServe(t, shards, unpinned)
	v.set("policy", 0, uint32(steerPolicyKindPOLICY_WEIGHTED))
	r := rand.New(rand.NewPCG(3, 1))
	total := 0.0
	weights := make([]float64, shards)
	for shard := range shards {
		weights[shard] = float64(1 + r.IntN(1000))
		total += weights[shard]
		v.set("weight", shard, uint32(weights[shard]))
	}
	got := make([]int, shards)
	for sum := 0; sum < 4000; {
		n := 1 + r.IntN(800)
		v.dial(0, n, 4)
		sum += n
		for shard, n := range v.accept(n) {
			got[shard] += n
		}
		for shard, n := range got {
			share := float64(sum) * weights[shard] / total
			require.InDelta(t, share, n, max(2, share*0.02)+4, "after %d: %d", sum, got) // Four are on their way at once.
		}
	}
}

// Random sequences of connects and closes: every connection goes to a shard that has
// the least load of those that may take it, and what closes have left is filled up.
func TestProperty(t *testing.T) {
	testutil.RequireBPF(t)
	for _, shards := range []int{2, 3, 7, 64, routing.ShardsMax} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			v := mustServe(t, shards, unpinned)
			r := rand.New(rand.NewPCG(uint64(shards), 5))
			drained := make([]bool, shards)
			for range 40 {
				for shard := range shards { // Some drain, some end.
					if r.IntN(4) == 0 {
						drained[shard] = r.IntN(3) == 0
						v.set("drain", shard, map[bool]uint32{true: 1}[drained[shard]])
					}
					if r.IntN(3) == 0 {
						v.end(shard, r.IntN(len(v.accepted[shard])+1))
					}
				}
				for range r.IntN(2 * shards) {
					before := v.loads()
					v.dial(0, 1, 1)
					chosen := slices.Index(v.accept(1), 1)
					require.Equal(t, leastLoad(before, drained), before[chosen], "shard %d of %d, drained %v", chosen, before, drained)
					require.True(t, !drained[chosen] || !slices.Contains(drained, false))
				}
			}
			// What is missing to the fullest is filled, by several at once.
			for shard := range shards {
				v.set("drain", shard, 0)
			}
			loads := v.loads()
			missing := 0
			for _, load := range loads {
				missing += int(slices.Max(loads) - load)
			}
			v.dial(0, missing, 2)
			v.accept(missing)
			loads = v.loads()
			require.LessOrEqual(t, slices.Max(loads)-slices.Min(loads), int64(1+2), "%d", loads)
		})
	}
}

// One shard has lost all its connections and the others some: the next fill it up.
func TestRefill(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 7
	v := mustServe(t, shards, unpinned)
	v.dial(0, 2800, 4)
	v.accept(2800)
	v.end(0, len(v.accepted[0]))
	r := rand.New(rand.NewPCG(7, 1))
	for range 800 {
		v.end(1+r.IntN(shards-1), 1)
	}
	v.dial(0, 1200, 4) // As many as went.
	v.accept(1200)
	loads := v.loads()
	require.LessOrEqual(t, slices.Max(loads)-slices.Min(loads), int64(1+4), "%d: four were on their way at once", loads)
}

// leastLoad is the least load of the shards that do not drain, or of all when all do.
func leastLoad(loads []int64, drained []bool) int64 {
	var eligible []int64
	for shard, load := range loads {
		if !drained[shard] {
			eligible = append(eligible, load)
		}
	}
	if len(eligible) == 0 {
		eligible = loads
	}
	return slices.Min(eligible)
}

// A stalled shard gets nothing once its turn has lasted for the bound, then little,
// then its share.
func TestStall(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, bound, ramp = 4, 50 * time.Millisecond, 400 * time.Millisecond
	v := mustServeWith(t, shards, unpinned, func(o *Options) {
		o.Values["stall_bound"][0], o.Values["ramp"][0] = uint32(bound.Milliseconds()), uint32(ramp.Milliseconds())
	})
	v.dial(0, 40, 1)
	v.accept(40)
	slot := v.Slot(2)
	slot.BeginTurn(uint64(monotonic(t)))
	time.Sleep(bound + 20*time.Millisecond)
	picked := v.figures(2).Picked
	v.dial(0, 300, 2)
	require.Equal(t, picked, v.figures(2).Picked)
	v.accept(300)
	require.NotZero(t, v.counted()["skipped_stalled"])

	// All stall: they are taken as if none did.
	for shard := range routing.ShardID(shards) {
		v.Slot(shard).BeginTurn(1)
	}
	v.dial(0, 10, 1)
	v.accept(10)
	require.EqualValues(t, 10, v.counted()["picked_fallback"])
	for shard := range routing.ShardID(shards) {
		v.Slot(shard).BeginTurn(0)
	}

	// It is back, far below the others: but not all go there while it ramps.
	slot.BeginTurn(uint64(monotonic(t)) - uint64(time.Second))
	slot.EndTurn(0, 0, uint64(time.Second))
	slot.BeginTurn(0)
	before := v.figures(2)
	began := time.Now()
	v.dial(0, 60, 1)
	v.accept(60)
	if took := time.Since(began); took < ramp/2 {
		require.LessOrEqual(t, v.figures(2).Picked-before.Picked, uint64(30), "of 60 within %v", took)
	}
	time.Sleep(ramp)
	before = v.figures(2)
	v.dial(0, 30, 1)
	require.EqualValues(t, 30, v.figures(2).Picked-before.Picked)
}

// A shard that does not accept gets no more once pending_max wait for it.
func TestPendingMax(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, unpinned)
	v.dial(0, 60, 1)
	v.accept(60)
	v.end(1, 20)
	v.set("pending_max", 0, 5)
	v.dial(0, 16, 1) // Six to shard 1 until that has more than five; the others take the rest.
	require.EqualValues(t, 6, v.figures(1).Pending())
	got := v.accept(16)
	require.Equal(t, []int{5, 6, 5}, got)
	v.dial(0, 3, 1)
	require.Equal(t, []int{0, 3, 0}, v.accept(3), "it has accepted, so it is in again")
}
