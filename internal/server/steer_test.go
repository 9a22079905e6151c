package server

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/steering"
	"wsd/internal/testutil"
)

// Every client lands on the least loaded shard, as the shard itself says in the 101, and those that leave make room.
func TestSteering(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, each = 7, 300
	r := newRig(t, map[string]any{
		"shards": fmt.Sprint(shards), "steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t),
		"steering.stall_bound": "0s", // By load alone, also on a machine that makes turns long.
	})
	require.Equal(t, steering.Pinned, r.server.Health().Steering.Mode)
	clients := make(map[string][]*client)
	for range shards * each {
		c := r.dial("/ws?channel=a")
		clients[c.shard] = append(clients[c.shard], c)
	}
	for id := range shards {
		require.Len(t, clients[fmt.Sprint(id)], each)
	}
	for _, c := range clients["3"] {
		c.conn.Close()
	}
	r.eventually("shard 3 is empty", func() bool { s := r.server.Health().Shards[3]; return s.Connections == 0 && s.Load == 0 })
	for range each {
		require.Equal(t, "3", r.dial("/connection/websocket").shard)
	}
	for _, s := range r.server.Health().Shards {
		require.EqualValues(t, each, s.Connections)
		require.EqualValues(t, each, s.Load)
	}
}
