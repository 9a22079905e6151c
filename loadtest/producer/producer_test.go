package producer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func mustCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func mustProducer(t *testing.T, c *kfake.Cluster, batch int) *Producer {
	t.Helper()
	p := New(Options{
		Brokers: c.ListenAddrs(), Topic: "x", Batch: batch,
		Append: func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "value %d", seq) },
	})
	t.Cleanup(p.Close)
	return p
}

// values reads the first n records of the topic.
func values(t *testing.T, c *kfake.Cluster, n int) (list []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("x"), kgo.FetchMaxWait(50*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	for len(list) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) { list = append(list, string(r.Value)) })
	}
	return list
}

func TestProduce(t *testing.T) {
	c := mustCluster(t)
	p := mustProducer(t, c, 3)
	ctx := context.Background()
	created, err := p.Ensure(ctx)
	require.NoError(t, err)
	require.True(t, created)
	created, err = p.Ensure(ctx)
	require.NoError(t, err)
	require.False(t, created)

	require.NoError(t, p.Run(ctx, 1e6, 2))
	require.NoError(t, p.Run(ctx, 1e6, 1))
	require.Equal(t, []uint64{9, 9}, []uint64{p.Begun(), p.Acked()})
	require.Positive(t, p.LateMax())
	p.ResetLate()
	require.Zero(t, p.LateMax())
	require.Equal(t, []string{"value 1", "value 2", "value 3", "value 4", "value 5", "value 6", "value 7", "value 8", "value 9"}, values(t, c, 9))
}

func TestKeys(t *testing.T) {
	c := mustCluster(t, kfake.SeedTopics(1, "x"))
	p := New(Options{
		Brokers: c.ListenAddrs(), Topic: "x", Batch: 2,
		Append: func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "value %d", seq) },
		Key:    func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "key %d", seq) },
	})
	t.Cleanup(p.Close)
	require.NoError(t, p.Run(context.Background(), 1e6, 1))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("x"))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	for n := 1; n <= 2; {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) {
			require.Equal(t, fmt.Sprintf("key %d value %d", n, n), string(r.Key)+" "+string(r.Value))
			n++
		})
	}
}

func TestExistingTopic(t *testing.T) {
	p := mustProducer(t, mustCluster(t, kfake.SeedTopics(1, "x")), 1)
	created, err := p.Ensure(context.Background())
	require.NoError(t, err)
	require.False(t, created)
}

func TestInterrupted(t *testing.T) {
	p := mustProducer(t, mustCluster(t, kfake.SeedTopics(1, "x")), 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx, 0.01, 5) }()
	require.Eventually(t, func() bool { return p.Acked() == 1 }, 8*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, uint64(1), p.Begun())
}

// A record of which nobody knows whether it is in the log ends the run: a repetition could make a duplicate.
func TestNoRepetition(t *testing.T) {
	c := mustCluster(t, kfake.SeedTopics(1, "x"))
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		asked.Add(1)
		c.KeepControl()
		return nil, fmt.Errorf("connection lost"), true
	})
	p := mustProducer(t, c, 2)
	require.ErrorContains(t, p.Run(context.Background(), 1e6, 5), "produce records 1 to 2 to topic x")
	require.Equal(t, []uint64{2, 0}, []uint64{p.Begun(), p.Acked()})
	require.ErrorContains(t, p.Run(context.Background(), 1e6, 5), "an earlier request had no response")
	require.Equal(t, int32(1), asked.Load())
}

func TestNobodyListens(t *testing.T) {
	c := mustCluster(t)
	p := mustProducer(t, c, 1)
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := p.Ensure(ctx)
	require.ErrorContains(t, err, "look up topic x")
}

func TestRequests(t *testing.T) {
	for _, tc := range []struct {
		rate  float64
		batch int
		d     time.Duration
		want  int
	}{
		{1, 1, 30 * time.Second, 30},
		{20, 1, 10 * time.Second, 200},
		{20, 7, time.Second, 3},
		{0.5, 1, time.Second, 1},
		{0.1, 1, 30 * time.Second, 3},
		{1000, 100, 1500 * time.Millisecond, 15},
	} {
		require.Equal(t, tc.want, Requests(tc.rate, tc.batch, tc.d), "%+v", tc)
	}
}
