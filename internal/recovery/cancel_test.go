package recovery

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
)

// Canceled queries end and their places are free, although Kafka does not answer: those that wait, those for which a
// block is being read, and those that are ahead.
func TestCanceled(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.WaitingMax, o.Timeout = 4, time.Hour })
	r.produce(number, many("a", 10)...)
	release := r.holdReads(10)
	answers := make(chan bus.Result, 20)
	ask := func(after uint64, canceled *atomic.Bool) {
		q := r.query("a")
		q.After, q.Canceled = after, canceled
		r.Ask(q, func(a bus.Answer) { answers <- a.Result })
	}
	next := func() bus.Result { return await(t, answers) }
	for range 3 {
		var canceled atomic.Bool
		ask(0, &canceled)
		r.eventually("read", func() bool { return r.passes.Load() >= 2 })
		ask(1, &canceled)
		ask(2, &canceled)
		ask(11, &canceled)
		ask(3, &canceled)
		require.Equal(t, bus.ResultOverload, next())
		canceled.Store(true)
		for range 4 {
			require.Equal(t, bus.ResultCanceled, next())
		}
		require.Zero(t, r.Stats().Waiting.Load())
		ask(4, &canceled)
		require.Equal(t, bus.ResultCanceled, next())
	}
	ask(0, nil)
	release()
	require.Equal(t, bus.ResultOK, next())
	require.Empty(t, answers)
}

// Kafka does not answer, and the next block of one client has to be read: another one's is in memory.
func TestMemoryDoesNotWaitForKafka(t *testing.T) {
	r := newRig(t, 1, 20_000, nil)
	for range 10 {
		r.produce(padded(10_000), "a")
	}
	release := r.holdReads(10)
	far := make(chan bus.Answer, 1)
	r.Ask(r.query("a"), func(a bus.Answer) { far <- a })
	r.eventually("read", func() bool { return r.passes.Load() >= 2 })
	q := r.query("a")
	q.After = 9
	require.Len(t, r.ask(q).Records, 1)
	require.Empty(t, far)
	release()
	require.Len(t, (<-far).Records, 10)
}

// A portion whose time is over has what was found so far, also where all has to be counted.
func TestTimeIsOverInTheMiddle(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.Timeout, o.ReadBytesMax, o.Concurrency = 500*time.Millisecond, 160_000, 1 })
	for range 10 {
		r.produce(padded(10_000), "a")
	}
	release := r.hold(func(offset int64) bool { return offset >= 5 })
	a := r.ask(r.query("a"))
	require.Equal(t, bus.ResultOK, a.Result)
	require.True(t, a.More)
	require.True(t, len(a.Records) > 0 && len(a.Records) < 10)
	require.GreaterOrEqual(t, a.Through, a.Records[len(a.Records)-1].Offset)
	q := r.query("a")
	q.After, q.CountMax = 1, 5
	counted := r.ask(q)
	require.Equal(t, bus.ResultOK, counted.Result, "what could be counted in time is not too much")
	require.True(t, counted.More)
	require.Equal(t, q.After+uint64(len(counted.Records)), counted.Through)
	release()
	q = r.query("a")
	q.After = a.Through
	require.Equal(t, 10, len(a.Records)+len(r.ask(q).Records))
}

// The log is cut, or the topic created again, while a client has a part of its portion: it does not get what came from
// another log.
func TestEpochChangesInTheMiddle(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"recreated": func(r *rig) { r.recreate(1) },
		"truncated": func(r *rig) {
			r.kafka.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
				resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
				rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
				rt.Topic = "k"
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				rp.LeaderEpoch, rp.EndOffset = req.Topics[0].Partitions[0].LeaderEpoch, 7
				rt.Partitions = append(rt.Partitions, rp)
				resp.Topics = append(resp.Topics, rt)
				return resp, nil, true
			})
			require.NoError(r.t, r.kafka.MoveTopicPartition("k", 0, 0))
		},
	} {
		for _, memory := range []int{160_000, 8 << 20} { // Blocks of a part of the portion, or of all of it.
			r := newRig(t, 1, 0, func(o *Options) { o.ReadBytesMax, o.Concurrency = memory, 1 })
			for range 10 {
				r.produce(padded(10_000), "a")
			}
			q := r.query("a")
			var held atomic.Bool
			release := r.hold(func(offset int64) bool { return offset < 10 && held.CompareAndSwap(false, true) })
			got := make(chan bus.Result, 1)
			r.Ask(q, func(a bus.Answer) { got <- a.Result })
			r.eventually("read", held.Load)
			change(r)
			r.eventuallyAnotherEpoch(q)
			release()
			require.Equal(t, bus.ResultEpoch, <-got, name)
		}
	}
}
