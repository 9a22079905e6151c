package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"wsd/internal/control"
)

// What the control socket says of clients and channels is the sum of all shards.
func TestSurvey(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	joined, on := 0, make(map[string]bool)
	for ; joined < 7 || len(on) < 3; joined++ { // The kernel's hash may pick any shard.
		on[r.join("a", "b").shard] = true
	}
	r.dial("/ws?channel=b")
	r.produce("a", "", `1`, `2`)
	require.Len(t, r.server.shards, 3)

	clients, err := control.Clients(t.Context(), r.socket(), control.ClientsQuery{Max: 5})
	require.NoError(t, err)
	require.Equal(t, joined+1, clients.Total)
	require.Len(t, clients.Clients, 5)
	require.Empty(t, clients.Missing)
	shards := make(map[int]int)
	all, err := control.Clients(t.Context(), r.socket(), control.ClientsQuery{Max: control.SurveyMax})
	require.NoError(t, err)
	for _, c := range all.Clients {
		shards[c.Shard]++
		one, err := control.Clients(t.Context(), r.socket(), control.ClientsQuery{Client: c.Client, Max: 1})
		require.NoError(t, err)
		require.Len(t, one.Clients, 1)
		require.Len(t, one.Clients[0].Subscribed, c.Channels)
		one.Clients[0].Subscribed = nil
		require.Equal(t, c, one.Clients[0])
	}
	require.Len(t, shards, 3)
	raw, err := control.Clients(t.Context(), r.socket(), control.ClientsQuery{Channel: "b", Max: 10})
	require.NoError(t, err)
	require.Equal(t, joined+1, raw.Total)

	r.eventually("both records are counted", func() bool {
		channels, err := control.Channels(t.Context(), r.socket(), control.ChannelsQuery{Max: 10, ByTraffic: true})
		require.NoError(t, err)
		require.Equal(t, 2, channels.Total)
		require.Equal(t, control.ChannelState{Channel: "b", Subscribers: joined + 1, Shards: 3}, channels.Channels[1])
		return channels.Channels[0] == control.ChannelState{
			Channel: "a", Subscribers: joined, Shards: 3, Records: 2, Deliveries: 2 * uint64(joined),
		}
	})

	for query, want := range map[control.ClientsQuery]string{
		{Client: "x", Max: 1}:                                `client "x": not the id of a client of this process`,
		{Client: "00112233445566778899aabbccddeeff", Max: 1}: "not the id of a client of this process",
		{Max: 0}:    `max="0": must be from 1 to 1000`,
		{Max: 1001}: `max="1001": must be from 1 to 1000`,
	} {
		_, err := control.Clients(t.Context(), r.socket(), query)
		var refusal *control.Refusal
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, http.StatusBadRequest, refusal.Status)
		require.Contains(t, refusal.Text, want)
	}
}

// `wsd disconnect` closes all connections of a user, or one client, with the code and text that it is given.
func TestDisconnect(t *testing.T) {
	r := newRig(t, tokenFlags(nil))
	r.ready()
	var ann []*client
	for range 3 {
		c, reply := r.login(tokenFor(t, "sub", "ann"))
		require.Contains(t, reply, `"client":`)
		ann = append(ann, c)
	}
	bob, reply := r.login(tokenFor(t, "sub", "bob"))
	var id string
	_, err := fmt.Sscanf(reply[strings.Index(reply, `"client":`):], `"client":%q`, &id)
	require.NoError(t, err)
	closed := func(c *client, code int, reason string) {
		t.Helper()
		for {
			_, err := c.raw()
			if err == nil {
				continue
			}
			var end wsutil.ClosedError
			require.ErrorAs(t, err, &end)
			require.Equal(t, []any{code, reason}, []any{int(end.Code), end.Reason})
			return
		}
	}
	result, err := control.Disconnect(t.Context(), r.socket(), control.DisconnectRequest{User: "ann", Code: 4001, Reason: "bye"})
	require.NoError(t, err)
	require.Equal(t, "node", result.Scope)
	for _, c := range ann {
		closed(c, 4001, "bye")
	}
	require.Contains(t, bob.ask(`{"id":2,"subscribe":{"channel":"a"}}`), `"subscribe":{`)
	_, err = control.Disconnect(t.Context(), r.socket(), control.DisconnectRequest{Client: id})
	require.NoError(t, err)
	closed(bob, 3503, "force disconnect")

	for want, request := range map[string]control.DisconnectRequest{
		"name either a user or a client":                     {},
		"name either a user or a client ":                    {User: "a", Client: "b"},
		"code is 1000, must be from 3000 to 4999":            {User: "a", Code: 1000},
		`client "x": not the id of a client of this process`: {Client: "x"},
	} {
		_, err := control.Disconnect(t.Context(), r.socket(), request)
		var refusal *control.Refusal
		require.ErrorAs(t, err, &refusal)
		require.Contains(t, refusal.Text, strings.TrimSpace(want))
	}
}
