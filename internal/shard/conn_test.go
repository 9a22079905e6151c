package shard

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A connection's entry in the slab is nearly all that an idle one costs in user space.
func TestConnSize(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(conn{}), uintptr(160))
	require.LessOrEqual(t, unsafe.Sizeof(chunk{}), uintptr(40))
}

// A connection knows which of the shard's listeners accepted it.
func TestConnKnowsItsListener(t *testing.T) {
	second, address := listenTCP(t, 0)
	r := newStepped(t, func(o *Options) { o.Listeners = append(o.Listeners, second) })
	r.during(func() {
		r.dial("/ws?channel=a")
		r.address = address
		r.dial("/ws?channel=a")
	})
	require.Zero(t, r.shard.slab.get(0).listener)
	require.EqualValues(t, 1, r.shard.slab.get(1).listener)
}

// Each dialect says everything that the shard asks of one.
func TestDialectsAreComplete(t *testing.T) {
	for v := range dialects {
		d := &dialects[v]
		require.NotNil(t, d.layout, v)
		require.NotNil(t, d.value, v)
		require.NotNil(t, d.closeCode, v)
		require.False(t, d.takesCommands && d.encoding == nil, "%d: commands need an encoding", v)
		require.Equal(t, d.encoding != nil, d.ping != nil, "%d: a ping in-band needs an encoding", v)
	}
}

// While a channel's subscribers are walked, nothing may change them.
func TestWalkIsGuarded(t *testing.T) {
	r := newStepped(t, nil)
	r.during(func() { r.join("a", "b") })
	s, c := r.shard, r.shard.slab.get(0)
	s.channels.walking = c.subs[0].channel + 1
	require.PanicsWithValue(t, "BUG: a subscriber leaves a channel while its subscribers are walked", func() {
		s.channels.unsubscribe(c, 0, false)
	})
	s.channels.unsubscribe(c, 1, false) // Another channel's.
	s.channels.walking = 0
	s.channels.unsubscribe(c, 0, false)
}
