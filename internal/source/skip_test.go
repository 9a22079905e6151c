package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
	"wsd/internal/kafkatest"
	"wsd/internal/route"
)

// A broker that cannot read one offset of its own log is passed by hand. What is skipped counts as lost, and
// subscribers are notified between what comes before and what comes after it.
func TestSkip(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "0", "1")
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "2", "3")
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "4")
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if len(req.Topics) == 0 || req.Topics[0].Partitions[0].FetchOffset/2 != 1 {
			return nil, nil, false
		}
		resp := kreq.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.ErrorCode, rp.HighWatermark = kerr.UnknownServerError.Code, -1
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, CommitGroup: "g", FetchMaxBytes: 1, BackoffMax: time.Hour}, "a")
	r.wantValues(t, "a", []string{"0", "1"})
	eventually(t, func() bool { return r.Status().Topics[0].Partitions[0].Error != "" }, r.logs.String)

	for _, wrong := range []struct {
		topic     string
		partition int32
		to        int64
		err       error
		text      string
	}{
		{"b", 0, SkipOne, ErrNotRead, "topic b has no partition 0 that wsd reads"},
		{"a", 1, SkipOne, ErrNotRead, "topic a has no partition 1"},
		{"a", 0, 2, ErrSkipRange, "offset 2 of a/0 is not after the position, which is 2"},
		{"a", 0, 6, ErrSkipRange, "offset 6 of a/0 is after the end of the log, which is 5"},
		{"a", 0, -7, ErrSkipRange, "negative"},
	} {
		_, _, err := r.Skip(wrong.topic, wrong.partition, wrong.to)
		require.ErrorIs(t, err, wrong.err)
		require.ErrorContains(t, err, wrong.text)
	}
	from, end, err := r.Skip("a", 0, SkipOne) // In the same batch, which the broker cannot read.
	require.NoError(t, err)
	require.Equal(t, []int64{2, 3}, []int64{from, end})
	_, _, err = r.Skip("a", 0, 4)
	require.NoError(t, err)
	r.wantValues(t, "a", []string{"0", "1", "4"})
	require.Equal(t, []int{2, 2}, r.breaksOf("a"))
	require.EqualValues(t, 2, r.topic(0).Lost[LossSkipped].Load())
	require.Contains(t, r.logs.String(), "reason=skipped from=2 to=2 offsets=1")
	eventually(t, func() bool { return committedOf(t, mustClient(t, c.ListenAddrs()), "g", "a") == 5 }, r.logs.String)
}

// A rule's stop is ended, an answer that was under way no longer counts, and a walk that was put aside ends.
func TestSkipEndsWhatWasUnderWay(t *testing.T) {
	b := newBench(t, Options{})
	b.publishView()
	b.Source.topics[0].state = TopicPresent
	b.p.routed.Store(-1)
	_, _, err := b.Skip("a", 0, SkipOne)
	require.ErrorIs(t, err, ErrNoPosition)
	b.p.routed.Store(0)
	_, _, err = b.Skip("a", 0, SkipEnd)
	require.ErrorContains(t, err, "the end of a/0 is not known yet; name an offset")

	b.respond(t, map[*partition][]byte{b.p: heavyBatch(0)})
	text := "stopped"
	b.p.stopped.Store(&text)
	b.Source.mu.Lock()
	b.failLocked(b.p, kafka.Code(-1), true)
	b.Source.mu.Unlock()
	from, end, err := b.Skip("a", 0, heavyRecords)
	require.NoError(t, err)
	require.Equal(t, []int64{b.topicRecords(), heavyRecords}, []int64{from, end})
	require.NoError(t, b.f.goOn())
	require.Empty(t, b.f.walks)
	require.EqualValues(t, heavyRecords, b.p.routed.Load())
	require.Empty(t, b.p.errorText())
	ok, _ := b.p.readyLocked(b.Source.refreshed, time.Now())
	require.True(t, ok)
	b.feed(t, heavyRecords+1, nil, kafkatest.Join(kafkatest.Numbered(heavyRecords, 1)))
	_, end, err = b.Skip("a", 0, SkipEnd)
	require.ErrorIs(t, err, ErrSkipRange, "at the end already")
	require.Zero(t, end)
}

// A rule's stop stands at the record that it cannot place, not at an offset before it that compaction has left empty:
// skipping one offset passes the record.
func TestSkipPassesWhatStops(t *testing.T) {
	b := newBench(t, Options{Routes: []Route{{Channel: "x:{key}", OnError: route.OnError{Action: route.ErrorStop}}}})
	b.publishView()
	b.interest.Add("x:k", 0, 0)
	b.p.channel = nil
	b.f.parts = []*partition{b.p}
	data := kafkatest.Join(kafkatest.Batch{LastDelta: 9, Producer: -1, Records: []kafkatest.Record{
		{Delta: 0, Key: "k", Value: "0"}, {Delta: 5, Value: "5"}, {Delta: 9, Key: "k", Value: "9"}}})
	b.feed(t, 10, nil, data)
	require.Contains(t, b.p.errorText(), "stopped at offset 5")
	require.EqualValues(t, 5, b.p.routed.Load())
	from, end, err := b.Skip("a", 0, SkipOne)
	require.NoError(t, err)
	require.Equal(t, []int64{5, 6}, []int64{from, end})
	b.feed(t, 10, nil, data)
	b.wantValues(t, "x:k", []string{"0", "9"})
	require.EqualValues(t, 1, lost(b.topic(0)))
	require.EqualValues(t, 7, b.topic(0).Compacted.Load())
}

// topicRecords returns how many records were read.
func (b *bench) topicRecords() int64 { return int64(b.topic(0).Records.Load()) }
