package source

import (
	"context"
	"fmt"
	"net"
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

// committedOf asks Kafka, as its own tools do, what the group has committed of a topic with one partition.
func committedOf(t testing.TB, cl *kgo.Client, group, topic string) int64 {
	t.Helper()
	req := kmsg.NewOffsetFetchRequest()
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, rt)
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = topic, []int32{0}
	rg.Topics = append(rg.Topics, gt)
	req.Groups = append(req.Groups, rg)
	resp := request(t, cl, &req).(*kmsg.OffsetFetchResponse)
	switch {
	case len(resp.Groups) > 0 && len(resp.Groups[0].Topics) == 0, len(resp.Groups) == 0 && len(resp.Topics) == 0:
		return -1
	case len(resp.Groups) > 0:
		return resp.Groups[0].Topics[0].Partitions[0].Offset
	}
	return resp.Topics[0].Partitions[0].Offset
}

func (r *rig) stopNow(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	require.NoError(t, r.Stop(ctx))
}

// Positions are committed while records come and at the end, and another source goes on exactly there.
func TestCommitAndResume(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "a", "b"))
	cl := mustClient(t, c.ListenAddrs())
	o := Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "b"}, Start: Start{Mode: StartCommitted}, CommitGroup: "g", CommitInterval: time.Millisecond}
	produce(t, cl, "a", 0, offsets(0, 5)...)
	r := startRig(t, o, "a", "b")
	r.waitReady(t)
	eventually(t, func() bool { return committedOf(t, cl, "g", "a") == 5 && committedOf(t, cl, "g", "b") == 0 }, func() string {
		return "where it begins, the end for want of a position, is not committed: " + r.logs.String()
	})
	produce(t, cl, "a", 0, offsets(5, 10)...)
	r.wantValues(t, "a", offsets(5, 10))
	eventually(t, func() bool { return committedOf(t, cl, "g", "a") == 10 }, func() string { return r.logs.String() })
	require.NotZero(t, r.Stats().Commits.Load())
	require.Zero(t, r.Stats().CommitErrors.Load())
	r.stopNow(t)

	produce(t, cl, "a", 0, offsets(10, 15)...)
	addPartitions(t, c, "b", 2)
	produce(t, cl, "b", 1, "new partition")
	o.CommitInterval = time.Hour
	r = startRig(t, o, "a", "b")
	r.wantValues(t, "a", offsets(10, 15))
	r.wantValues(t, "b", []string{"new partition"})
	produce(t, cl, "a", 0, "15")
	r.wantValues(t, "a", offsets(10, 16))
	r.stopNow(t)
	require.EqualValues(t, 16, committedOf(t, cl, "g", "a"), "the last commit: %s", r.logs)
	require.Zero(t, lost(r.topic(0)))
}

// A position is committed only when everything before it is on the bus.
func TestCommitOnlyWhatIsPublished(t *testing.T) {
	b := newBench(t, Options{CommitGroup: "g"})
	data := kafkatest.Numbered(0, 5).Encode()
	before := b.p.published.Load()
	taken := b.f.takeOne(asked{p: b.p}, &kmsg.FetchResponseTopicPartition{HighWatermark: 5, LastStableOffset: 5, RecordBatches: data}, 0)
	require.NoError(t, taken.err)
	require.EqualValues(t, 5, b.p.routed.Load())
	require.Equal(t, before, b.p.published.Load(), "committed before it is on the bus")
	b.Source.mu.Lock()
	defer b.Source.mu.Unlock()
	require.NoError(t, b.Source.router.sealLocked())
	require.EqualValues(t, 5, b.p.published.Load())
}

// The group may move to another broker, and its coordinator be away: it is said once, counted, and holds nothing up.
func TestCommitErrors(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	var code atomic.Int32
	var asked atomic.Int32
	code.Store(int32(kerr.NotCoordinator.Code))
	c.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked.Add(1)
		if code.Load() == 0 {
			return nil, nil, false
		}
		req := kreq.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = "a"
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.ErrorCode = int16(code.Load())
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, CommitGroup: "g", CommitInterval: time.Millisecond}, "a")
	for n := range 20 {
		produce(t, cl, "a", 0, fmt.Sprint(n))
	}
	r.wantValues(t, "a", offsets(0, 20))
	eventually(t, func() bool { return r.Stats().CommitErrors.Load() > 3 }, func() string { return "no errors" })
	require.Equal(t, 1, r.logs.count("committing positions failed"), r.logs.String())
	code.Store(int32(kerr.UnknownMemberID.Code))
	eventually(t, func() bool { return asked.Load() > 10 }, func() string { return "not tried again" })
	code.Store(0)
	eventually(t, func() bool { return committedOf(t, cl, "g", "a") == 20 }, func() string { return r.logs.String() })
	eventually(t, func() bool { return r.logs.count("committing positions works again") == 1 }, func() string { return r.logs.String() })
}

// Kafka forgets positions that were committed long ago: they are committed again though nothing came.
func TestCommitAgain(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "a", 0, offsets(0, 5)...)
	startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, CommitGroup: "g", CommitInterval: time.Millisecond, CommitAgain: 20 * time.Millisecond}, "a")
	for range 2 {
		eventually(t, func() bool { return committedOf(t, cl, "g", "a") == 5 }, func() string { return "not committed" })
		req := kmsg.NewDeleteGroupsRequest()
		req.Groups = []string{"g"}
		require.Zero(t, request(t, cl, &req).(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode)
	}
}

// What the group takes is not committed again because it refuses another topic, and one that is gone is no error.
func TestCommitRefusedInPart(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "b"))
	cl := mustClient(t, c.ListenAddrs())
	var asked [2]atomic.Int32
	c.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for i := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = req.Topics[i].Topic
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			if rt.Topic == "b" {
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				asked[1].Add(1)
			} else {
				asked[0].Add(1)
			}
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "b"}, CommitGroup: "g", CommitInterval: time.Millisecond})
	r.waitReady(t)
	eventually(t, func() bool { return asked[1].Load() > 4 }, func() string { return r.logs.String() })
	require.EqualValues(t, 1, asked[0].Load())
	require.Contains(t, r.logs.String(), "topic b, partition 0")
	deleteTopic(t, cl, "b")
	eventually(t, func() bool { return r.logs.count("committing positions works again") == 1 }, func() string { return r.logs.String() })
	require.EqualValues(t, 1, asked[0].Load())
}

// A coordinator that says nothing does not hold up the end for longer than allowed.
func TestCommitAtStopIsBounded(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	c.ControlKey(int16(kmsg.FindCoordinator), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.Host, resp.Port = "127.0.0.1", int32(silent.Addr().(*net.TCPAddr).Port)
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, CommitGroup: "g"}, "a")
	r.waitReady(t)
	produce(t, mustClient(t, c.ListenAddrs()), "a", 0, "1")
	r.wantValues(t, "a", []string{"1"})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.NoError(t, r.Stop(ctx))
	require.Less(t, time.Since(began), waitMax/2)
}

// While committed positions cannot be had nothing is read, and why is said.
func TestResumeNeedsTheGroup(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	var refuse atomic.Bool
	refuse.Store(true)
	c.ControlKey(int16(kmsg.FindCoordinator), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !refuse.Load() {
			return nil, nil, false
		}
		resp := kreq.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartCommitted}, CommitGroup: "g"}, "a")
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, `kafka.start committed: group "g"`)
	require.False(t, r.Ready())
	refuse.Store(false)
	r.waitReady(t)
}

// A new topic whose positions cannot be had holds up nothing else: a topic that is read already follows its leader.
func TestOthersGoOnWithoutTheGroup(t *testing.T) {
	for _, fault := range []string{"refused", "one topic refused", "silent"} {
		t.Run(fault, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "old"))
			require.NoError(t, c.MoveTopicPartition("old", 0, 0))
			cl := mustClient(t, c.ListenAddrs())
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"old", "new", "other"}, CommitGroup: "g",
				Start: Start{Mode: StartCommitted}}, "old", "new", "other")
			r.waitReady(t)
			var healed atomic.Bool
			stop := make(chan struct{})
			defer close(stop)
			key := kmsg.FindCoordinator
			if fault == "one topic refused" {
				key = kmsg.OffsetFetch
			}
			c.ControlKey(int16(key), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				switch {
				case healed.Load():
					return nil, nil, false
				case fault == "silent":
					c.SleepControl(func() {
						for !healed.Load() {
							time.Sleep(time.Millisecond)
						}
					})
					return nil, nil, false
				case fault == "refused":
					resp := kreq.ResponseKind().(*kmsg.FindCoordinatorResponse)
					resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
					return resp, nil, true
				}
				resp := kreq.ResponseKind().(*kmsg.OffsetFetchResponse)
				for _, rt := range kreq.(*kmsg.OffsetFetchRequest).Topics {
					code := int16(0)
					if rt.Topic == "new" {
						code = kerr.TopicAuthorizationFailed.Code
					}
					resp.Topics = append(resp.Topics, kmsg.OffsetFetchResponseTopic{Topic: rt.Topic,
						Partitions: []kmsg.OffsetFetchResponseTopicPartition{{Offset: -1, ErrorCode: code}}})
				}
				return resp, nil, true
			})
			createTopic(t, cl, "new", 1)
			createTopic(t, cl, "other", 1)
			produce(t, cl, "new", 0, "1")
			produce(t, cl, "other", 0, "1")
			eventually(t, func() bool { return r.Status().Topics[1].State == TopicFailed }, r.logs.String)
			require.NoError(t, c.MoveTopicPartition("old", 0, 1))
			produce(t, cl, "old", 0, "moved")
			r.wantValues(t, "old", []string{"moved"})
			if fault == "one topic refused" {
				r.wantValues(t, "other", []string{"1"})
			}
			require.Contains(t, r.Status().Topics[1].Error, "kafka.start committed")
			require.Empty(t, r.records("new"))
			healed.Store(true)
			r.wantValues(t, "new", []string{"1"})
			r.wantValues(t, "other", []string{"1"})
			eventually(t, func() bool { return r.Status().Error == "" }, r.logs.String)
		})
	}
}

// What was committed of an earlier life of a topic says nothing about the new one, which is read from its beginning.
func TestResumeAfterRecreation(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	produce(t, cl, "a", 0, offsets(0, 5)...)
	o := Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartCommitted}, CommitGroup: "g"}
	r := startRig(t, o, "a")
	r.waitReady(t)
	fetches := r.Stats().Fetches.Load()
	eventually(t, func() bool { return r.Stats().Fetches.Load() > fetches }, func() string { return "no fetch" })
	r.stopNow(t)
	require.EqualValues(t, 5, committedOf(t, cl, "g", "a"))
	deleteTopic(t, cl, "a")
	other := mustClient(t, c.ListenAddrs())
	createTopic(t, other, "a", 1)
	// Kafka deletes the positions with the topic, a moment later: one that it has not come to is put back.
	commit := kmsg.NewOffsetCommitRequest()
	commit.Version, commit.Group = 8, "g"
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "a"
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset, rp.Metadata = 5, metadataOf([16]byte{1})
	rt.Partitions = append(rt.Partitions, rp)
	commit.Topics = append(commit.Topics, rt)
	older := mustClient(t, c.ListenAddrs(), kgo.MaxVersions(kversion.V3_0_0())) // Later ones name the topic by its id.
	require.Zero(t, request(t, older, &commit).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
	produce(t, other, "a", 0, offsets(0, 10)...)
	r = startRig(t, o, "a")
	r.wantValues(t, "a", offsets(0, 10))
	require.Contains(t, r.logs.String(), "created again after its positions were committed")
}

// A committed position that retention has overtaken: what is missing is a loss like any other.
func TestResumeBehindTheLog(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	o := Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, CommitGroup: "g", CommitInterval: time.Millisecond}
	produce(t, cl, "a", 0, offsets(0, 5)...)
	r := startRig(t, o, "a")
	r.wantValues(t, "a", offsets(0, 5))
	r.stopNow(t)
	produce(t, cl, "a", 0, offsets(5, 10)...)
	produce(t, cl, "a", 0, offsets(10, 15)...)
	deleteRecords(t, cl, "a", 0, 10)
	o.Start.Mode = StartCommitted
	r = startRig(t, o, "a")
	r.wantValues(t, "a", offsets(10, 15))
	require.EqualValues(t, 5, r.topic(0).Lost[LossRetention].Load())
	require.Contains(t, r.logs.String(), "reason=retention from=5 to=9")
}

func TestCommitMetadata(t *testing.T) {
	id := [16]byte{1, 2, 15: 9}
	require.Equal(t, id, topicIDOf(metadataOf(id)))
	for _, s := range []string{"", "topic ", "topic x", "somebody else's", "topic AAAA"} {
		require.Zero(t, topicIDOf(&s), s)
	}
	require.Zero(t, topicIDOf(nil))
	require.Empty(t, *metadataOf([16]byte{}))
}
