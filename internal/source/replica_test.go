package source

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafkatest"
)

// A leader names a nearer replica, which has the first three records. Then it fails in some way: the rest comes from the
// leader, which is not asked for a replica at once.
func TestNearestReplicaFails(t *testing.T) {
	for name, code := range map[string]int16{
		"out of range": kerr.OffsetOutOfRange.Code, "not available": kerr.OffsetNotAvailable.Code,
		"no replica": kerr.NotLeaderForPartition.Code, "an error": kerr.UnknownServerError.Code,
	} {
		t.Run(name, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "a"))
			require.NoError(t, c.MoveTopicPartition("a", 0, 0))
			produce(t, mustClient(t, c.ListenAddrs()), "a", 0, offsets(0, 5)...)
			var mu sync.Mutex
			var redirected, served, withRack int
			c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				mu.Lock()
				defer mu.Unlock()
				req := kreq.(*kmsg.FetchRequest)
				if len(req.Topics) == 0 {
					return nil, nil, false
				}
				resp := kreq.ResponseKind().(*kmsg.FetchResponse)
				rt := kmsg.NewFetchResponseTopic()
				rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.HighWatermark, rp.LastStableOffset = 5, 5
				switch at := req.Topics[0].Partitions[0].FetchOffset; {
				case c.CurrentNode() == 0 && req.Rack == "":
					return nil, nil, false
				case c.CurrentNode() == 0:
					if withRack++; at > 0 {
						return nil, nil, false
					}
					redirected++
					rp.PreferredReadReplica = 1
				case at == 0:
					served++
					rp.RecordBatches = kafkatest.Join(kafkatest.Numbered(0, 3))
				default:
					rp.ErrorCode = code
				}
				rt.Partitions = append(rt.Partitions, rp)
				resp.Topics = append(resp.Topics, rt)
				return resp, nil, true
			})
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Rack: "here"}, "a")
			r.wantLog(t, "a", offsets(0, 5))
			r.wantIntact(t)
			eventually(t, func() bool { return r.Status().Topics[0].Partitions[0].ReadFrom == 0 }, r.logs.String)
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, []int{1, 1, 1}, []int{redirected, served, withRack})
		})
	}
}

// While a partition is read from a replica, what is about its log is asked of the leader, and a new leader is asked anew.
func TestReadFrom(t *testing.T) {
	addrs, now := map[int32]string{1: "one", 2: "two"}, time.Now()
	b := newBench(t, Options{Rack: "here"})
	on := func() {
		b.p.replica, b.p.replicaUntil, b.p.resolve, b.p.leaderEpoch = 2, now.Add(replicaFor), resolveNothing, 3
	}
	on()
	require.EqualValues(t, 2, b.p.readFromLocked(1, addrs, now))
	require.EqualValues(t, 1, b.p.readFromLocked(1, map[int32]string{1: "one"}, now), "it is gone")
	require.Equal(t, now.Add(leaderFor), b.p.leaderUntil)
	on()
	require.EqualValues(t, 1, b.p.readFromLocked(1, addrs, now.Add(replicaFor+1)), "for long enough")
	on()
	b.p.resolve = resolveRange
	require.EqualValues(t, 1, b.p.readFromLocked(1, addrs, now), "a question about the log")
	on()
	b.p.newEpochLocked(3)
	require.EqualValues(t, 2, b.p.readFromLocked(1, addrs, now))
	b.p.newEpochLocked(4)
	require.EqualValues(t, 1, b.p.readFromLocked(1, addrs, now), "another leader")

	// A connection to the replica that fails leads back to the leader.
	on()
	b.f.id, b.f.parts = 2, []*partition{b.p}
	b.leaveReplicas(b.f)
	require.EqualValues(t, -1, b.p.replica)
	b.f.plan(11)
	require.Empty(t, b.f.request.Rack, "the leader would name the replica that has failed")
	b.p.leaderUntil = time.Time{}
	b.f.plan(11)
	require.Equal(t, "here", b.f.request.Rack)
}

// A batch that a replica has damaged is not lost before the leader has been asked for it, and what fails is the replica.
func TestReplicaIsDamaged(t *testing.T) {
	b := newBench(t, Options{Rack: "here"})
	data := kafkatest.Join(kafkatest.Numbered(0, 3))
	bad := append([]byte(nil), data...)
	bad[len(bad)-1] ^= 1
	b.p.leaderSeen.Store(2)
	for range badTriesMax + 1 {
		b.p.replica = b.f.id
		b.p.readSeen.Store(b.f.id)
		b.feed(t, 3, nil, bad)
		require.EqualValues(t, -1, b.p.replica)
		require.True(t, time.Now().Before(b.p.leaderUntil))
		require.Zero(t, b.p.routed.Load())
	}
	require.Zero(t, lost(b.topic(0)))
	b.digest.close()
	require.Contains(t, b.logs.String(), "reading a partition does not go on, retrying", "it happens again and again")
	require.Contains(t, b.logs.String(), "broker=1")
	b.p.readSeen.Store(2)
	for range badTriesMax - 1 {
		b.feed(t, 3, nil, bad)
		require.Zero(t, lost(b.topic(0)), "the leader gets all tries")
	}
	b.feed(t, 3, nil, data)
	b.wantValues(t, "a", offsets(0, 3))
}

// nearestReplica reads from one of three replicas, which then fails.
func nearestReplica(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	k.Needs(t, kafkatest.StopOne)
	const partitions = 3
	topic := k.Topic(t, partitions)
	cl := k.Client(t)
	o := reading(k, topic)
	o.Rack, o.MetadataInterval = "rack-2", 500*time.Millisecond
	r := startRig(t, o, channels(topic, partitions)...)
	from := func(want func(leader, read int32) bool) {
		t.Helper()
		eventually(t, func() bool {
			for _, p := range r.Status().Topics[0].Partitions {
				if !want(p.Leader, p.ReadFrom) {
					return false
				}
			}
			return len(r.Status().Topics[0].Partitions) == partitions
		}, func() string { return fmt.Sprintf("%+v\n%s", r.Status(), r.logs) })
	}
	n := 0
	add := func() {
		for p := range int32(partitions) {
			produce(t, cl, topic, p, numbered(n, n+50)...)
		}
		n += 50
		for _, ch := range channels(topic, partitions) {
			r.wantLog(t, ch, numbered(0, n))
		}
	}
	from(func(_, read int32) bool { return read == 2 })
	add()
	near := 0
	for _, p := range r.Stats().Partitions() {
		if p.Near {
			near++
		}
	}
	require.Positive(t, near, "the three partitions have different leaders")
	k.Kill(t, 2)
	from(func(leader, read int32) bool { return leader > 0 && leader != 2 && read == leader })
	add()
	k.Start(t, 2)
	add()
	r.wantIntact(t)
}
