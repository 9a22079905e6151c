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
		require.EqualValues(t, n, v.Slot(routing.ShardID(shard)).Picked())
	}
	require.Equal(t, Counters{Picked: shards * each}, v.Counters())

	// What one shard loses, the next clients fill up there.
	v.Slot(3).AddClosed(300)
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
	require.Equal(t, Counters{Picked: 35, PickedDraining: 15}, v.Counters())

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
	require.Eventually(t, func() bool { return v.Counters().Placed >= 100 }, 5*time.Second, time.Millisecond)
	require.Equal(t, Counters{Picked: 3, Placed: 100}, v.Counters())
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

			count := v.Counters()
			require.EqualValues(t, 200, count.Picked)
			require.EqualValues(t, 50, count.Migrated+count.SelectFailed)
			var migrated uint64
			for i := range routing.ShardID(4) {
				migrated += v.Slot(i).Migrated()
			}
			require.Equal(t, count.Migrated, migrated)
			if drained {
				require.Zero(t, count.SelectFailed)
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
	v.Slot(2).AddClosed(5)
	v.dial(2, 5, 1)
	require.Equal(t, []int{0, 0, 5}, v.accept(5), "what ended at any address makes room at each")
	require.Equal(t, Counters{Picked: 38}, v.Counters())
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
	v.Slot(1).AddClosed(1)
	require.Equal(t, []int64{2, 1}, v.loads())
	v.dial(0, 1, 1)
	require.Equal(t, []int{0, 1}, v.accept(1))
	require.Equal(t, Counters{Picked: 4}, v.Counters(), "what was counted until Close")
}

// Connections that were there before Start have no pick; Correct finds them.
func TestCorrectLate(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned)
	for range correctionWindow {
		v.Correct(func(id routing.ShardID) int64 { return int64(id) * 10 })
	}
	require.Equal(t, []int64{0, 10}, v.loads())
	v.dial(0, 10, 1)
	require.Equal(t, []int{10, 0}, v.accept(10))
}
