package steering

import (
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// figures are what one call of Correct finds at a shard.
type figures struct {
	picked, migrated, closed uint64
	owned                    int64
}

// steady is the same figures at n calls.
func steady(n int, f figures) []figures {
	all := make([]figures, n)
	for i := range all {
		all[i] = f
	}
	return all
}

// then puts the figures of one call in the place of the i-th.
func then(calls []figures, i int, f figures) []figures {
	calls[i] = f
	return calls
}

func memorySteering(shards int, mode string) *Steering {
	return &Steering{status: Status{Mode: mode}, slots: memoryTable().slice(shards), drifts: make([]drift, shards)}
}

func set(slot *Slot, f figures) {
	slot.cells.Picked, slot.cells.Migrated, slot.cells.Closed = f.picked, f.migrated, f.closed
}

func TestCorrect(t *testing.T) {
	for _, c := range []struct {
		name       string
		calls      []figures
		correction int64
		load       int64
	}{
		{"nothing to do", steady(30, figures{picked: 10, closed: 4, owned: 6}), 0, 6},
		{"never came, too early", steady(9, figures{picked: 10, owned: 7}), 0, 10},
		{"never came", steady(10, figures{picked: 10, owned: 7}), 3, 7},
		{"corrected once only", steady(40, figures{picked: 10, owned: 7}), 3, 7},
		{"never came, migrated", steady(10, figures{picked: 10, migrated: 5, owned: 7}), 8, 7},
		{"never picked", steady(10, figures{owned: 5}), -5, 5},
		{"never picked, too early", steady(9, figures{owned: 5}), 0, 0},
		{"never picked and gone", steady(10, figures{closed: 5}), -5, 0},
		{"never picked, some gone", steady(10, figures{picked: 2, closed: 5, owned: 4}), -7, 4},
		{"load below zero before", steady(9, figures{closed: 5}), 0, -5},
		{"in flight, gone at one call", then(steady(10, figures{picked: 20, owned: 10}), 4, figures{picked: 20, owned: 20}), 0, 20},
		{"in flight, gone at the first", then(steady(10, figures{picked: 20, owned: 10}), 0, figures{picked: 20, owned: 20}), 0, 20},
		{"in flight, gone at the last", then(steady(10, figures{picked: 20, owned: 10}), 9, figures{picked: 20, owned: 20}), 0, 20},
		{"in flight beside some that never came", then(steady(10, figures{picked: 20, owned: 10}), 4, figures{picked: 20, owned: 17}), 3, 17},
		{"new window after a calm one", append(steady(10, figures{picked: 10, owned: 10}), steady(10, figures{picked: 12, owned: 10})...), 2, 10},
		{"both ways, one after the other", append(steady(10, figures{picked: 10, owned: 7}), steady(10, figures{picked: 10, owned: 9})...), 1, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := memorySteering(3, Pinned)
			for _, f := range c.calls {
				set(s.Slot(1), f)
				s.Correct(func(id routing.ShardID) int64 {
					if id == 1 {
						return f.owned
					}
					return 0
				})
			}
			require.Equal(t, c.correction, s.Slot(1).Correction())
			require.Equal(t, c.load, s.Slot(1).Load())
			for _, other := range []routing.ShardID{0, 2} {
				require.Zero(t, s.Slot(other).Correction(), "shard %d had no drift", other)
			}
		})
	}
}

// Where the kernel's hash chooses, nothing is picked and all would look like drift.
func TestCorrectHash(t *testing.T) {
	s := memorySteering(1, Hash)
	for range 3 * correctionWindow {
		s.Correct(func(routing.ShardID) int64 { return 100 })
	}
	require.Zero(t, s.Slot(0).Correction())
}

// A connection that comes or goes while Correct reads must not look like drift:
// here one does at every call.
func TestCorrectWhileTheyCome(t *testing.T) {
	s := memorySteering(1, Pinned)
	slot := s.Slot(0)
	owned := int64(0)
	for i := range 10 * correctionWindow {
		s.Correct(func(routing.ShardID) int64 {
			before := owned
			slot.cells.Picked++ // It comes just after it was counted,
			owned++
			if i%2 == 1 {
				slot.AddClosed(1) // or goes just before, after the closed were read.
				owned--
				before = owned
			}
			return before
		})
		require.GreaterOrEqual(t, slot.Load(), int64(0))
	}
	require.GreaterOrEqual(t, slot.Correction(), int64(0), "none was seen that had not been picked")
	require.LessOrEqual(t, slot.Correction(), int64(1), "the one in flight at each call")
}

func TestSlot(t *testing.T) {
	s := memorySteering(2, Hash)
	slot := s.Slot(1)
	slot.AddClosed(2)
	slot.AddClosed(3)
	slot.SetBusySince(7)
	require.EqualValues(t, 5, slot.Closed())
	require.EqualValues(t, 7, slot.BusySince())
	require.EqualValues(t, -5, slot.Load())
	require.Zero(t, s.Slot(0).Load())
	require.PanicsWithValue(t, "BUG: slot of shard 2, there are 2", func() { s.Slot(2) })
}
