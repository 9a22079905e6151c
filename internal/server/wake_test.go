package server

import (
	"fmt"
	"maps"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A record wakes the shards with a subscriber of its channel, and no other.
func TestOnlySubscribersWake(t *testing.T) {
	r := newRig(t, map[string]any{"shards": "8", "routes": []string{"c.{key}"}})
	r.ready()
	var clients []*client
	for i := range 4 {
		clients = append(clients, r.dial(fmt.Sprintf("/ws?channel=c.%d", i)))
	}
	r.eventually("subscribed", func() bool { return r.subscriptions() == 4 })
	settled := r.wakeups()
	r.eventually("settled", func() bool {
		last := settled
		settled = r.wakeups()
		return maps.Equal(last, settled)
	})
	with := map[string]bool{}
	for _, s := range r.server.Health().Shards {
		if s.Subscriptions > 0 {
			with[fmt.Sprint(s.ID)] = true
		}
	}
	const records = 50
	for n := range records {
		for i, c := range clients {
			value := fmt.Sprint(n)
			r.produce("a", fmt.Sprint(i), value)
			require.Equal(t, value, c.message())
		}
	}
	for id, n := range r.wakeups() {
		if !with[id] {
			require.Equal(t, settled[id], n, "shard %s", id)
		}
	}
}

var wakeupsLine = regexp.MustCompile(`(?m)^wsd_shard_wakeups_total\{shard="(\d+)"\} (\S+)$`)

// wakeups is wsd_shard_wakeups_total by shard.
func (r *rig) wakeups() map[string]string {
	_, text := r.get("/metrics")
	all := map[string]string{}
	for _, m := range wakeupsLine.FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[2]
	}
	require.NotEmpty(r.t, all)
	return all
}
