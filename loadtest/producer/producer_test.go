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
		Append: func(dst []byte, seq uint64, _ time.Duration) []byte { return fmt.Appendf(dst, "value %d", seq) },
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

	late, err := p.Run(ctx, 2, time.Microsecond)
	require.NoError(t, err)
	require.Positive(t, late)
	late, err = p.Run(ctx, 1, 0)
	require.NoError(t, err)
	require.Zero(t, late, "without an interval nothing is late")
	require.Equal(t, []uint64{9, 9}, []uint64{p.Begun(), p.Acked()})
	require.Equal(t, []string{"value 1", "value 2", "value 3", "value 4", "value 5", "value 6", "value 7", "value 8", "value 9"}, values(t, c, 9))
}

func TestKeys(t *testing.T) {
	c := mustCluster(t, kfake.SeedTopics(1, "x"))
	p := New(Options{
		Brokers: c.ListenAddrs(), Topic: "x", Batch: 2,
		Append: func(dst []byte, seq uint64, _ time.Duration) []byte { return fmt.Appendf(dst, "value %d", seq) },
		Key:    func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "key %d", seq) },
	})
	t.Cleanup(p.Close)
	p.SetHeader("channel", func(seq uint64) string { return fmt.Sprint("c", seq) })
	_, err := p.Run(context.Background(), 1, 0)
	require.NoError(t, err)
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
			require.Equal(t, []kgo.RecordHeader{{Key: "channel", Value: fmt.Append(nil, "c", n)}}, r.Headers)
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
	go func() { _, err := p.Run(ctx, 5, time.Hour); done <- err }()
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
	_, err := p.Run(context.Background(), 5, 0)
	require.ErrorContains(t, err, "produce records 1 to 2 to topic x")
	require.Equal(t, []uint64{2, 0}, []uint64{p.Begun(), p.Acked()})
	_, err = p.Run(context.Background(), 5, 0)
	require.ErrorContains(t, err, "an earlier request had no response")
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

// A burst that is late has the time at which it was due: the delay is in the latency (no coordinated omission).
func TestIntendedTime(t *testing.T) {
	start := time.Now()
	var due []time.Duration
	calls, late, err := Pace(t.Context(), 3, 10*time.Millisecond, func(late time.Duration) error {
		due = append(due, time.Since(start)-late)
		if len(due) == 1 {
			time.Sleep(60 * time.Millisecond)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 3, calls)
	require.GreaterOrEqual(t, late, 50*time.Millisecond)
	require.Less(t, due[2]-due[0], late, "the second and third were due while the first stalled")
}
