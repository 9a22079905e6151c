package shard

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

func TestSurveyClients(t *testing.T) {
	r := newStepped(t, withAuthority(&authority{}, func(o *Options) { o.Auth.Anonymous = true }))
	r.place.set("publica", 7)
	var ann *client
	r.during(func() {
		ann, _ = r.login("user=ann")
		r.dial(pathRaw + "?channel=publica&channel=publicb&token=user=bob")
		r.join("publica")
	})
	clients := func(q ClientQuery) (list []ClientInfo, total int) {
		r.during(func() {
			var err error
			list, total, err = r.shard.Clients(t.Context(), q)
			require.NoError(t, err)
		})
		return list, total
	}
	list, total := clients(ClientQuery{Max: 10})
	require.Len(t, list, 3)
	require.Equal(t, 3, total)
	list, total = clients(ClientQuery{Max: 2})
	require.Len(t, list, 2)
	require.Equal(t, 3, total)

	list, _ = clients(ClientQuery{Max: 10, User: "ann"})
	require.Len(t, list, 1)
	found := list[0]
	require.Equal(t, ClientInfo{
		Client: found.Client, Address: ann.conn.LocalAddr().String(), User: "ann", Dialect: "json", TLS: r.tls,
	}, found)
	list, _ = clients(ClientQuery{Max: 10, Channel: "publicb"})
	require.Len(t, list, 1)
	require.Equal(t, []any{"bob", "raw", 2}, []any{list[0].User, list[0].Dialect, list[0].Channels})
	bob := list[0].Client
	list, _ = clients(ClientQuery{Max: 10, Waiting: true})
	require.Empty(t, list)
	list, total = clients(ClientQuery{Client: bob})
	require.Equal(t, 1, total)
	require.ElementsMatch(t, []ClientSub{{Channel: "publica", Offset: 7, Epoch: "epoch"}, {Channel: "publicb"}},
		list[0].Subscribed)
	for _, gone := range []routing.ConnID{routing.MakeConnID(0, 1<<20, 1), routing.MakeConnID(0, 1, 1<<23)} {
		list, total = clients(ClientQuery{Client: gone})
		require.Empty(t, list)
		require.Zero(t, total)
	}
}

// Those for which most waits come first, and are the ones that are described.
func TestSurveyWaiting(t *testing.T) {
	s := bareChannels()
	s.inbox.wake = func() {}
	for i, c := range fill(s, 5000) {
		s.channels.subscribe(c, fmt.Sprint("c", i%7))
		c.out.cost = i * 7919 % 5000
	}
	s.surveying = true
	var list []ClientInfo
	var total int
	done := make(chan error)
	go func() {
		var err error
		list, total, err = s.Clients(t.Context(), ClientQuery{Max: 20})
		done <- err
	}()
	eventually(t, "the survey is asked for", func() bool { return s.surveys.first() != nil })
	turns := 0
	for ; s.surveys.first() != nil; turns++ {
		s.work.beginPart()
		require.True(t, s.goOnSurveying())
	}
	require.NoError(t, <-done)
	require.GreaterOrEqual(t, turns, 5000/workPart, "it does a part in each turn")
	require.False(t, s.goOnSurveying())
	require.False(t, s.surveying)
	require.Equal(t, 5000, total)
	require.Len(t, list, 20)
	for i := range list {
		require.Equal(t, 4999-i, list[i].WaitingBytes)
	}
}

func TestSurveyChannels(t *testing.T) {
	r := newRig(t, nil)
	for i := range 3 {
		for range i + 1 {
			r.join(fmt.Sprint("c", i), "other")
		}
	}
	r.publish("c0", "1", "2", "3")
	r.publish("c0", "4", "5", "6", "7")
	r.publish("c1", "1")
	eventually(t, "delivered", func() bool { return r.shard.Stats().Deliveries.Load() == 9 })
	r.interest.Add("c2", r.shard.ID()+1, 0) // Other shards have these as well.
	defer r.interest.Remove("c2", r.shard.ID()+1)
	for query, want := range map[*ChannelQuery]ChannelList{
		{Max: 2}:                                {[]ChannelInfo{{"other", 6, 0, 0}, {"c2", 3, 0, 0}}, 4, 4},
		{Max: 10, Prefix: "c", ByTraffic: true}: {[]ChannelInfo{{"c0", 1, 7, 7}, {"c1", 2, 1, 2}, {"c2", 3, 0, 0}}, 3, 3},
		{Names: []string{"none", "c1", "c0"}}:   {[]ChannelInfo{{"c1", 2, 1, 2}, {"c0", 1, 7, 7}}, 2, 0},
		{Names: []string{}}:                     {},
	} {
		list, err := r.shard.Channels(t.Context(), *query)
		require.NoError(t, err)
		require.Equal(t, want, list)
	}
	// One that a shard before this one has is that shard's to count.
	before := newRig(t, func(o *Options) { o.ID = 1 })
	before.join("a", "b")
	before.interest.Add("a", 0, 0)
	defer before.interest.Remove("a", 0)
	list, err := before.shard.Channels(t.Context(), ChannelQuery{Max: 10})
	require.NoError(t, err)
	require.Equal(t, ChannelList{[]ChannelInfo{{"a", 1, 0, 0}, {"b", 1, 0, 0}}, 2, 1}, list)
}

// Whoever no longer waits is not worked for, and a shard that has ended, or has too many to make, says so.
func TestSurveyEnds(t *testing.T) {
	r := newStepped(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range surveysMax + 1 {
		go func() {
			_, err := r.shard.Channels(ctx, ChannelQuery{Max: 1})
			errs <- err
		}()
	}
	require.ErrorIs(t, <-errs, ErrSurveys)
	cancel()
	for range surveysMax {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	for range surveysMax + 1 {
		r.step()
	}
	require.Empty(t, r.shard.surveys.queue)
	require.False(t, r.shard.surveying)
	go func() {
		_, _, err := r.shard.Clients(t.Context(), ClientQuery{Max: 1})
		errs <- err
	}()
	eventually(t, "one waits", func() bool { return r.shard.surveys.first() != nil })
	r.stop(0)
	err := <-errs
	if err != nil { // The last turn may have made it.
		require.ErrorIs(t, err, ErrSurveyEnded)
	}
	_, _, err = r.shard.Clients(t.Context(), ClientQuery{Max: 1})
	require.ErrorIs(t, err, ErrSurveyEnded)
}
