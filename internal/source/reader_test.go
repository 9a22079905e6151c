package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// again reads a range of topic a again and returns the values in it.
func (r *rig) again(ctx context.Context, from, to int64) (values []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	reader := r.NewReader(ctx)
	defer reader.Close()
	st, ok := r.Stream("a")
	if !ok {
		return nil, errors.New("topic a has no stream")
	}
	b, err := reader.Read(ctx, st, from, to, to, 1<<20)
	if err != nil {
		return nil, err
	}
	w := r.NewWalker()
	for w.Open(st, b, from, to); w.Next(); {
		values = append(values, string(w.Record().Value))
	}
	return values, w.Err()
}

// A range with too many bytes is read in several blocks. Each has one record batch at least.
func TestReadAgainInSeveralBlocks(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	r.waitReady(t)
	cl := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var want []string
	for n := range 20 {
		list := []string{fmt.Sprintf("%q", strings.Repeat("x", 200*n))}
		produce(t, cl, "a", 0, list...)
		want = append(want, list...)
	}
	r.wantValues(t, "a", want)
	st, ok := r.Stream("a")
	require.True(t, ok)
	reader, w := r.NewReader(t.Context()), r.NewWalker()
	defer reader.Close()
	var got []string
	blocks := 0
	for from := int64(0); from < 20; blocks++ {
		b, err := reader.Read(t.Context(), st, from, 20, 20, 3000)
		require.NoError(t, err)
		require.Equal(t, from, b.From)
		require.Greater(t, b.To, from)
		for w.Open(st, b, from, b.To); w.Next(); {
			got = append(got, string(w.Record().Value))
		}
		require.NoError(t, w.Err())
		from = b.To
	}
	require.Equal(t, want, got)
	require.True(t, blocks > 10 && blocks < 20, blocks)
}

// A new leader's log may not be the one that was read: nothing is read again of it before it has been compared.
func TestReadAgainFromANewLeader(t *testing.T) {
	for name, node := range map[string]int32{"another broker": 1, "the same broker": 0} {
		t.Run(name, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
			require.NoError(t, c.MoveTopicPartition("a", 0, 0))
			cl := mustClient(t, c.ListenAddrs())
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
			r.waitReady(t)
			produce(t, cl, "a", 0, offsets(0, 10)...)
			r.wantValues(t, "a", offsets(0, 10))
			got, err := r.again(t.Context(), 2, 5)
			require.NoError(t, err)
			require.Equal(t, offsets(2, 5), got)

			var asked, compared atomic.Bool
			hold := make(chan struct{})
			c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kmsg.Request) (kmsg.Response, error, bool) {
				asked.Store(true)
				c.SleepControl(func() { <-hold })
				compared.Store(true)
				return nil, nil, false
			})
			early := atomic.Bool{}
			c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				p := kreq.(*kmsg.FetchRequest).Topics[0].Partitions[0]
				early.Store(early.Load() || p.FetchOffset == 2 && !compared.Load() && p.CurrentLeaderEpoch != 1)
				return nil, nil, false
			})
			require.NoError(t, c.MoveTopicPartition("a", 0, node))
			answered := make(chan error, 1)
			go func() {
				_, err := r.again(t.Context(), 2, 5)
				answered <- err
			}()
			eventually(t, asked.Load, func() string { return "the new leader was not asked" })
			require.Empty(t, answered)
			close(hold)
			require.NoError(t, <-answered)
			require.False(t, early.Load(), "it was read before")
		})
	}
}

// A broker that has nothing to give at the moment (its tiered storage is slow) has not compacted the range away.
func TestReadAgainOfNothing(t *testing.T) {
	for policy, want := range map[cleanup][]string{cleanupDelete: offsets(2, 5), cleanupUnknown: offsets(2, 5), cleanupCompact: nil} {
		c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
		cl := mustClient(t, c.ListenAddrs())
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
		r.waitReady(t)
		produce(t, cl, "a", 0, offsets(0, 10)...)
		r.wantValues(t, "a", offsets(0, 10))
		r.Source.topics[0].cleanup.Store(uint32(policy))
		left := 3
		c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			req := kreq.(*kmsg.FetchRequest)
			if req.Topics[0].Partitions[0].FetchOffset != 2 || left == 0 {
				return nil, nil, false
			}
			left--
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			rt := kmsg.NewFetchResponseTopic()
			rt.TopicID = req.Topics[0].TopicID
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = 10, 10, 0
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp, nil, true
		})
		got, err := r.again(t.Context(), 2, 5)
		require.NoError(t, err)
		require.Equal(t, want, got, policy)
	}
}
