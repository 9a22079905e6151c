package shrink

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// heap returns the bytes in use, when nothing is left to be collected.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 >> 32 }

// Against a plain map, with a size that goes up and down through all shapes of the table.
func TestTableModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	table, model := NewTable[uint64, int](hash), map[uint64]int{}
	for round := range 6 {
		grow := []int{7, 3, 9, 2, 6, 0}[round]
		for i := range 60_000 {
			key := random.Uint64N(20_000)
			if random.IntN(10) < grow {
				table.Set(key, i)
				model[key] = i
			} else {
				table.Delete(key)
				delete(model, key)
			}
			if i%1000 > 0 {
				continue
			}
			require.Equal(t, len(model), table.Len())
			all := map[uint64]int{}
			table.All(func(key uint64, value int) bool { all[key] = value; return true })
			require.Equal(t, model, all)
			for range 100 {
				key := random.Uint64N(20_000)
				want, wantOK := model[key]
				got, ok := table.Get(key)
				require.Equal(t, wantOK, ok)
				require.Equal(t, want, got)
			}
		}
	}
	n := 0
	table.All(func(uint64, int) bool { n++; return false })
	require.LessOrEqual(t, n, 1)
}

// Whatever is left, the memory is that of what is left, and no deletion copies more than a part.
func TestTableGivesBack(t *testing.T) {
	const many = 400_000
	empty := heap()
	table := NewTable[uint64, uint64](hash)
	for key := range uint64(many) {
		table.Set(key, key)
	}
	full := heap() - empty
	for _, left := range []uint64{many / 10, many / 100, 0} {
		for key := left; key < many; key++ {
			table.Delete(key)
		}
		most := full*int64(left)/many*fewPart + 64<<10
		require.LessOrEqual(t, heap()-empty, most, "%d of %d are left", left, many)
	}
	require.Len(t, table.parts, 1)
	runtime.KeepAlive(table)
}

// A map that has become empty, or nearly, has no memory of its peak.
func TestMapGivesBack(t *testing.T) {
	const many = 200_000
	empty := heap()
	m, peak := make(map[int]int), 0
	for i := range many {
		m[i] = i
		Map(&m, &peak, keepMost)
	}
	require.Greater(t, heap()-empty, int64(many*16))
	for i := range many - 10 {
		delete(m, i)
		Map(&m, &peak, keepMost)
	}
	require.Len(t, m, 10)
	require.Contains(t, m, many-1)
	require.Less(t, heap()-empty, int64(64<<10))
	runtime.KeepAlive(m)
}

func TestSlice(t *testing.T) {
	s := make([]int, 0, 10*keepMost)
	require.Nil(t, Slice(s, 5))
	require.Equal(t, cap(s), cap(Slice(s, 5*keepMost)))
	s = make([]int, 3, keepMost)
	require.Equal(t, keepMost, cap(Slice(s, 0)))
	require.Empty(t, Slice(s, 0))
}
