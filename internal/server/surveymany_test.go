package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/control"
	"wsd/internal/shard"
)

// With more channels than a shard describes, each counts once in the total, and those that are described have the sums of
// all shards, also of those on which they do not come first.
func TestSurveyOfManyChannels(t *testing.T) {
	const shards, clients, each = 4, 24, 300
	r := newRig(t, map[string]any{"shards": fmt.Sprint(shards), "client.channels_max": "400", "limits.commands_rate": "100000"})
	r.ready()
	want := make(map[string]*control.ChannelState)
	on := make(map[string]map[string]bool)
	add := func(c *client, from, to int) {
		var commands strings.Builder
		for i := from; i < to; i++ {
			channel := fmt.Sprintf("c%d", i)
			fmt.Fprintf(&commands, `{"id":%d,"subscribe":{"channel":%q}}`+"\n", i+2, channel)
			if want[channel] == nil {
				want[channel], on[channel] = &control.ChannelState{Channel: channel}, make(map[string]bool)
			}
			want[channel].Subscribers++
			on[channel][c.shard] = true
		}
		c.send(commands.String())
		for range to - from {
			require.Contains(t, c.reply(), `"subscribe":{`)
		}
	}
	for i := range clients { // Each channel has some three subscribers, on one to three shards.
		c := r.join()
		add(c, i*each/3, i*each/3+each)
	}
	for channel := range want {
		want[channel].Shards = len(on[channel])
	}
	require.Greater(t, clients/shards*each, shard.SurveyMax, "the shards describe a part")
	for _, q := range []control.ChannelsQuery{{Max: 1000}, {Max: 1000, Prefix: "c1"}, {Max: 7}, {Max: 1000, ByTraffic: true}} {
		state, err := r.server.Channels(t.Context(), q)
		require.NoError(t, err)
		fit := 0
		for channel := range want {
			if strings.HasPrefix(channel, q.Prefix) {
				fit++
			}
		}
		require.Equal(t, fit, state.Total, "%v", q)
		require.False(t, state.AtLeast)
		require.Equal(t, control.Unheard{Missing: []int{}, Busy: []int{}}, state.Unheard)
		require.Len(t, state.Channels, min(q.Max, fit))
		for i, c := range state.Channels {
			require.Equal(t, *want[c.Channel], c, "%v, on shards %v", q, on[c.Channel])
			require.True(t, i == 0 || q.ByTraffic || c.Subscribers <= state.Channels[i-1].Subscribers, "in order")
		}
	}
}

// Too many surveys at once are not taken for a shard in a long turn, and the answer says that its total may be too small.
func TestTooManySurveys(t *testing.T) {
	s := &stalling{open: make(chan struct{})}
	s.rig = newRigWith(t, hooks{positions: gated(s.open)}, map[string]any{"bus.stall_max": "50s"})
	t.Cleanup(s.release)
	s.ready()
	s.stall()
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 100 { // More than a shard takes at once.
		asking.Go(func() { _, _ = s.server.Clients(ctx, control.ClientsQuery{Max: 1}) })
	}
	s.eventually("the shard takes no more", func() bool {
		short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer stop()
		_, err := s.server.shards[s.victim].Channels(short, shard.ChannelQuery{Max: 1})
		return errors.Is(err, shard.ErrSurveys)
	})
	state, err := s.server.Channels(t.Context(), control.ChannelsQuery{Max: 1})
	require.NoError(t, err)
	require.Equal(t, control.Unheard{Missing: []int{}, Busy: []int{int(s.victim)}}, state.Unheard)
	require.True(t, state.AtLeast)
	cancel()
	asking.Wait()
	s.release()
	s.eventually("all shards answer again", func() bool {
		state, err := s.server.Clients(t.Context(), control.ClientsQuery{Max: 1})
		require.NoError(t, err)
		return !state.AtLeast && state.Total == 1
	})
}
