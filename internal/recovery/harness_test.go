package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/source"
)

const waitMax = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a Recovery over a source that reads a kfake. Nobody is subscribed to anything.
type rig struct {
	*Recovery
	t      testing.TB
	kafka  *kfake.Cluster
	client *kgo.Client
	source *source.Source
	log    map[string][]bus.Record // What channels' streams hold, as the test produced it.
	counts map[string]int
}

// newRig makes a topic k of some partitions, whose keys name the channels c.KEY. kept is Options.RecentBytesMax of the
// source.
func newRig(t testing.TB, partitions int32, kept int, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: make(map[string][]bus.Record), counts: make(map[string]int)}
	var err error
	r.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "k"))
	require.NoError(t, err)
	t.Cleanup(r.kafka.Close)
	r.client = r.newClient()
	r.start(kept, change)
	return r
}

func (r *rig) newClient(o ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.kafka.ListenAddrs()...), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression())}, o...)...)
	require.NoError(r.t, err)
	r.t.Cleanup(cl.Close)
	return cl
}

// start starts a source and a Recovery, as another node would.
func (r *rig) start(kept int, change func(*Options)) {
	r.t.Helper()
	ring, err := bus.New(bus.Options{Shards: 1, Slots: 2, BytesMax: 1 << 20, StallMax: time.Minute, Wake: func(routing.ShardID) {}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(r.t, err)
	interest := routing.NewInterest()
	r.source, err = source.New(source.Options{
		Brokers: r.kafka.ListenAddrs(), Topics: []string{"k"}, Start: source.Start{Mode: source.StartEarliest},
		Routes:       []source.Route{{Channel: "c.{key}", Partitioner: "murmur2"}},
		FetchMaxWait: 50 * time.Millisecond, MetadataInterval: 50 * time.Millisecond, BackoffMax: 50 * time.Millisecond, RecentBytesMax: kept,
		Interest: interest, Ring: ring, Builder: bus.BuilderOptions{RecordsMax: 512, BytesMax: 1 << 20}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(r.t, err)
	o := Options{
		Source: r.source, BytesMax: 1 << 20, ReadBytesMax: 8 << 20, Timeout: waitMax, Concurrency: 2,
		WaitingMax: 10_000, AddressMax: 9_999, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	r.Recovery, err = New(o)
	require.NoError(r.t, err)
	r.source.Start()
	r.Start()
	recovery, src := r.Recovery, r.source
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		defer cancel()
		_ = src.Stop(ctx)
		recovery.Stop()
		require.Zero(r.t, recovery.Stats().Waiting.Load(), "queries left")
		require.Zero(r.t, recovery.collected.Load(), "bytes left")
		require.Empty(r.t, recovery.shares.held, "places of addresses left")
	})
	r.eventually("ready", r.source.Ready)
}

func (r *rig) eventually(what string, cond func() bool) {
	r.t.Helper()
	require.Eventually(r.t, cond, waitMax, time.Millisecond, what)
}

// produce writes records of the keys, in as few batches as can be, and waits until they are read.
func (r *rig) produce(value func(n int) string, keys ...string) {
	r.t.Helper()
	var list []*kgo.Record
	for _, key := range keys {
		list = append(list, &kgo.Record{Topic: "k", Key: []byte(key), Value: []byte(value(r.counts[key]))})
		r.counts[key]++
	}
	require.NoError(r.t, r.client.ProduceSync(r.t.Context(), list...).FirstErr())
	for _, rec := range list {
		r.note(rec)
	}
	r.eventually("read", func() bool { return r.position(string(list[0].Key)) > uint64(list[0].Offset) })
	for _, rec := range list {
		r.eventually("read", func() bool { return r.position(string(rec.Key)) > uint64(rec.Offset) })
	}
}

// note adds a record to what the test knows of its channel.
func (r *rig) note(rec *kgo.Record) {
	ch := "c." + string(rec.Key)
	r.log[ch] = append(r.log[ch], bus.Record{Offset: uint64(rec.Offset) + 1, Value: rec.Value, JSON: rec.Value, Text: true})
}

func number(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

func (r *rig) position(key string) uint64 {
	offset, _, ok := r.source.Position("c." + key)
	if !ok {
		return 0
	}
	return offset
}

// eventuallyAnotherEpoch waits until the channel's stream has another epoch than the query.
func (r *rig) eventuallyAnotherEpoch(q bus.Query) {
	r.t.Helper()
	r.eventually("another epoch", func() bool {
		_, epoch, ok := r.source.Position(q.Channel)
		return ok && epoch != q.Epoch
	})
}

// query returns a QueryNext for all of a channel's stream up to now.
func (r *rig) query(key string) bus.Query {
	r.t.Helper()
	offset, epoch, ok := r.source.Position("c." + key)
	require.True(r.t, ok)
	return bus.Query{Channel: "c." + key, Epoch: epoch, UpTo: offset, RecordsMax: 1 << 20, Owner: 1}
}

// ask waits for the answer to q.
func (r *rig) ask(q bus.Query) bus.Answer {
	r.t.Helper()
	got := make(chan bus.Answer, 1)
	r.Ask(q, func(a bus.Answer) { got <- a })
	select {
	case a := <-got:
		return a
	case <-time.After(waitMax + 5*time.Second):
		require.Fail(r.t, "no answer")
		return bus.Answer{}
	}
}

// held returns the channel's records in (after, upTo].
func (r *rig) held(channel string, after, upTo uint64) (list []bus.Record) {
	for _, rec := range r.log[channel] {
		if rec.Offset > after && rec.Offset <= upTo {
			list = append(list, rec)
		}
	}
	return list
}

// check compares an answer with what the test has produced. It is for queries that have the time and the memory that
// they need.
func (r *rig) check(q bus.Query, a bus.Answer) error {
	held := r.held(q.Channel, q.After, q.UpTo)
	if q.Kind == bus.QueryNext && q.CountMax > 0 && len(held) > q.CountMax {
		if a.Result != bus.ResultLimit || len(a.Records) > 0 {
			return fmt.Errorf("%+v: %v with %d records, want limit", q, a.Result, len(a.Records))
		}
		return nil
	}
	bytesMax := r.o.BytesMax
	if q.BytesMax > 0 {
		bytesMax = min(bytesMax, q.BytesMax)
	}
	want, bytes := []bus.Record(nil), 0
	for n := range held {
		rec := held[n]
		if q.Kind == bus.QueryLast {
			rec = held[len(held)-1-n]
		}
		bytes += bus.RecordBytes(&rec)
		if n == q.RecordsMax || n > 0 && bytes > bytesMax {
			break
		}
		want = append(want, rec)
	}
	if q.Kind == bus.QueryLast {
		slices.Reverse(want)
	}
	if a.Result != bus.ResultOK || !slices.Equal(offsetsOf(want), offsetsOf(a.Records)) {
		return fmt.Errorf("%+v: %v with %v through %d, more %v; want %v", q, a.Result, offsetsOf(a.Records), a.Through, a.More, offsetsOf(want))
	}
	for i := range want {
		if string(want[i].Value) != string(a.Records[i].Value) || string(want[i].JSON) != string(a.Records[i].JSON) {
			return fmt.Errorf("%+v: %s, want %s", q, a.Records[i].Value, want[i].Value)
		}
	}
	if q.Kind == bus.QueryNext {
		return checkThrough(q, a, held[len(want):])
	}
	return nil
}

// checkThrough checks up to where an answer says that it is complete. Left is what it does not have.
func checkThrough(q bus.Query, a bus.Answer, left []bus.Record) error {
	switch {
	case !a.More && (a.Through != q.UpTo || len(left) > 0):
		return fmt.Errorf("%+v: no more after %d, but there are %v", q, a.Through, offsetsOf(left))
	case a.More && (a.Through <= q.After || a.Through >= q.UpTo || len(left) > 0 && a.Through >= left[0].Offset):
		return fmt.Errorf("%+v: more after %d, there are %v", q, a.Through, offsetsOf(left))
	case len(a.Records) > 0 && a.Through < a.Records[len(a.Records)-1].Offset:
		return fmt.Errorf("%+v: through %d, but it has %v", q, a.Through, offsetsOf(a.Records))
	}
	return nil
}

func offsetsOf(list []bus.Record) (offsets []uint64) {
	for i := range list {
		offsets = append(offsets, list[i].Offset)
	}
	return offsets
}

// many returns a key n times.
func many(key string, n int) []string { return slices.Repeat([]string{key}, n) }

// holdReads has Kafka answer no read before release is called. The source, which reads from offset end on, is answered.
func (r *rig) holdReads(end int64) (release func()) {
	r.t.Helper()
	return r.hold(func(offset int64) bool { return offset < end })
}

// hold has Kafka answer no fetch from an offset that which chooses, before release is called.
func (r *rig) hold(which func(offset int64) bool) (release func()) {
	r.t.Helper()
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		if which(req.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset) {
			r.kafka.SleepControl(func() { <-hold })
		}
		return nil, nil, false
	})
	release = sync.OnceFunc(func() {
		r.kafka.DropControl()
		close(hold)
	})
	r.t.Cleanup(release)
	return release
}

func (r *rig) request(req kmsg.Request) kmsg.Response {
	r.t.Helper()
	resp, err := r.client.Request(r.t.Context(), req)
	require.NoError(r.t, err)
	return resp
}

// deleteRecords has the log of a partition begin at offset.
func (r *rig) deleteRecords(partition int32, offset int64) {
	r.t.Helper()
	req := kmsg.NewDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = "k"
	topic.Partitions = append(topic.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: partition, Offset: offset})
	req.Topics = append(req.Topics, topic)
	require.Zero(r.t, r.request(&req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
}

// recreate deletes the topic and creates it again.
func (r *rig) recreate(partitions int32) {
	r.t.Helper()
	del := kmsg.NewDeleteTopicsRequest()
	del.TopicNames = []string{"k"}
	del.Topics = append(del.Topics, kmsg.DeleteTopicsRequestTopic{Topic: kmsg.StringPtr("k")})
	require.Zero(r.t, r.request(&del).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
	create := kmsg.NewCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "k", partitions, 1
	create.Topics = append(create.Topics, topic)
	require.Zero(r.t, r.request(&create).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
}

// await returns the next of the answers.
func await(t *testing.T, answers <-chan bus.Result) bus.Result {
	t.Helper()
	select {
	case result := <-answers:
		return result
	case <-time.After(waitMax):
		require.Fail(t, "no answer")
		return 0
	}
}
