package source

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/route"
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
	eventually(t, func() bool { return r.Stats().MetadataRefreshes.Load() > refreshes+3 }, func() string { return "metadata is not looked at again" })
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

// Whether the new log is shorter or longer than the old position: it is read from its beginning, and nothing twice.
func TestRecreatedTopic(t *testing.T) {
	for _, produced := range []int{50, 150} {
		t.Run(fmt.Sprint(produced), func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
			cl := mustClient(t, c.ListenAddrs())
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, MetadataInterval: time.Second}, "a")
			r.waitReady(t)
			produce(t, cl, "a", 0, numbered(0, 100)...)
			r.wantValues(t, "a", numbered(0, 100))
			_, epoch, _ := r.Position("a")

			other := mustClient(t, c.ListenAddrs())
			deleteTopic(t, other, "a")
			createTopic(t, other, "a", 1)
			produce(t, other, "a", 0, numbered(1000, 1000+produced)...)
			r.wantValues(t, "a", append(numbered(0, 100), numbered(1000, 1000+produced)...))
			require.EqualValues(t, 1, r.topic(0).Recreations.Load())
			require.Zero(t, r.topic(0).Lost.Load()+r.topic(0).Gaps.Load()+r.topic(0).Truncations.Load())
			offset, fresh, ok := r.Position("a")
			require.True(t, ok)
			require.EqualValues(t, produced, offset)
			require.NotEqual(t, epoch, fresh)
			require.Contains(t, r.logs.String(), "created again")
		})
	}
}

// Deleted, and created again only later: in between there is nothing to read and nothing goes wrong.
func TestDeletedThenRecreatedTopic(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	r.waitReady(t)
	produce(t, cl, "a", 0, numbered(0, 10)...)
	r.wantValues(t, "a", numbered(0, 10))
	deleteTopic(t, cl, "a")
	eventually(t, func() bool { return r.Status().Topics[0].State == TopicMissing }, func() string { return fmt.Sprintf("%+v", r.Status()) })
	other := mustClient(t, c.ListenAddrs())
	createTopic(t, other, "a", 1)
	produce(t, other, "a", 0, numbered(20, 30)...)
	r.wantValues(t, "a", append(numbered(0, 10), numbered(20, 30)...))
	require.EqualValues(t, 1, r.topic(0).Recreations.Load())
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

// Retention that deletes what was not read yet: the loss is counted exactly and reading goes on.
func TestRetentionOvertakes(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	for i := range 20 {
		produce(t, cl, "a", 0, numbered(i*10, i*10+10)...)
	}
	r := &rig{sink: newSink(t, 1, ringSize{slots: 2, bytes: 1 << 20})}
	r.read(t, 0, r.collect)
	r.frozen = true
	r.interest.Add("a", 0)
	// One batch of ten in a response, and a bus that takes two: the reader stands early in the log.
	r.start(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, FetchMaxBytes: 1, FetchTotalBytes: 1})
	eventually(t, func() bool { return r.ring.Stats().Stalls.Load() > 0 }, func() string { return "the bus is not full" })
	stopped := int(r.topic(0).Records.Load())
	deleteRecords(t, cl, "a", 0, 155)
	r.sink.mu.Lock()
	r.frozen = false
	r.sink.mu.Unlock()

	eventually(t, func() bool { at, _, _ := r.Position("a"); return at == 200 }, func() string { return r.logs.String() })
	eventually(t, func() bool { rs := r.records("a"); return len(rs) > 0 && rs[len(rs)-1].Offset == 200 }, func() string { return "the end has not come" })
	recs := r.records("a")
	lost := int(r.topic(0).Lost.Load())
	require.Equal(t, 200, len(recs)+lost, "what was not delivered is counted")
	require.Positive(t, lost)
	require.GreaterOrEqual(t, len(recs), stopped)
	for i := 1; i < len(recs); i++ {
		require.Greater(t, recs[i].Offset, recs[i-1].Offset)
	}
	require.Contains(t, r.logs.String(), "retention overtook")
}

func TestPositionOnlyWhereOnePartitionFeeds(t *testing.T) {
	s := &Source{}
	parts := func(name, channel string, n int32) *topic {
		table, err := route.New([]Route{{Channel: channel}}, nil)
		require.NoError(t, err)
		tp := &topic{name: name, route: table.Topic(name), id: [16]byte{1}}
		for i := range n {
			p := s.newPartition(tp, i, Start{})
			p.routed.Store(int64(i) + 5)
			tp.parts = append(tp.parts, p)
		}
		return tp
	}
	for _, c := range []struct {
		name   string
		topics []*topic
		want   []string
	}{
		{"one partition", []*topic{parts("a", "{topic}", 1)}, []string{"a"}},
		{"two partitions on one channel", []*topic{parts("a", "{topic}", 2)}, nil},
		{"a channel a partition", []*topic{parts("a", "{topic}-{partition}", 2)}, []string{"a-0", "a-1"}},
		{"two topics on one channel", []*topic{parts("a", "x", 1), parts("b", "x", 1), parts("c", "{topic}", 1)}, []string{"c"}},
		{"keys may name it", []*topic{parts("a", "{topic}", 1), parts("b", "{key}", 1)}, nil},
		{"keys of a topic that does not exist yet", []*topic{parts("a", "{topic}", 1), parts("b", "{key}", 0)}, nil},
		{"keys cannot name it", []*topic{parts("a", "{topic}", 1), parts("b", "b:{key}", 1)}, []string{"a"}},
		{"headers cannot name it: too short", []*topic{parts("a", "x.", 1), parts("b", "x.{header.h}", 1)}, []string{"x."}},
		{"partition numbers may name it", []*topic{parts("a", "x.7", 1), parts("b", "{header.h}.{partition}", 1)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.positions.Store(buildPositions(c.topics))
			var got []string
			for name := range s.positions.Load().byChannel {
				got = append(got, name)
			}
			require.ElementsMatch(t, c.want, got)
		})
	}
	s.positions.Store(buildPositions([]*topic{parts("a", "{topic}-{partition}", 2)}))
	offset, epoch, ok := s.Position("a-1")
	require.True(t, ok)
	require.EqualValues(t, 6, offset)
	require.Equal(t, "AQAAAAAAAAAAAAAAAAAAAA.1.2", epoch)
}
