package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// pinRig has a client that reads nothing on each of the channels, whose batches the ring has let go but for the last
// 20.
func pinRig(t *testing.T, pinnedMax int, channels ...string) *rig {
	t.Helper()
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Limits.PinnedMax = 8<<20, pinnedMax })
	r.during(func() {
		for _, channel := range channels {
			r.dial("/ws?channel=" + channel)
		}
		r.dial("/ws?channel=z")
	})
	seen := map[string]bool{}
	for _, channel := range channels {
		if seen[channel] {
			continue
		}
		seen[channel] = true
		for range 20 {
			r.publish(channel, strings.Repeat("1", 64<<10))
			r.step()
		}
	}
	for n := range 64 { // What the ring has room for.
		r.publish("z", fmt.Sprint(n))
		r.step()
	}
	return r
}

// What several connections hold counts once, and no longer than one of them does.
func TestPinnedBytes(t *testing.T) {
	r := pinRig(t, 1<<40, "a", "a", "a")
	stats := r.ring.Stats()
	pinned := stats.PinnedBytes.Load()
	require.Greater(t, pinned, int64(15*64<<10), "the kernel has the rest")
	require.Less(t, pinned, int64(20*65<<10))
	for _, slot := range []uint32{0, 1} {
		r.shard.abort(r.shard.slab.get(slot))
		require.Equal(t, pinned, stats.PinnedBytes.Load())
	}
	r.shard.abort(r.shard.slab.get(2))
	require.Zero(t, stats.PinnedBytes.Load())
}

// Beyond the limit those that hold the oldest batches are closed, and nobody else.
func TestPinnedMax(t *testing.T) {
	r := pinRig(t, 1500<<10, "a", "a", "b", "c")
	s := r.shard
	eventually(t, "below", func() bool { r.step(); return r.ring.Stats().PinnedBytes.Load() <= 1500<<10 })
	for slot, open := range []bool{false, false, false, true, true} {
		require.Equal(t, open, s.slab.get(uint32(slot)).isClient(), "the client of slot %d", slot)
	}
	require.EqualValues(t, 3, s.stats.Slow[PolicyDisconnect].Load())
	require.Positive(t, r.ring.Stats().PinnedBytes.Load(), "those of c")
	require.NotEqual(t, bus.StateDetached, func() bus.State { _, state := s.opts.Cursor.Next(); return state }())
}
