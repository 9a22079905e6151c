package shard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// Where a channel is kept may be told of another shard: what is at that place here is not taken for it.
func TestPlaceOfAnotherShard(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.dial("/ws?channel=a"), r.dial("/ws?channel=b&channel=c")
	eventually(t, "subscribed", func() bool { return r.shard.Stats().Subscriptions.Load() == 3 })
	for _, at := range []uint32{0, 1, 2, 3, 1 << 31, 1<<32 - 1} {
		r.interest.Add("b", 1, at)
		r.publish("b", "for b")
		require.Equal(t, "for b", b.message(wire.EventText))
	}
	r.publish("a", "for a")
	require.Equal(t, "for a", a.message(wire.EventText))
	r.interest.Remove("b", 1)
}
