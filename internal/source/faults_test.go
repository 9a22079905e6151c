package source

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafkatest"
)

// faulty makes a cluster answer fetches wrongly now and then, in each way that must not cost a record: connections
// end, sessions are forgotten, quotas are exceeded, other brokers seem to lead, a nearer replica is named, which fails.
func faulty(c *kfake.Cluster) *atomic.Bool {
	var on atomic.Bool
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !on.Load() {
			return nil, nil, false
		}
		req, resp := kreq.(*kmsg.FetchRequest), kreq.ResponseKind().(*kmsg.FetchResponse)
		resp.SessionID = req.SessionID
		switch rand.IntN(20) {
		case 0:
			return nil, io.EOF, true
		case 1:
			resp.ErrorCode = kerr.FetchSessionIDNotFound.Code
		case 2:
			resp.ErrorCode = kerr.InvalidFetchSessionEpoch.Code
		case 3, 4:
			if req.SessionEpoch > 0 {
				return nil, nil, false // kfake would not count the request.
			}
			resp.ThrottleMillis = 1 + rand.Int32N(20)
		case 5, 6, 7, 8:
			if req.SessionEpoch != -1 || len(req.Topics) == 0 {
				return nil, nil, false
			}
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition = req.Topics[0].Partitions[0].Partition
			if rp.PreferredReadReplica = 1 - c.CurrentNode(); rand.IntN(2) == 0 {
				rp.PreferredReadReplica, rp.ErrorCode = -1, kerr.NotLeaderForPartition.Code
			}
			rp.HighWatermark, rp.LastStableOffset = -1, -1
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
		default:
			return nil, nil, false
		}
		return resp, nil, true
	})
	return &on
}

// produceRaw writes an encoded batch to the partition.
func produceRaw(t testing.TB, c *kfake.Cluster, cl *kgo.Client, topic string, partition int32, batch []byte) {
	t.Helper()
	req := kmsg.NewProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, c.TopicInfo(topic).TopicID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	eventually(t, func() bool {
		code := request(t, cl, &req).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
		if code == kerr.NotLeaderForPartition.Code { // It has just moved.
			cl.ForceMetadataRefresh()
			return false
		}
		require.Zero(t, code)
		return true
	}, func() string { return "no leader" })
}

// Many partitions are read while everything that may happen to fetches, sessions and leaders happens, and more heavy
// partitions are walked in slices than have a place. Every record is delivered once and in order.
func TestFaultsCostNothing(t *testing.T) {
	for name, rack := range map[string]string{"leaders": "", "a rack": "here"} {
		t.Run(name, func(t *testing.T) { faultsCostNothing(t, rack) })
	}
}

func faultsCostNothing(t *testing.T, rack string) {
	t.Helper()
	const parts, heavy, rounds = 300, walksMax + 1, 40
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(parts, "a"), kfake.SeedTopics(heavy, "h"))
	on := faulty(c)
	all := append(channels("a", parts), channels("h", heavy)...)
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "h"}, Start: Start{Mode: StartEarliest},
		Routes: []Route{{Channel: "{topic}/{partition}"}}, Rack: rack, CommitGroup: "g"}, all...)
	r.waitCurrent(t)
	on.Store(true)
	cl := mustClient(t, c.ListenAddrs())
	batch := kafkatest.Numbered(0, heavyRecords)
	batch.Attributes = int16(compress.Zstd)
	encoded := batch.Encode()
	var writes sync.WaitGroup
	for round := range rounds {
		if round == rounds/3 {
			for p := range int32(heavy) {
				produceRaw(t, c, cl, "h", p, encoded)
			}
		}
		writes.Go(func() {
			var recs []*kgo.Record
			for p := range int32(parts) {
				recs = append(recs, &kgo.Record{Topic: "a", Partition: p, Value: fmt.Appendf(nil, `{"n":%d}`, round)})
			}
			produceRecords(t, cl, recs...)
		})
		for range 3 {
			_ = c.MoveTopicPartition("a", rand.Int32N(parts), rand.Int32N(2))
		}
		_ = c.MoveTopicPartition("h", rand.Int32N(heavy), rand.Int32N(2))
		writes.Wait()
		fetches := r.Stats().Fetches.Load()
		eventually(t, func() bool { return r.Stats().Fetches.Load() > fetches+4 }, r.logs.String)
	}
	on.Store(false)
	want := numbered(0, rounds)
	for _, ch := range channels("a", parts) {
		r.wantLog(t, ch, want)
	}
	for _, ch := range channels("h", heavy) {
		eventually(t, func() bool {
			r.sink.mu.Lock()
			defer r.sink.mu.Unlock()
			return len(r.got[ch]) >= heavyRecords
		}, func() string { return fmt.Sprintf("%+v\n%s", r.Status().Topics[1], r.logs) })
		list := r.records(ch)
		require.Equal(t, uint64(heavyRecords), list[len(list)-1].Offset, ch)
		for i, rec := range list {
			if rec.Offset != uint64(i+1) {
				require.EqualValues(t, i+1, rec.Offset, ch)
			}
		}
	}
	r.wantIntact(t)
	r.waitCurrent(t)
	require.Less(t, r.logs.count("\n"), 60, "%s", r.logs)
}
