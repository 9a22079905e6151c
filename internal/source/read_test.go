package source

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"wsd/internal/route"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func TestEveryPartitionFromEarliestInEveryCompression(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "a", "b"))
	want := map[string][]string{}
	for name, codec := range codecs {
		cl := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchCompression(codec))
		for _, topic := range []string{"a", "b"} {
			for p := range int32(4) {
				ch := fmt.Sprintf("%s/%d", topic, p)
				values := numbered(len(want[ch]), len(want[ch])+50)
				values[7] = fmt.Sprintf(`{"codec":%q,"pad":"%0200d"}`, name, 7)
				produce(t, cl, topic, p, values...)
				want[ch] = append(want[ch], values...)
			}
		}
	}
	var channels []string
	for ch := range want {
		channels = append(channels, ch)
	}
	r := startRig(t, Options{Brokers: c.ListenAddrs()[:1], Topics: []string{"a", "b"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{topic}/{partition}"}}}, channels...)
	for ch, values := range want {
		r.wantValues(t, ch, values)
		for i, rec := range r.records(ch) {
			require.Equal(t, uint64(i+1), rec.Offset)
			require.True(t, rec.Text)
		}
		offset, epoch, ok := r.Position(ch)
		require.True(t, ok)
		require.Equal(t, uint64(len(values)), offset)
		require.NotEmpty(t, epoch)
	}
	require.EqualValues(t, 4*50*len(codecs), r.topic(0).Records.Load())
	require.EqualValues(t, 2*4*50*len(codecs), r.Stats().Routed[route.ByRule].Broadcast.Load())
	require.Zero(t, r.topic(0).Gaps.Load()+r.topic(0).Lost.Load()+r.topic(0).Compacted.Load())
	eventually(t, func() bool {
		for _, ts := range r.Status().Topics {
			if !ts.Current || len(ts.Partitions) != 4 {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("%+v", r.Status()) })
}

func TestStartAtTheEnd(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "a"))
	cl := mustClient(t, c.ListenAddrs())
	for p := range int32(2) {
		produce(t, cl, "a", p, numbered(0, 10)...)
	}
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Routes: []Route{{Channel: "{topic}{partition}"}}}, "a0", "a1")
	r.waitReady(t)
	offset, _, ok := r.Position("a1")
	require.True(t, ok)
	require.EqualValues(t, 10, offset, "before the first record, the position is where reading begins")
	produce(t, cl, "a", 0, numbered(10, 12)...)
	produce(t, cl, "a", 1, numbered(10, 13)...)
	r.wantValues(t, "a0", numbered(10, 12))
	r.wantValues(t, "a1", numbered(10, 13))
	require.EqualValues(t, 11, r.records("a1")[0].Offset)
}

func TestStartAtATime(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
	cl := mustClient(t, c.ListenAddrs())
	noon := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for n := range 10 {
		produceRecords(t, cl, &kgo.Record{Topic: "a", Value: []byte(fmt.Sprint(n)), Timestamp: noon.Add(time.Duration(n) * time.Second)})
		produceRecords(t, cl, &kgo.Record{Topic: "a", Partition: 1, Value: []byte(fmt.Sprint(n)), Timestamp: noon.Add(-time.Hour)})
	}
	r := startRig(t, Options{
		Brokers: c.ListenAddrs(), Topics: []string{"a"}, Routes: []Route{{Channel: "{topic}{partition}"}},
		Start: Start{Mode: StartTime, Time: noon.Add(6 * time.Second)},
	}, "a0", "a1")
	r.waitReady(t)
	r.wantValues(t, "a0", []string{"6", "7", "8", "9"})
	produce(t, cl, "a", 1, "10")
	r.wantValues(t, "a1", []string{"10"}) // Nothing at that time or later: from the end.
}

// Old brokers have no topic ids: Fetch 11 by name.
func TestBrokerWithoutTopicIDs(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "a"), kfake.MaxVersions(kversion.V2_4_0()))
	cl := mustClient(t, c.ListenAddrs(), kgo.MaxVersions(kversion.V2_4_0()))
	for p := range int32(3) {
		produce(t, cl, "a", p, numbered(0, 20)...)
	}
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{partition}"}}}, "0", "1", "2")
	for _, ch := range []string{"0", "1", "2"} {
		r.wantValues(t, ch, numbered(0, 20))
	}
}

func TestAbortedTransactionsAndMarkersAreDropped(t *testing.T) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
			plain := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchCompression(codec))
			ctx, cancel := context.WithTimeout(context.Background(), waitMax)
			defer cancel()
			var want []string
			n := 0
			txn := func(cl *kgo.Client, end kgo.TransactionEndTry) {
				require.NoError(t, cl.BeginTransaction())
				for range 2 {
					values := numbered(n, n+3)
					n += 3
					produce(t, cl, "a", 0, values...)
					if end == kgo.TryCommit {
						want = append(want, values...)
					}
					// Records of others lie between those of the transaction.
					produce(t, plain, "a", 0, numbered(n, n+2)...)
					want = append(want, numbered(n, n+2)...)
					n += 2
				}
				require.NoError(t, cl.EndTransaction(ctx, end))
			}
			one := mustClient(t, c.ListenAddrs(), kgo.TransactionalID("one"), kgo.ProducerBatchCompression(codec))
			two := mustClient(t, c.ListenAddrs(), kgo.TransactionalID("two"), kgo.ProducerBatchCompression(codec))
			txn(one, kgo.TryCommit)
			txn(one, kgo.TryAbort)
			txn(two, kgo.TryAbort)
			txn(one, kgo.TryCommit)
			txn(two, kgo.TryCommit)
			txn(two, kgo.TryAbort)

			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, FetchMaxBytes: 400}, "a")
			r.wantValues(t, "a", want)
			// Also what happens while we read.
			txn(one, kgo.TryAbort)
			txn(one, kgo.TryCommit)
			r.wantValues(t, "a", want)
			ts := r.topic(0)
			eventually(t, func() bool { return ts.Markers.Load() == 8 }, func() string { return fmt.Sprint(ts.Markers.Load(), " markers") })
			require.EqualValues(t, 4*6, ts.Aborted.Load())
			require.Zero(t, ts.Gaps.Load()+ts.Compacted.Load()+ts.Lost.Load(), "every dropped offset is explained")
			offset, _, ok := r.Position("a")
			require.True(t, ok)
			require.EqualValues(t, n+8, offset, "markers count in the position")
		})
	}
}

// An open transaction holds back what follows it, and nothing is lost when it ends.
func TestOpenTransactionHoldsBack(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	cl := mustClient(t, c.ListenAddrs(), kgo.TransactionalID("one"))
	plain := mustClient(t, c.ListenAddrs())
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, "a", 0, "1")
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, StallAfter: 100 * time.Millisecond}, "a")
	r.waitReady(t)
	produce(t, plain, "a", 0, "2")
	fetches := r.Stats().Fetches.Load()
	eventually(t, func() bool { return r.Stats().Fetches.Load() > fetches+5 }, func() string { return "no fetches" })
	require.Empty(t, r.records("a"))
	require.Zero(t, r.Stats().Stalls.Load(), "waiting for a transaction is no stall")
	require.NoError(t, cl.EndTransaction(ctx, kgo.TryCommit))
	r.wantValues(t, "a", []string{"1", "2"})
}

// Records on the bus have Kafka's keys only where somebody needs them.
func TestKeys(t *testing.T) {
	for _, keys := range []bool{false, true} {
		c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
		cl := mustClient(t, c.ListenAddrs())
		produceRecords(t, cl, &kgo.Record{Topic: "a", Key: []byte("k"), Value: []byte("1")}, &kgo.Record{Topic: "a", Value: []byte("2")}, &kgo.Record{Topic: "a", Key: []byte{}, Value: []byte("3")})
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Keys: keys}, "a")
		r.wantValues(t, "a", []string{"1", "2", "3"})
		want := []string{"none", "none", "none"}
		if keys {
			want = []string{"k", "none", ""}
		}
		r.sink.mu.Lock()
		require.Equal(t, want, r.keys["a"])
		r.sink.mu.Unlock()
	}
}
