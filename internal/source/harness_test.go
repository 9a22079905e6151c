package source

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/routing"
)

const waitMax = time.Minute

var discard = slog.New(slog.DiscardHandler)

// eventually polls for a condition and fails the test with what is returned by say when it does not come true.
func eventually(t testing.TB, cond func() bool, say func() string) {
	t.Helper()
	for deadline := time.Now().Add(waitMax); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "condition not met in time", say())
		}
	}
}

func mustCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func mustClient(t testing.TB, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(20 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// produce writes the values to the partition, all in one batch where they fit, and returns the first offset.
func produce(t testing.TB, cl *kgo.Client, topic string, partition int32, values ...string) int64 {
	t.Helper()
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}
	}
	return produceRecords(t, cl, recs...)
}

func produceRecords(t testing.TB, cl *kgo.Client, recs ...*kgo.Record) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	require.NoError(t, cl.ProduceSync(ctx, recs...).FirstErr())
	return recs[0].Offset
}

// numbered returns the JSON values {"n":from} to {"n":to-1}.
func numbered(from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, fmt.Sprintf(`{"n":%d}`, n))
	}
	return out
}

func request(t testing.TB, cl *kgo.Client, req kmsg.Request) kmsg.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	resp, err := cl.Request(ctx, req)
	require.NoError(t, err)
	return resp
}

func createTopic(t testing.TB, cl *kgo.Client, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	req.Topics = append(req.Topics, rt)
	require.Zero(t, request(t, cl, &req).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
}

func deleteTopic(t testing.TB, cl *kgo.Client, topic string) {
	t.Helper()
	req := kmsg.NewDeleteTopicsRequest()
	req.TopicNames = []string{topic}
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	require.Zero(t, request(t, cl, &req).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
}

// deleteRecords trims the partition so that its log begins at offset.
func deleteRecords(t testing.TB, cl *kgo.Client, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	require.Zero(t, request(t, cl, &req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
}

// sink is what stands behind the bus in a test: shards that read it and keep what they get.
type sink struct {
	ring     *bus.Ring
	interest *routing.Interest
	wake     []chan struct{}
	stop     chan struct{}
	done     sync.WaitGroup

	mu     sync.Mutex
	frozen bool
	drop   bool                    // Keep nothing.
	got    map[string][]bus.Record // By channel, as shard 0 got them.
	keys   map[string][]string     // Of those, "none" for one that has none.
	breaks map[string][]int        // By channel: how many records shard 0 had when a break came.
}

type ringSize struct{ slots, bytes int }

func newSink(t testing.TB, shards int, size ringSize) *sink {
	t.Helper()
	k := &sink{interest: routing.NewInterest(), stop: make(chan struct{}), got: make(map[string][]bus.Record), keys: make(map[string][]string), breaks: make(map[string][]int)}
	for range shards {
		k.wake = append(k.wake, make(chan struct{}, 1))
	}
	ring, err := bus.New(bus.Options{
		Shards: shards, Slots: size.slots, BytesMax: size.bytes, StallMax: time.Minute, Logger: discard,
		Wake: func(id routing.ShardID) {
			select {
			case k.wake[id] <- struct{}{}:
			default:
			}
		},
	})
	require.NoError(t, err)
	k.ring = ring
	return k
}

// read runs shard id, giving each batch to take, until the test ends.
func (k *sink) read(t testing.TB, id routing.ShardID, take func(*bus.Batch)) {
	k.done.Add(1)
	go func() {
		defer k.done.Done()
		c := k.ring.Cursor(id)
		for {
			b, st := c.Next()
			switch st {
			case bus.StateReady:
				take(b)
				c.Advance()
				continue
			case bus.StateDetached:
				t.Errorf("shard %d was detached", id)
				return
			}
			select {
			case <-k.wake[id]:
			case <-k.stop:
				return
			}
		}
	}()
}

// collect keeps every record of a batch by channel.
func (k *sink) collect(b *bus.Batch) {
	for {
		k.mu.Lock()
		if !k.frozen {
			break
		}
		k.mu.Unlock()
		select {
		case <-k.stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
	defer k.mu.Unlock()
	if k.drop {
		return
	}
	if b.Break != nil {
		for _, name := range k.interest.Names(1000) {
			if b.Break.Concerns(name) {
				k.breaks[name] = append(k.breaks[name], len(k.got[name]))
			}
		}
	}
	for _, s := range b.Segments {
		for i, r := range s.Records {
			key := "none"
			if k := s.Key(i); k != nil {
				key = string(k)
			}
			k.keys[s.Name] = append(k.keys[s.Name], key)
			k.got[s.Name] = append(k.got[s.Name], bus.Record{Offset: r.Offset, Value: bytes.Clone(r.Value), JSON: bytes.Clone(r.JSON), Text: r.Text})
		}
	}
}

func (k *sink) records(channel string) []bus.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]bus.Record(nil), k.got[channel]...)
}

// breaksOf returns how many records of the channel came before each break.
func (k *sink) breaksOf(channel string) []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]int(nil), k.breaks[channel]...)
}

func (k *sink) values(channel string) []string {
	var out []string
	for _, r := range k.records(channel) {
		out = append(out, string(r.Value))
	}
	return out
}

// wantValues waits until the channel has got as many values as wanted and then compares them.
func (k *sink) wantValues(t testing.TB, channel string, want []string) {
	t.Helper()
	eventually(t, func() bool { return len(k.records(channel)) >= len(want) }, func() string {
		return fmt.Sprintf("channel %s has %d of %d records", channel, len(k.records(channel)), len(want))
	})
	require.Equal(t, want, k.values(channel))
}

// logs keeps what is logged.
type logs struct {
	mu      sync.Mutex
	b       strings.Builder
	panicOn string
}

// panicAt makes the logger panic once, at a line that contains text.
func (l *logs) panicAt(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.panicOn = text
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panicOn != "" && bytes.Contains(p, []byte(l.panicOn)) {
		l.panicOn = ""
		panic("logger")
	}
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLogger(l *logs) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) count(text string) int { return strings.Count(l.String(), text) }

// rig is a source, a sink with one collecting shard, and what the source logged.
type rig struct {
	*Source
	*sink
	logs *logs
}

// startRig starts a source with short waits. Channels are subscribed by shard 0 before it starts.
func startRig(t testing.TB, o Options, channels ...string) *rig {
	t.Helper()
	r := &rig{sink: newSink(t, 1, ringSize{slots: 64, bytes: 64 << 20}), logs: &logs{}}
	r.read(t, 0, r.collect)
	for _, c := range channels {
		r.interest.Add(c, 0, 0)
	}
	r.start(t, o)
	return r
}

func (r *rig) start(t testing.TB, o Options) {
	t.Helper()
	if r.logs == nil {
		r.logs = &logs{}
	}
	o.Interest, o.Ring = r.interest, r.ring
	o.Logger = newLogger(r.logs)
	if o.Builder.RecordsMax == 0 {
		o.Builder = bus.BuilderOptions{RecordsMax: 512, BytesMax: 1 << 20}
	}
	if o.FetchMaxWait == 0 {
		o.FetchMaxWait = 50 * time.Millisecond
	}
	if o.MetadataInterval == 0 {
		o.MetadataInterval = 50 * time.Millisecond
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = 100 * time.Millisecond
	}
	s, err := New(o)
	require.NoError(t, err)
	r.Source = s
	s.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
		close(r.stop)
		r.done.Wait()
	})
}

func (r *rig) waitReady(t testing.TB) {
	t.Helper()
	eventually(t, r.Ready, func() string { return fmt.Sprintf("not ready: %+v\n%s", r.Status(), r.logs) })
}

func (r *rig) topic(i int) *TopicStats { return r.Stats().Topics()[i] }

// lost sums up what the topic lost, whatever the reason.
func lost(ts *TopicStats) (n uint64) {
	for i := range ts.Lost {
		n += ts.Lost[i].Load()
	}
	return n
}
