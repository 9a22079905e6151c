package shard

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A turn takes one connection, but all that it may behind a long turn, and where epoll cannot tell everything at once.
func TestAcceptsByNeed(t *testing.T) {
	r := newStepped(t, nil)
	stats := r.shard.Stats()
	for range 3*acceptsPerTurn + 2 {
		c, err := net.Dial("tcp", r.address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	accepted := func(do func()) uint64 {
		was := stats.Accepted.Load()
		do()
		return stats.Accepted.Load() - was
	}
	step := func(before uint64) uint64 { // before: nanoseconds of the turn before.
		return accepted(func() {
			stats.TurnLastNanos.Store(before)
			r.step()
		})
	}
	require.EqualValues(t, 1, step(0))
	require.EqualValues(t, 1, step(uint64(longTurn)-1))
	require.EqualValues(t, acceptsPerTurn, step(uint64(longTurn)))
	stats.TurnLastNanos.Store(0)
	require.EqualValues(t, acceptsPerTurn, accepted(func() { r.shard.acceptReady(0, true) }))
	require.EqualValues(t, 1, accepted(func() { r.shard.acceptReady(0, false) }))
	require.EqualValues(t, acceptsPerTurn-1, step(uint64(longTurn)), "there are no more")
	require.Zero(t, step(0))
}
