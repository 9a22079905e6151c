package source

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"wsd/internal/kafkatest"
)

// What explains offsets that are missing between two batches, at 3 to 5 and again at 8 to 9.
func TestHoles(t *testing.T) {
	for _, c := range []struct {
		name               string
		policy             cleanup
		logStart           int64
		retention, missing uint64
		compacted, gaps    uint64
		breaks             []int
	}{
		{"compacted", cleanupCompact, 0, 0, 0, 5, 0, nil},
		{"not compacted", cleanupDelete, 0, 0, 5, 0, 0, []int{3, 5}},
		{"not known", cleanupUnknown, 0, 0, 0, 0, 5, nil},
		{"old broker", cleanupUnknown, -1, 0, 0, 0, 5, nil},
		{"deleted", cleanupDelete, 6, 3, 2, 0, 0, []int{3, 5}},
		{"deleted from a compacted topic", cleanupCompact, 5, 2, 0, 3, 0, []int{3}},
		{"deleted, not known", cleanupUnknown, 100, 5, 0, 0, 0, []int{3, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Options{})
			b.Source.topics[0].cleanup.Store(uint32(c.policy))
			b.feedFrom(t, 12, c.logStart, kafkatest.Join(kafkatest.Numbered(0, 3), kafkatest.Numbered(6, 2), kafkatest.Numbered(10, 2)))
			b.wantValues(t, "a", append(append(offsets(0, 3), offsets(6, 8)...), offsets(10, 12)...))
			ts := b.topic(0)
			require.Equal(t, c.retention, ts.Lost[LossRetention].Load())
			require.Equal(t, c.missing, ts.Lost[LossMissing].Load())
			require.Equal(t, c.retention+c.missing, lost(ts))
			require.Equal(t, c.compacted, ts.Compacted.Load())
			require.Equal(t, c.gaps, ts.Gaps.Load())
			require.Equal(t, c.breaks, b.breaksOf("a"), "each break at its place in the stream")
			require.EqualValues(t, len(c.breaks), ts.Breaks.Load())
			if c.missing > 0 {
				require.Contains(t, b.logs.String(), "reason=missing")
			}
			require.EqualValues(t, 12, b.p.routed.Load())
		})
	}
}

// A break names exactly the channels that may miss something, and costs nothing where nobody has subscribed to one.
func TestBrokenChannels(t *testing.T) {
	for _, c := range []struct {
		route        string
		others, want []string
	}{
		{"{topic}", []string{"b", "aa"}, []string{"a"}},
		{"{topic}", nil, []string{"a"}},
		{"x:{key}", []string{"x:1", "x:2", "y:1", "x:"}, []string{"x:1", "x:2"}},
		{"x", []string{"y"}, nil},
		{"{partition}:{key}", []string{"0:k", "1:k"}, []string{"0:k"}},
	} {
		b := newBench(t, Options{Routes: []Route{{Channel: c.route}}})
		b.Source.topics[0].cleanup.Store(uint32(cleanupDelete))
		for _, name := range c.others {
			b.interest.Add(name, 0, 0)
		}
		b.feedFrom(t, 6, 0, kafkatest.Join(kafkatest.Numbered(3, 3)))
		eventually(t, func() bool { return b.ring.Cursor(0).Lag() == 0 }, func() string { return "the bus is not read" })
		b.sink.mu.Lock()
		got := slices.Collect(maps.Keys(b.breaks))
		b.sink.mu.Unlock()
		require.ElementsMatch(t, c.want, got, c.route)
		require.EqualValues(t, min(1, len(c.want)), b.topic(0).Breaks.Load())
	}
}

// Losses are logged with their exact range, and when there are many, all of them together.
func TestLossLines(t *testing.T) {
	b := newBench(t, Options{LogInterval: time.Hour})
	b.Source.topics[0].cleanup.Store(uint32(cleanupDelete))
	var data []byte
	for n := range int64(30) {
		data = append(data, kafkatest.Numbered(10*n+5, 5).Encode()...)
	}
	b.feedFrom(t, 300, 0, data)
	require.EqualValues(t, 30*5, lost(b.topic(0)))
	require.Equal(t, lossesPerInterval, b.logs.count("records are lost; subscribers"))
	require.Contains(t, b.logs.String(), "reason=missing from=10 to=14 offsets=5")
	b.Source.mu.Lock()
	b.Source.losses.since = time.Now().Add(-2 * time.Hour)
	b.Source.mu.Unlock()
	b.flushLosses()
	require.Contains(t, b.logs.String(), "losses=20 between=100 and=294 offsets=100")
}

// The policy of a topic is asked for before its first record is read, and again when it is another topic.
func TestCleanupIsKnown(t *testing.T) {
	compact := "compact,delete"
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	create := kmsg.NewCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "b", 1, 1
	cc := kmsg.NewCreateTopicsRequestTopicConfig()
	cc.Name, cc.Value = cleanupConfig, &compact
	ct.Configs = append(ct.Configs, cc)
	create.Topics = append(create.Topics, ct)
	require.Zero(t, request(t, cl, &create).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode)
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "b"}})
	r.waitReady(t)
	require.Equal(t, cleanupDelete, cleanup(r.Source.topics[0].cleanup.Load()))
	require.Equal(t, cleanupCompact, cleanup(r.Source.topics[1].cleanup.Load()))
	deleteTopic(t, cl, "b")
	createTopic(t, mustClient(t, c.ListenAddrs()), "b", 1)
	eventually(t, func() bool { return cleanup(r.Source.topics[1].cleanup.Load()) == cleanupDelete }, func() string { return r.logs.String() })
}

// Without the permission to read it the policy is not known, which is said once and stops nothing.
func TestCleanupNotPermitted(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	c.ControlKey(int16(kmsg.DescribeConfigs), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kreq.(*kmsg.DescribeConfigsRequest).ResponseKind().(*kmsg.DescribeConfigsResponse)
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceName, r.ErrorCode = "a", kerr.TopicAuthorizationFailed.Code
		resp.Resources = append(resp.Resources, r)
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	r.waitReady(t)
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "1")
	r.wantValues(t, "a", []string{"1"})
	require.Equal(t, cleanupUnknown, cleanup(r.Source.topics[0].cleanup.Load()))
	require.Equal(t, 1, r.logs.count("cleanup.policy of a topic cannot be read"))
}

// A new leader whose log ends before our position, though it may have grown past it since: everything from there on is
// read, as it is not what was read before, under another epoch, and the subscribers are told.
func TestTruncationByANewLeader(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	r.waitReady(t)
	produce(t, cl, "a", 0, offsets(0, 10)...)
	r.wantValues(t, "a", offsets(0, 10))
	_, epoch, _ := r.Position("a")
	move := func() { require.NoError(t, c.MoveTopicPartition("a", 0, 1-c.LeaderFor("a", 0))) }

	// A leader that has everything changes nothing.
	move()
	produce(t, cl, "a", 0, offsets(10, 12)...)
	r.wantValues(t, "a", offsets(0, 12))
	require.Zero(t, r.topic(0).Truncations.Load()+lost(r.topic(0)))

	var asked atomic.Int32
	c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
		asked.Store(req.Topics[0].Partitions[0].LeaderEpoch)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = "a"
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		rp.LeaderEpoch, rp.EndOffset = asked.Load(), 7
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	move()
	r.wantValues(t, "a", append(offsets(0, 12), offsets(7, 12)...))
	require.EqualValues(t, 1, asked.Load(), "the epoch of the last batch that was read")
	require.Equal(t, []int{12}, r.breaksOf("a"))
	require.EqualValues(t, 1, r.topic(0).Truncations.Load())
	require.EqualValues(t, 5, r.topic(0).Lost[LossTruncated].Load())
	require.Contains(t, r.logs.String(), "reason=truncated from=7 to=11")
	offset, cut, ok := r.Position("a")
	require.True(t, ok)
	require.EqualValues(t, 12, offset)
	require.NotEqual(t, epoch, cut)
	require.True(t, strings.HasPrefix(cut, epoch))
}

// A broker that cannot answer about epochs does not stop its partitions.
func TestLeaderMovesWithoutEpochs(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"), kfake.MaxVersions(kversion.V2_2_0()))
	cl := mustClient(t, c.ListenAddrs(), kgo.MaxVersions(kversion.V2_2_0()))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	r.waitReady(t)
	for n := range 4 {
		produce(t, cl, "a", 0, fmt.Sprint(n))
		r.wantValues(t, "a", offsets(0, n+1))
		require.NoError(t, c.MoveTopicPartition("a", 0, 1-c.LeaderFor("a", 0)))
	}
}

// What the old life of a topic still had, and was not read, is lost and counted.
func TestRecreatedBeforeItsEnd(t *testing.T) {
	b := newBench(t, Options{})
	tp := b.Source.topics[0]
	tp.seen, tp.id = true, [16]byte{1}
	b.p.high.Store(10)
	b.p.routed.Store(4)
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID = kmsg.StringPtr("a"), [16]byte{2}
	rt.Partitions = append(rt.Partitions, kmsg.NewMetadataResponseTopicPartition())
	resp := kmsg.NewMetadataResponse()
	resp.Topics = append(resp.Topics, rt)
	_, err := b.apply(&resp)
	require.NoError(t, err)
	require.EqualValues(t, 6, b.topic(0).Lost[LossRecreated].Load())
	require.Contains(t, b.logs.String(), "reason=recreated from=4 to=9 offsets=6")
	eventually(t, func() bool { return len(b.breaksOf("a")) == 1 }, func() string { return "no break" })
	require.WithinRange(t, tp.parts[0].fetchFrom, time.Now(), time.Now().Add(b.o.ReturnWait))
	_, _, ok := b.Position("a")
	require.False(t, ok, "the new life has no position yet, and the old one's is no longer told")
}

// What waits for a line is logged when the source stops.
func TestLossesAreLoggedAtTheEnd(t *testing.T) {
	b := newBench(t, Options{})
	b.Source.mu.Lock()
	for n := range int64(lossesPerInterval + 2) {
		require.NoError(t, b.loseLocked(b.p, LossUnreadable, n, n+1))
	}
	b.Source.mu.Unlock()
	require.Zero(t, b.logs.count("more records are lost"))
	require.NoError(t, b.Stop(t.Context()))
	require.Contains(t, b.logs.String(), "more records are lost")
	require.Contains(t, b.logs.String(), "losses=2")
}
