package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func addPartitions(t testing.TB, c *kfake.Cluster, topic string, total int32) {
	t.Helper()
	cl := mustClient(t, c.ListenAddrs())
	req := kmsg.NewCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, total
	req.Topics = append(req.Topics, rt)
	require.Zero(t, request(t, cl, &req).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode)
}

// A partition that appears after start is read from its beginning, even with kafka.start latest.
func TestNewPartitionsFromTheirBeginning(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, MetadataInterval: 300 * time.Millisecond}, "a")
	r.waitReady(t)
	_, epoch, ok := r.Position("a")
	require.True(t, ok)
	require.Contains(t, epoch, ".0.1")

	addPartitions(t, c, "a", 3)
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "a", 1, numbered(0, 10)...) // Before the source knows of it.
	r.wantValues(t, "a", numbered(0, 10))
	_, _, ok = r.Position("a")
	require.False(t, ok, "more than one partition feeds the channel now")
}

func TestMissingTopicIsPickedUpAndNeverCreated(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "here"), kfake.AllowAutoTopicCreation())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"here", "later"}}, "here", "later")
	r.waitReady(t) // A topic that does not exist holds up nothing.
	refreshes := r.Stats().MetadataRefreshes.Load()
	eventually(t, func() bool { return r.Stats().MetadataRefreshes.Load() > refreshes+3 }, func() string { return "metadata is not refreshed at again" })
	require.Equal(t, TopicMissing, r.Status().Topics[1].State)
	require.Equal(t, TopicPresent, r.Status().Topics[0].State)
	require.Equal(t, 1, r.logs.count("does not exist"), "one line")
	_, _, ok := r.Position("later")
	require.False(t, ok)

	cl := mustClient(t, c.ListenAddrs())
	createTopic(t, cl, "later", 1)
	produce(t, cl, "later", 0, numbered(0, 20)...) // From its beginning, though start is latest.
	r.wantValues(t, "later", numbered(0, 20))
	require.Equal(t, TopicPresent, r.Status().Topics[1].State)
	require.Equal(t, 1, r.logs.count("a topic has appeared"))
}

// The late answer of a broker that still tells of the earlier life is not one more recreation.
func TestRetiredTopicIDIsIgnored(t *testing.T) {
	k := newSink(t, 1, ringSize{slots: 16, bytes: 1 << 20})
	r := &rig{sink: k, logs: &logs{}}
	r.start(t, Options{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}, BackoffMin: time.Hour, BackoffMax: time.Hour})
	eventually(t, func() bool { return r.Stats().MetadataErrors.Load() == 1 }, func() string { return "" })
	// The watcher sleeps for an hour now: its state is ours.
	top := r.Source.topics[0]
	answer := func(id byte) *kmsg.MetadataResponseTopic {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.TopicID = kmsg.StringPtr("a"), [16]byte{id}
		rt.Partitions = append(rt.Partitions, kmsg.NewMetadataResponseTopicPartition())
		return &rt
	}
	leaders := map[*partition]leader{}
	require.True(t, r.Source.applyTopic(top, answer(1), leaders))
	require.Equal(t, StartLatest, top.parts[0].from.Mode)
	require.True(t, r.Source.applyTopic(top, answer(2), leaders))
	require.Equal(t, StartEarliest, top.parts[0].from.Mode)
	require.False(t, r.Source.applyTopic(top, answer(1), leaders))
	require.Equal(t, [16]byte{2}, top.parts[0].topicID)
	require.EqualValues(t, 1, top.stats.Recreations.Load())
}
