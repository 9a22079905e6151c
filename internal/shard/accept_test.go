package shard

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A turn takes one connection, more where turn after turn has some, and all that it may behind a turn that took long.
func TestAcceptsByNeed(t *testing.T) {
	r := newStepped(t, nil)
	stats := r.shard.Stats()
	dial := func(n int) {
		for range n {
			c, err := net.Dial("tcp", r.address)
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	step := func(before uint64) uint64 { // before: nanoseconds of the turn before.
		was := stats.Accepted.Load()
		stats.TurnLastNanos.Store(before)
		r.step()
		return stats.Accepted.Load() - was
	}

	dial(acceptsPerTurn + 2)
	require.EqualValues(t, 1, step(0))
	require.EqualValues(t, acceptsPerTurn, step(uint64(longTurn)))
	require.EqualValues(t, 1, step(0))
	require.Zero(t, step(0))

	const many = 500
	dial(many)
	turns, last, all := 0, uint64(1), uint64(0)
	for all < many {
		n := step(0)
		require.Positive(t, n)
		if all+n < many {
			require.GreaterOrEqual(t, n, last, "it takes more and more")
		}
		last = n
		all += n
		turns++
	}
	require.LessOrEqual(t, turns, 60)
	require.Zero(t, step(0))
	dial(3)
	require.EqualValues(t, 1, step(0), "a new start")
	require.EqualValues(t, 1, step(0))
	require.EqualValues(t, 1, step(0))
}
