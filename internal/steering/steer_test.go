package steering

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// unpinned is a pin directory that is none, for tests that want no pins.
const unpinned = "relative"

func TestPlacement(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, each = 7, 1000
	v := mustServe(t, shards, unpinned)
	v.dial(0, shards*each, 4)
	for shard, n := range v.accept(shards * each) {
		require.InDelta(t, each, n, 1, "shard %d", shard)
		require.EqualValues(t, n, v.figures(shard).Picked)
	}
	require.Equal(t, map[string]uint64{"picked_least_loaded": shards * each}, v.counted())

	// What one shard loses, the next clients fill up there.
	v.end(3, 300)
	v.dial(0, 250, 1)
	require.Equal(t, []int{0, 0, 0, 250, 0, 0, 0}, v.accept(250))
	v.dial(0, 50, 1)
	v.accept(50)
	loads := v.loads()
	require.LessOrEqual(t, slices.Max(loads)-slices.Min(loads), int64(1), "%d", loads)
}

func TestDrain(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t))
	drain, err := ebpf.LoadPinnedMap(filepath.Join(v.Status().PinPath, "drain"), nil)
	require.NoError(t, err)
	defer drain.Close()

	require.NoError(t, drain.Put(uint32(1), uint32(1)))
	v.dial(0, 30, 1)
	require.Equal(t, []int{15, 0, 15}, v.accept(30))

	// All drain, so none does; the empty one comes first.
	require.NoError(t, drain.Put(uint32(0), uint32(200)))
	require.NoError(t, drain.Put(uint32(2), uint32(1)))
	v.dial(0, 15, 1)
	require.Equal(t, []int{0, 15, 0}, v.accept(15))

	require.NoError(t, drain.Put(uint32(2), uint32(0)))
	v.dial(0, 5, 1)
	require.Equal(t, []int{0, 0, 5}, v.accept(5))
	require.Equal(t, map[string]uint64{"picked_least_loaded": 35, "picked_fallback": 15}, v.counted())

	require.Error(t, drain.Put(uint32(3), uint32(1)), "there is no shard 3")
}

func TestStrays(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, unpinned)
	v.dial(0, 3, 1)
	v.accept(3)
	for i := range 100 {
		stray(t, v.groups[0].Address, uint16(20000+i))
	}
	require.Eventually(t, func() bool { return v.counted()["placed"] >= 100 }, 5*time.Second, time.Millisecond)
	require.Equal(t, map[string]uint64{"picked_least_loaded": 3, "placed": 100}, v.counted())
	require.Equal(t, []int64{1, 1, 1}, v.loads())
}

// The attach type alone makes connections move: net.ipv4.tcp_migrate_req is off
// by default.
func TestMigrate(t *testing.T) {
	testutil.RequireBPF(t)
	for _, drained := range []bool{true, false} {
		t.Run(fmt.Sprintf("drained=%v", drained), func(t *testing.T) {
			v := mustServe(t, 4, testutil.BPFFS(t))
			clients := v.dial(0, 200, 1)
			if drained {
				drain, err := ebpf.LoadPinnedMap(filepath.Join(v.Status().PinPath, "drain"), nil)
				require.NoError(t, err)
				defer drain.Close()
				require.NoError(t, drain.Put(uint32(1), uint32(1)))
			}
			v.closeListener(1)
			got := v.accept(200)
			v.hello(clients)

			count := v.counted()
			require.EqualValues(t, 200, count["picked_least_loaded"])
			require.EqualValues(t, 50, count["migrated"]+count["select_failed"])
			var migrated uint64
			for i := range 4 {
				migrated += v.figures(i).Migrated
			}
			require.Equal(t, count["migrated"], migrated)
			if drained {
				require.Zero(t, count["select_failed"])
				require.Zero(t, got[1])
				for _, shard := range []int{0, 2, 3} {
					require.InDelta(t, 200/3.0, got[shard], 1, "placed by load: %d", got)
				}
			}
		})
	}
}

func TestAddressesShareLoad(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t), "127.0.0.1:0", "[::1]:0", "127.0.0.2:0")
	v.dial(1, 1, 1)
	v.dial(0, 1, 1)
	v.dial(2, 1, 1)
	require.Equal(t, []int{1, 1, 1}, v.accept(3))
	v.dial(1, 30, 1)
	require.Equal(t, []int{10, 10, 10}, v.accept(30))
	v.end(2, 5)
	v.dial(2, 5, 1)
	require.Equal(t, []int{0, 0, 5}, v.accept(5), "what ended at any address makes room at each")
	require.Equal(t, map[string]uint64{"picked_least_loaded": 38}, v.counted())
}

// A wildcard takes both families with one group.
func TestWildcard(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned, ":0")
	port := v.groups[0].Address.Port()
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		mustDial(t, fmt.Sprintf("%s:%d", host, port))
	}
	require.Equal(t, []int{1, 1}, v.accept(2))
}

func TestMostShards(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, routing.ShardsMax, unpinned)
	v.dial(0, 2*routing.ShardsMax, 1)
	for shard, n := range v.accept(2 * routing.ShardsMax) {
		require.Equal(t, 2, n, "shard %d", shard)
	}
}

// Shards report to the end, and listeners are steered as long as they are open.
func TestAfterClose(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned)
	v.dial(0, 4, 1)
	v.accept(4)
	require.NoError(t, v.Close())
	require.NoError(t, v.Close(), "twice is once")
	v.end(1, 1)
	require.Equal(t, []int64{2, 1}, v.loads())
	v.dial(0, 1, 1)
	require.Equal(t, []int{0, 1}, v.accept(1))
	require.Equal(t, map[string]uint64{"picked_least_loaded": 4}, v.counted(), "what was counted until Close")
}
