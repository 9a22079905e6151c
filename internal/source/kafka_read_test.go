package source

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/route"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func everyCompression(t *testing.T, k *kafkatest.Cluster) {
	const partitions = 4
	topics := []string{k.Topic(t, partitions), k.Topic(t, partitions)}
	want := map[string][]string{}
	for name, codec := range codecs {
		// Brokers keep the batches of producers that are not idempotent in another way.
		for _, opts := range [][]kgo.Opt{{kgo.ProducerBatchCompression(codec)}, {kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite()}} {
			cl := k.Client(t, opts...)
			for _, topic := range topics {
				for p, ch := range channels(topic, partitions) {
					values := numbered(len(want[ch]), len(want[ch])+50)
					values[7] = fmt.Sprintf(`{"codec":%q,"pad":"%0200d"}`, name, 7)
					produce(t, cl, topic, int32(p), values...)
					want[ch] = append(want[ch], values...)
				}
			}
		}
	}
	var all []string
	for ch := range want {
		all = append(all, ch)
	}
	o := reading(k, topics...)
	o.Brokers = o.Brokers[:1] // The others are found.
	r := startRig(t, o, all...)
	for ch, values := range want {
		r.wantLog(t, ch, values)
		for _, rec := range r.records(ch) {
			require.True(t, rec.Text)
		}
		offset, epoch, ok := r.Position(ch)
		require.True(t, ok)
		require.Equal(t, uint64(len(values)), offset)
		require.NotEmpty(t, epoch)
	}
	total := partitions * len(want[all[0]])
	require.EqualValues(t, total, r.topic(0).Records.Load())
	require.EqualValues(t, 2*total, r.Stats().Routed[route.ByRule].Broadcast.Load())
	r.wantIntact(t)
	r.waitCurrent(t)
	for _, ts := range r.Status().Topics {
		require.Len(t, ts.Partitions, partitions)
	}
}

// A broker gives one batch whole, however small the fetch; nothing stands still behind it.
func batchLargerThanAFetch(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	cl := k.Client(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	var want []string
	for n := range 5 {
		values := []string{fmt.Sprintf(`"%0*d"`, 100_000*n, n), "1"}
		produce(t, cl, topic, 0, values...)
		want = append(want, values...)
	}
	o := reading(k, topic)
	o.FetchMaxBytes, o.FetchTotalBytes = 1000, 1000
	r := startRig(t, o, topic+"/0")
	r.wantLog(t, topic+"/0", want)
	r.wantIntact(t)
}

func startAtTheEnd(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 2)
	cl := k.Client(t)
	for p := range int32(2) {
		produce(t, cl, topic, p, numbered(0, 10)...)
	}
	o := reading(k, topic)
	o.Start = Start{}
	ch := channels(topic, 2)
	r := startRig(t, o, ch...)
	r.waitReady(t)
	offset, _, ok := r.Position(ch[1])
	require.True(t, ok)
	require.EqualValues(t, 10, offset, "before the first record, the position is where reading begins")
	produce(t, cl, topic, 0, numbered(10, 12)...)
	produce(t, cl, topic, 1, numbered(10, 13)...)
	r.wantValues(t, ch[0], numbered(10, 12))
	r.wantValues(t, ch[1], numbered(10, 13))
	require.EqualValues(t, 11, r.records(ch[1])[0].Offset)
	r.wantIntact(t)
}

func startAtATime(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 2)
	cl := k.Client(t)
	noon := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for n := range 10 {
		produceRecords(t, cl, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(n)), Timestamp: noon.Add(time.Duration(n) * time.Second)})
		produceRecords(t, cl, &kgo.Record{Topic: topic, Partition: 1, Value: []byte(fmt.Sprint(n)), Timestamp: noon.Add(-time.Hour)})
	}
	o := reading(k, topic)
	o.Start = Start{Mode: StartTime, Time: noon.Add(6 * time.Second)}
	ch := channels(topic, 2)
	r := startRig(t, o, ch...)
	r.waitReady(t)
	r.wantValues(t, ch[0], []string{"6", "7", "8", "9"})
	produce(t, cl, topic, 1, "10")
	r.wantValues(t, ch[1], []string{"10"}) // Nothing at that time or later: from the end.
}

// Markers and records of aborted transactions are never delivered, and each offset that is dropped is explained.
func transactions(t *testing.T, k *kafkatest.Cluster) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			topic := k.Topic(t, 1)
			ch := topic + "/0"
			plain := k.Client(t, kgo.ProducerBatchCompression(codec))
			ctx, cancel := context.WithTimeout(context.Background(), waitMax)
			defer cancel()
			var want []string
			n := 0
			txn := func(cl *kgo.Client, end kgo.TransactionEndTry) {
				require.NoError(t, cl.BeginTransaction())
				for range 2 {
					values := numbered(n, n+3)
					n += 3
					produce(t, cl, topic, 0, values...)
					if end == kgo.TryCommit {
						want = append(want, values...)
					}
					// Records of others lie between those of the transaction.
					produce(t, plain, topic, 0, numbered(n, n+2)...)
					want = append(want, numbered(n, n+2)...)
					n += 2
				}
				require.NoError(t, cl.EndTransaction(ctx, end))
			}
			one := k.Client(t, kgo.TransactionalID(topic+"-one"), kgo.ProducerBatchCompression(codec))
			two := k.Client(t, kgo.TransactionalID(topic+"-two"), kgo.ProducerBatchCompression(codec))
			txn(one, kgo.TryCommit)
			txn(one, kgo.TryAbort)
			txn(two, kgo.TryAbort)
			txn(one, kgo.TryCommit)
			txn(two, kgo.TryCommit)
			txn(two, kgo.TryAbort)

			o := reading(k, topic)
			o.FetchMaxBytes = 400
			r := startRig(t, o, ch)
			r.wantValues(t, ch, want)
			// Also what happens while we read.
			txn(one, kgo.TryAbort)
			txn(one, kgo.TryCommit)
			r.wantValues(t, ch, want)
			ts := r.topic(0)
			eventually(t, func() bool { return ts.Markers.Load() == 8 }, func() string { return fmt.Sprint(ts.Markers.Load(), " markers") })
			require.EqualValues(t, 4*6, ts.Aborted.Load())
			r.wantIntact(t)
			offset, _, ok := r.Position(ch)
			require.True(t, ok)
			require.EqualValues(t, n+8, offset, "markers count in the position")
		})
	}
}

// An open transaction holds back what follows it, and nothing is lost when it ends.
func openTransaction(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	ch := topic + "/0"
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	cl := k.Client(t, kgo.TransactionalID(topic))
	plain := k.Client(t)
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, topic, 0, "1")
	o := reading(k, topic)
	o.StallAfter = 100 * time.Millisecond
	r := startRig(t, o, ch)
	r.waitReady(t)
	produce(t, plain, topic, 0, "2")
	fetches := r.Stats().Fetches.Load()
	eventually(t, func() bool { return r.Stats().Fetches.Load() > fetches+5 }, func() string { return "no fetches" })
	require.Empty(t, r.records(ch))
	require.Zero(t, r.Stats().Stalls.Load(), "waiting for a transaction is no stall")
	require.NoError(t, cl.EndTransaction(ctx, kgo.TryCommit))
	r.wantLog(t, ch, []string{"1", "2"})
	r.wantIntact(t)
}

// With read_uncommitted, records come when they are written, live and again, whatever becomes of their transaction.
func uncommitted(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	ch := topic + "/0"
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	cl := k.Client(t, kgo.TransactionalID(topic))
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, topic, 0, "1", "2")
	o := reading(k, topic)
	o.ReadUncommitted, o.StallAfter = true, 100*time.Millisecond
	r := startRig(t, o, ch)
	r.wantValues(t, ch, []string{"1", "2"})
	produce(t, k.Client(t), topic, 0, "3")
	r.wantValues(t, ch, []string{"1", "2", "3"})
	r.waitCurrent(t)
	require.NoError(t, cl.EndTransaction(ctx, kgo.TryAbort))
	produce(t, k.Client(t), topic, 0, "5")
	r.wantValues(t, ch, []string{"1", "2", "3", "5"})
	eventually(t, func() bool { return r.topic(0).Markers.Load() == 1 }, r.logs.String)
	require.Zero(t, r.topic(0).Aborted.Load())
	require.Zero(t, r.Stats().Stalls.Load())
	r.wantIntact(t)

	st, ok := r.Stream(ch)
	require.True(t, ok)
	reader := r.NewReader(ctx)
	defer reader.Close()
	block, err := reader.Read(ctx, st, 0, 5, 5, 1<<20)
	require.NoError(t, err)
	w, n := r.NewWalker(), 0
	for w.Open(st, block, 0, 5); w.Next(); n++ {
	}
	require.NoError(t, w.Err())
	require.Equal(t, 4, n)

	// From the end means the end of the log, not where an open transaction begins.
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, topic, 0, "6")
	o.Start = Start{}
	late := startRig(t, o, ch)
	late.waitReady(t)
	produce(t, k.Client(t), topic, 0, "7")
	late.wantValues(t, ch, []string{"7"})
}

// What compaction has removed is no loss; what it has left is delivered, whether read before or after.
func compaction(t *testing.T, k *kafkatest.Cluster) {
	const keys, rounds = 10, 10
	topic := k.Topic(t, 1, "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.001", "segment.ms", "100")
	ch := topic + "/0"
	cl := k.Client(t)
	before := startRig(t, reading(k, topic), ch)
	var want []string
	add := func(key, value string) *kgo.Record {
		want = append(want, value)
		return &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
	}
	for range rounds {
		var recs []*kgo.Record
		for key := range keys {
			recs = append(recs, add(fmt.Sprint("k", key), fmt.Sprint(len(want))))
		}
		produceRecords(t, cl, recs...)
	}
	before.wantLog(t, ch, want)
	// What is written last is never compacted; time and more records make older ones.
	const gone = keys * (rounds - 1)
	eventually(t, func() bool {
		key := fmt.Sprint("later", len(want))
		produceRecords(t, cl, add(key, fmt.Sprint(len(want))))
		k.Clean()
		return firstRecord(t, k, topic) == gone
	}, func() string { return "the topic is not compacted" })

	after := startRig(t, reading(k, topic), ch)
	after.wantValues(t, ch, want[gone:])
	for i, rec := range after.records(ch) {
		require.EqualValues(t, gone+i+1, rec.Offset)
	}
	ts := after.topic(0)
	first, _ := k.Range(t, topic, 0) // kfake's log begins later then, Apache Kafka's does not.
	require.EqualValues(t, gone-first, ts.Compacted.Load(), after.logs)
	require.Zero(t, lost(ts)+ts.Gaps.Load()+ts.Breaks.Load(), after.logs)
	before.wantLog(t, ch, want)
	before.wantIntact(t)
}

// firstRecord returns the offset of the first record that a consumer gets.
func firstRecord(t *testing.T, k *kafkatest.Cluster, topic string) int64 {
	t.Helper()
	cl := k.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	got := cl.PollFetches(ctx)
	require.NoError(t, got.Err())
	return got.Records()[0].Offset
}

// overtaken has the log's start pass a reader that cannot go on, and wants the exact loss counted, logged, and told to
// subscribers.
func overtaken(t *testing.T, k *kafkatest.Cluster, topic string, produced int, trim func() (first int)) {
	ch := topic + "/0"
	r := &rig{sink: newSink(t, 1, ringSize{slots: 2, bytes: 1 << 20})}
	r.read(t, 0, r.collect)
	r.frozen = true
	r.interest.Add(ch, 0, 0)
	// One batch in a response, and a bus that takes two: the reader stands early in the log.
	o := reading(k, topic)
	o.FetchMaxBytes, o.FetchTotalBytes = 1, 1
	r.start(t, o)
	eventually(t, func() bool { return r.ring.Stats().Stalls.Load() > 0 }, func() string { return "the bus is not full" })
	stopped := int(r.topic(0).Records.Load())
	first := trim()
	r.sink.mu.Lock()
	r.frozen = false
	r.sink.mu.Unlock()

	eventually(t, func() bool { at, _, _ := r.Position(ch); return at == uint64(produced) }, func() string { return r.logs.String() })
	eventually(t, func() bool {
		rs := r.records(ch)
		return len(rs) > 0 && rs[len(rs)-1].Offset == uint64(produced)
	}, func() string { return "the end has not come" })
	recs := r.records(ch)
	before := len(recs) - (produced - first) // Read before the loss.
	require.GreaterOrEqual(t, before, stopped)
	for i, rec := range recs {
		want := i + 1
		if i >= before {
			want = first + 1 + i - before
		}
		require.EqualValues(t, want, rec.Offset)
	}
	ts := r.topic(0)
	require.EqualValues(t, first-before, ts.Lost[LossRetention].Load())
	require.EqualValues(t, first-before, lost(ts))
	require.Zero(t, ts.Gaps.Load()+ts.Compacted.Load())
	require.Equal(t, []int{before}, r.breaksOf(ch), "subscribers are told, at the place of the loss")
	require.Contains(t, r.logs.String(), "reason=retention")
}

func recordsDeleted(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	cl := k.Client(t)
	for i := range 20 {
		produce(t, cl, topic, 0, numbered(i*10, i*10+10)...)
	}
	overtaken(t, k, topic, 200, func() int {
		k.DeleteRecords(t, topic, 0, 155) // In the middle of a batch.
		return 155
	})
}

func retentionOvertakes(t *testing.T, k *kafkatest.Cluster) {
	k.Needs(t, kafkatest.SegmentFiles)
	const produced, size = 40, 100_000
	topic := k.Topic(t, 1, "segment.bytes", "1048576")
	cl := k.Client(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := `"` + strings.Repeat("x", size) + `"`
	for range produced {
		produce(t, cl, topic, 0, value)
	}
	overtaken(t, k, topic, produced, func() int {
		k.Configure(t, topic, "retention.bytes", "1")
		var first int64
		eventually(t, func() bool { first, _ = k.Range(t, topic, 0); return first >= produced/2 }, func() string { return "nothing is deleted" })
		return int(first)
	})
}
