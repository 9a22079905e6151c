package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// What is kept of an incomplete message is in the sum, which each step compares, and out of it when the connection
// ends.
func TestFragmentsAreCounted(t *testing.T) {
	const size = 10_000
	r := newStepped(t, nil)
	var c *client
	r.during(func() { c = r.join() })
	fragment := masked(strings.Repeat("x", size))
	fragment[0] &^= 0x80 // Not the last one.
	c.write(fragment)
	eventually(t, "kept", func() bool { r.step(); return r.shard.inbound.bytes >= size })
	r.shard.end(r.shard.slab.get(0), ReasonShutdown)
	r.step()
	require.Zero(t, r.shard.inbound.bytes)
}

// The loop does not sleep while input waits that no socket will tell of.
func TestLoopGoesOnWithWhatWaits(t *testing.T) {
	const commands = 2 * workShare
	r := newRig(t, func(o *Options) { o.Limits.PingInterval = 24 * time.Hour }) // Which would wake the loop.
	c := r.join()
	c.send(ws.OpText, strings.TrimSuffix(strings.Repeat(`{"id":2,"rpc":{}}`+"\n", commands), "\n"))
	require.Len(t, c.lines(commands), commands)
	require.NotZero(t, r.shard.Stats().PutOff.Load())
}
