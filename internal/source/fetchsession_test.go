package source

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
	"wsd/internal/kafkatest"
)

// everything returns a request for partitions 0 to n-1 of some topics, all at one offset.
func everything(offset int64, n int, topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = kafka.FetchByName
	for _, name := range topics {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic = name
		for p := range n {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset = int32(p), offset
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// TestFetchSession follows a session from its begin to its end.
func TestFetchSession(t *testing.T) {
	n := fetchSession{min: 10, full: time.Second}
	now := time.Now()
	ok := func(id int32) *kmsg.FetchResponse { return &kmsg.FetchResponse{SessionID: id} }
	next := func(req *kmsg.FetchRequest, behind bool) *kmsg.FetchRequest {
		parts := 0
		for _, t := range req.Topics {
			parts += len(t.Partitions)
		}
		return n.next(req, parts, behind, now)
	}
	few := next(everything(5, 9, "a"), true)
	require.EqualValues(t, -1, few.SessionEpoch, "few partitions need no session")
	require.False(t, n.answered(ok(0)))

	first := next(everything(5, 10, "a", "b"), true)
	require.Zero(t, first.SessionEpoch)
	require.Len(t, first.Topics, 2)
	require.False(t, n.answered(ok(0)))
	require.Zero(t, next(everything(5, 10, "a", "b"), true).SessionEpoch, "the broker had no place, perhaps now")
	require.False(t, n.answered(ok(77)))

	same := next(everything(5, 10, "a", "b"), true)
	require.Equal(t, []int32{77, 1}, []int32{same.SessionID, same.SessionEpoch})
	require.Empty(t, same.Topics)
	require.Empty(t, same.ForgottenTopics)
	require.True(t, n.incremental)
	require.False(t, n.answered(ok(77)))

	req := everything(5, 10, "a", "b", "c")
	req.Topics[0].Partitions = req.Topics[0].Partitions[:8]
	req.Topics[1].Partitions[3].FetchOffset = 6
	req.Topics[1].Partitions[4].CurrentLeaderEpoch = 2
	req.Topics[1].Partitions[5].PartitionMaxBytes = 9
	changed := next(req, true)
	require.EqualValues(t, 2, changed.SessionEpoch)
	require.Equal(t, []kmsg.FetchRequestTopic{{Topic: "b", Partitions: req.Topics[1].Partitions[3:6]}, req.Topics[2]}, changed.Topics)
	require.Len(t, changed.ForgottenTopics, 1)
	require.Equal(t, "a", changed.ForgottenTopics[0].Topic)
	require.ElementsMatch(t, []int32{8, 9}, changed.ForgottenTopics[0].Partitions)
	require.False(t, n.answered(ok(77)))
	require.Empty(t, next(req, true).Topics, "it has been told")
	require.False(t, n.answered(ok(77)))

	now = now.Add(2 * time.Second)
	require.NotZero(t, next(req, false).SessionEpoch, "nothing is behind")
	require.False(t, n.answered(ok(77)))
	again := next(req, true)
	require.Equal(t, []int32{77, 0}, []int32{again.SessionID, again.SessionEpoch}, "all are named now and then, by a session in its place")
	require.False(t, n.answered(ok(78)))
	require.EqualValues(t, 78, next(req, true).SessionID)
	for _, code := range []kafka.Code{sessionNotFound, sessionEpochInvalid, sessionTopicID, kafka.UnknownTopicID} {
		require.True(t, n.answered(&kmsg.FetchResponse{ErrorCode: int16(code)}), code)
		require.Equal(t, []int32{0, 0}, []int32{next(req, true).SessionID, req.SessionEpoch})
		require.False(t, n.answered(&kmsg.FetchResponse{ErrorCode: int16(code)}), "asking for everything again would not help")
		next(req, true)
		require.False(t, n.answered(ok(79)))
		require.EqualValues(t, 1, next(req, true).SessionEpoch)
	}
	n.epoch = 1<<31 - 1
	require.False(t, n.answered(ok(79)))
	require.EqualValues(t, 1, next(req, true).SessionEpoch, "0 would begin another session")
	req.Version = kafka.FetchByID
	require.Zero(t, next(req, true).SessionEpoch, "one session has topic ids or none")
	require.False(t, n.answered(ok(80)))
	last := next(everything(5, 2, "a"), true)
	require.Equal(t, []int32{80, -1}, []int32{last.SessionID, last.SessionEpoch}, "the place is given back")
	require.False(t, n.answered(ok(0)))
	require.Zero(t, next(everything(5, 2, "a"), true).SessionID)
}

// TestFetchSessionKfake reads many partitions by a session, which the broker forgets from time to time.
func TestFetchSessionKfake(t *testing.T) {
	const parts = 2 * sessionMin
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(parts, "a"))
	var mu sync.Mutex
	fetches, named, forget := 0, 0, kafka.Code(0)
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		req := kreq.(*kmsg.FetchRequest)
		if req.SessionEpoch <= 0 {
			return nil, nil, false
		}
		fetches++
		for _, rt := range req.Topics {
			named += len(rt.Partitions)
		}
		if forget != 0 {
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			resp.ErrorCode, forget = int16(forget), 0
			return resp, nil, true
		}
		return nil, nil, false
	})
	all := channels("a", parts)
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{topic}/{partition}"}}}, all...)
	r.waitCurrent(t)
	cl := mustClient(t, c.ListenAddrs())
	for round, code := range []kafka.Code{0, sessionNotFound, sessionEpochInvalid, kafka.Code(kerr.UnknownTopicID.Code)} {
		mu.Lock()
		fetches, named, forget = 0, 0, code
		mu.Unlock()
		eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			if named > 0 { // What has just been read. Then nothing changes.
				fetches, named = 0, 0
			}
			return fetches > 4
		}, func() string { return "no session, or requests that name what has not changed" })
		for p := range parts {
			produce(t, cl, "a", int32(p), numbered(round, round+1)...)
		}
		for _, ch := range all {
			r.wantValues(t, ch, numbered(0, round+1))
		}
		r.waitCurrent(t)
	}
	require.Zero(t, r.Stats().Reconnects.Load())
	r.wantIntact(t)
}

// The whole suite, with a session for every fetch.
func TestKfakeSessions(t *testing.T) { suiteBySessions(t, kafkatest.Kfake(t, 3)) }

func TestApacheKafkaSessions(t *testing.T) { suiteBySessions(t, kafkatest.Apache(t, 3)) }

func suiteBySessions(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	suiteSessionMin = 1
	t.Cleanup(func() { suiteSessionMin = 0 })
	runSuite(t, k)
}

// A partition that is idle for long and then gets a transaction, or a record that does not come at once, has not waited
// since it was last heard of.
func TestIdleIsNotBehind(t *testing.T) {
	b := newBench(t, Options{})
	b.feed(t, 3, nil, kafkatest.Join(kafkatest.Numbered(0, 3)))
	b.Source.mu.Lock()
	b.p.progressAt = time.Now().Add(-time.Hour)
	b.p.stableAt.Set(time.Now().Add(-time.Hour))
	b.Source.mu.Unlock()
	b.f.asked = map[partKey]asked{{topic: "a"}: {p: b.p, offset: 3, first: true}}
	resp := kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{
		HighWatermark: 9, LastStableOffset: 3}}}}}
	_, _, err := b.f.take(&resp)
	require.NoError(t, err)
	require.Empty(t, b.p.heldBack(time.Minute), "the transaction is new")
	b.Source.mu.Lock()
	b.p.progressAt = time.Now().Add(-time.Hour)
	b.Source.mu.Unlock()
	resp.Topics[0].Partitions[0].LastStableOffset = 9
	_, _, err = b.f.take(&resp)
	require.NoError(t, err, "it has a record since now")
}
