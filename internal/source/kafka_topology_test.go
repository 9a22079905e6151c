package source

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafka"
	"wsd/internal/kafkatest"
)

func missingTopic(t *testing.T, k *kafkatest.Cluster) {
	here, later := k.Topic(t, 1), "later"
	o := reading(k, here, later)
	o.Start = Start{}
	r := startRig(t, o, here+"/0", later+"/0")
	r.waitReady(t) // A topic that does not exist holds up nothing.
	refreshes := r.Stats().MetadataRefreshes.Load()
	eventually(t, func() bool { return r.Stats().MetadataRefreshes.Load() > refreshes+3 }, func() string { return "metadata is not refreshed at again" })
	require.Equal(t, TopicPresent, r.Status().Topics[0].State)
	require.Equal(t, TopicMissing, r.Status().Topics[1].State)
	require.Equal(t, 1, r.logs.count("does not exist"), "one line")
	require.Contains(t, r.logs.String(), "topic="+later)
	_, _, ok := r.Position(later + "/0")
	require.False(t, ok)

	k.Create(t, later, 1)
	t.Cleanup(func() { k.Delete(t, later) })
	produce(t, k.Client(t), later, 0, numbered(0, 20)...) // From its beginning, though start is latest.
	r.wantLog(t, later+"/0", numbered(0, 20))
	require.Equal(t, TopicPresent, r.Status().Topics[1].State)
	require.Equal(t, 1, r.logs.count("a topic has appeared"))
	r.wantIntact(t)
}

// A partition that appears after start is read from its beginning, even with kafka.start latest.
func newPartitions(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	ch := channels(topic, 3)
	o := reading(k, topic)
	o.Start, o.MetadataInterval = Start{}, 300*time.Millisecond
	r := startRig(t, o, ch...)
	r.waitReady(t)
	k.AddPartitions(t, topic, 3)
	cl := k.Client(t)
	for p := range int32(3) {
		produce(t, cl, topic, p, numbered(0, 10)...) // Perhaps before the source knows of it.
	}
	for _, name := range ch {
		r.wantLog(t, name, numbered(0, 10))
	}
	r.wantIntact(t)
}

// Whether the new log is shorter or longer than the old position: it is read from its beginning, and nothing twice.
func recreated(t *testing.T, k *kafkatest.Cluster, produced int) {
	topic := k.Topic(t, 1)
	ch := topic + "/0"
	o := reading(k, topic)
	o.MetadataInterval = time.Second
	r := startRig(t, o, ch)
	r.waitReady(t)
	produce(t, k.Client(t), topic, 0, numbered(0, 100)...)
	r.wantLog(t, ch, numbered(0, 100))
	_, epoch, _ := r.Position(ch)

	k.Delete(t, topic)
	k.Create(t, topic, 1)
	produce(t, k.Client(t), topic, 0, numbered(1000, 1000+produced)...)
	r.wantValues(t, ch, append(numbered(0, 100), numbered(1000, 1000+produced)...))
	ts := r.topic(0)
	require.EqualValues(t, 1, ts.Recreations.Load())
	require.Zero(t, lost(ts)+ts.Gaps.Load()+ts.Truncations.Load(), r.logs)
	offset, fresh, ok := r.Position(ch)
	require.True(t, ok)
	require.EqualValues(t, produced, offset)
	require.NotEqual(t, epoch, fresh)
	require.Equal(t, []int{100}, r.breaksOf(ch), "a break between the two lives")
	require.Contains(t, r.logs.String(), "created again")
}

// Deleted, and created again only later: in between there is nothing to read and nothing goes wrong.
func deletedThenRecreated(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	ch := topic + "/0"
	r := startRig(t, reading(k, topic), ch)
	r.waitReady(t)
	produce(t, k.Client(t), topic, 0, numbered(0, 10)...)
	r.wantLog(t, ch, numbered(0, 10))
	k.Delete(t, topic)
	eventually(t, func() bool { return r.Status().Topics[0].State == TopicMissing }, func() string { return fmt.Sprintf("%+v", r.Status()) })
	k.Create(t, topic, 1)
	produce(t, k.Client(t), topic, 0, numbered(20, 30)...)
	r.wantValues(t, ch, append(numbered(0, 10), numbered(20, 30)...))
	require.EqualValues(t, 1, r.topic(0).Recreations.Load())
	require.Zero(t, lost(r.topic(0)), r.logs)
}

func leaderMoves(t *testing.T, k *kafkatest.Cluster) {
	const partitions = 2
	topic := k.Topic(t, partitions)
	r := startRig(t, reading(k, topic), channels(topic, partitions)...)
	l := startLoad(t, k.Addrs(), topic, partitions)
	for i := range int32(6) {
		l.more(20)
		k.MoveLeader(t, topic, i%partitions)
	}
	l.more(20)
	l.check(r, topic+"/")
	r.wantIntact(t)
	require.NotZero(t, r.Stats().FetchErrors[kafka.ErrorLeader].Load())
}

// The leader of a partition ends while records flow, and comes back.
func brokerEnds(t *testing.T, k *kafkatest.Cluster, end func(testing.TB, int32)) {
	k.Needs(t, kafkatest.StopOne)
	const partitions = 3
	topic := k.Topic(t, partitions)
	r := startRig(t, reading(k, topic), channels(topic, partitions)...)
	l := startLoad(t, k.Addrs(), topic, partitions)
	l.more(20)
	leader := k.Leader(t, topic, 0)
	end(t, leader)
	l.more(20)
	k.Start(t, leader)
	l.more(20)
	l.check(r, topic+"/")
	r.wantIntact(t)
}

// brokerFrozen wants everything to come from the new leaders while the broker that led is still frozen.
func brokerFrozen(t *testing.T, k *kafkatest.Cluster) {
	k.Needs(t, kafkatest.StopOne)
	const partitions = 12
	topic := k.Topic(t, partitions)
	r := startRig(t, reading(k, topic), channels(topic, partitions)...)
	cl, n := k.Client(t), 0
	add := func() {
		for p := range int32(partitions) {
			produce(t, cl, topic, p, numbered(n, n+5)...)
		}
		n += 5
		for _, ch := range channels(topic, partitions) {
			r.wantLog(t, ch, numbered(0, n))
		}
	}
	add()
	frozen := k.Leader(t, topic, 0)
	k.Freeze(t, frozen)
	add()
	for _, p := range r.Status().Topics[0].Partitions {
		require.NotEqual(t, frozen, p.Leader)
	}
	k.Thaw(t, frozen)
	add()
	r.wantIntact(t)
}

func allBrokersAway(t *testing.T, k *kafkatest.Cluster) {
	const partitions = 2
	topic := k.Topic(t, partitions)
	r := startRig(t, reading(k, topic), channels(topic, partitions)...)
	l := startLoad(t, k.Addrs(), topic, partitions)
	l.more(20)
	k.Down(t)
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "the outage is not in the status" })
	k.Up(t)
	l.more(20)
	l.check(r, topic+"/")
	r.wantIntact(t)
	eventually(t, func() bool { return r.Status().Error == "" }, func() string { return r.Status().Error })
	// Both edges, and no line for every try.
	require.Contains(t, r.logs.String(), "can be read again")
	require.LessOrEqual(t, r.logs.count("cannot read from a Kafka broker"), 3)
}

// everythingAtOnce reads many partitions by sessions from the nearest replica while heavy partitions are walked, and
// the replica's broker is killed and comes back.
func everythingAtOnce(t *testing.T, k *kafkatest.Cluster) {
	k.Needs(t, kafkatest.StopOne)
	const partitions, heavy, records = 15, 3, 150_000
	topic, big := k.Topic(t, partitions), k.Topic(t, heavy)
	o := reading(k, topic, big)
	o.Rack, o.sessionMin, o.MetadataInterval = "rack-2", 1, 500*time.Millisecond
	r := startRig(t, o, append(channels(topic, partitions), channels(big, heavy)...)...)
	r.waitCurrent(t)
	l := startLoad(t, k.Addrs(), topic, partitions)
	cl := k.Client(t, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerLinger(time.Second), kgo.MaxBufferedRecords(records))
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for p := range int32(heavy) {
			for range records {
				cl.Produce(context.Background(), &kgo.Record{Topic: big, Partition: p, Value: []byte("1")}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Errorf("produce: %v", err)
					}
				})
			}
		}
	}()
	l.more(5)
	k.Kill(t, 2)
	l.more(5)
	k.Start(t, 2)
	l.more(5)
	k.MoveLeader(t, topic, 0)
	k.MoveLeader(t, big, 0)
	l.more(5)
	<-produced
	l.check(r, topic+"/")
	for _, ch := range channels(big, heavy) {
		eventually(t, func() bool { n, _, _ := r.Position(ch); return n >= records }, r.logs.String)
		eventually(t, func() bool { r.sink.mu.Lock(); defer r.sink.mu.Unlock(); return len(r.got[ch]) >= records }, r.logs.String)
		for i, rec := range r.records(ch) {
			if rec.Offset != uint64(i+1) {
				require.EqualValues(t, i+1, rec.Offset)
			}
		}
	}
	r.wantIntact(t)
}
