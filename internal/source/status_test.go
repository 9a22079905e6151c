package source

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafkatest"
)

// A topic that appears and whose first position cannot be had keeps no new clients away: it will be read from its
// beginning. But its channels' streams are not known, while those of others are known not to be.
func TestReadyStays(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	asked := make(chan struct{})
	first := sync.OnceFunc(func() { close(asked) })
	defer first()
	c.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		<-asked
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a", "re:b.*"}}, "a", "b")
	require.False(t, r.Settled("none"), "nothing is known yet")
	first()
	r.waitReady(t)
	var answers atomic.Bool
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if answers.Load() {
			return nil, nil, false
		}
		req := kreq.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for i := range req.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = req.Topics[i].Topic
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	createTopic(t, cl, "b", 1)
	eventually(t, func() bool { st := r.Status(); return len(st.Topics) == 2 && len(st.Topics[1].Partitions) == 1 }, r.logs.String)
	require.True(t, r.Ready())
	require.True(t, r.Status().Ready)
	require.False(t, r.Settled("b"))
	require.True(t, r.Settled("a"))
	require.True(t, r.Settled("none"))

	produce(t, cl, "b", 0, "first")
	answers.Store(true)
	r.wantValues(t, "b", []string{"first"})
	require.True(t, r.Settled("b"))
}

// A topic whose broker is away is not current, however little it lags.
func TestCurrentNeedsTheBroker(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
	current := func() bool { return r.Status().Topics[0].Current }
	say := func() string { return fmt.Sprintf("%+v", r.Status()) }
	eventually(t, current, say)
	c.Close()
	eventually(t, func() bool { return !current() }, say)
	require.Zero(t, r.Status().Topics[0].Partitions[0].Lag)
}

// A transaction that stays open is a reason: the topic is not current, although everything that may be read was read.
func TestOpenTransactionIsNamed(t *testing.T) {
	b := newBench(t, Options{StallAfter: time.Hour})
	fetch := func(stable, high int64, data []byte) {
		b.f.asked = map[partKey]asked{{topic: "a"}: {p: b.p, offset: b.p.routed.Load(), first: true}}
		_, _, err := b.f.take(&kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{{Topic: "a",
			Partitions: []kmsg.FetchResponseTopicPartition{{HighWatermark: high, LastStableOffset: stable,
				RecordBatches: data}}}}})
		require.NoError(t, err)
	}
	b.Source.publishView()
	problem := func() string { return b.Status().Topics[0].Partitions[0].Error }
	fetch(3, 10, kafkatest.Join(kafkatest.Numbered(0, 3)))
	fetch(3, 10, nil)
	require.Empty(t, problem(), "transactions take some time")
	b.o.StallAfter = 0
	require.Contains(t, problem(), "an open transaction has held back the offsets 3 to 9 for ")
	require.False(t, b.Status().Topics[0].Current)
	st := b.Stats().Partitions
	b.Source.stats.setPartitions([]*partition{b.p})
	require.EqualValues(t, 3, st()[0].LastStable)
	require.EqualValues(t, 10, st()[0].HighWatermark)
	require.EqualValues(t, 7, st()[0].Lag)

	// It moves on: the clock begins again.
	b.o.StallAfter = time.Hour
	b.p.stableAt.Set(time.Now().Add(-24 * time.Hour))
	require.NotEmpty(t, problem())
	fetch(5, 10, kafkatest.Join(kafkatest.Numbered(3, 2)))
	require.Empty(t, problem())
	b.p.stableAt.Set(time.Now().Add(-24 * time.Hour))
	fetch(10, 10, kafkatest.Join(kafkatest.Numbered(5, 5)))
	require.Empty(t, problem())
}

// The interest table forgets a channel that nobody has, whether or not clients can recover.
func TestInterestIsSwept(t *testing.T) {
	r := startRig(t, Options{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}, SweepInterval: 20 * time.Millisecond}, "a", "b")
	for _, name := range []string{"a", "b"} {
		r.interest.Begin(name, "epoch", 1)
	}
	r.interest.Remove("a", 0)
	eventually(t, func() bool { _, _, known := r.interest.Noted("a", "epoch"); return !known }, func() string { return "it is remembered for ever" })
	_, _, known := r.interest.Noted("b", "epoch")
	require.True(t, known, "a channel with a subscriber is forgotten")
}
