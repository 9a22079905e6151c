package recovery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/kafkatest"
)

// padded returns a value whose record counts so many bytes.
func padded(bytes int) func(int) string {
	return func(int) string { return fmt.Sprintf("%q", strings.Repeat("x", bytes-102)) }
}

func TestLimits(t *testing.T) {
	for name, kept := range kept {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kept, func(o *Options) { o.BytesMax, o.ReadBytesMax, o.Concurrency = 10_000, 100_000, 1 })
			r.produce(number, many("a", 21)...)
			ask := func(q bus.Query) bus.Answer {
				a := r.ask(q)
				require.NoError(t, r.check(q, a))
				return a
			}
			q := r.query("a")
			q.CountMax = 20
			require.Equal(t, bus.ResultLimit, ask(q).Result, "one too many")
			q.After = 1
			require.Len(t, ask(q).Records, 20)
			q.After, q.CountMax, q.RecordsMax = 0, 0, 20
			require.True(t, ask(q).More)
			q.Kind = bus.QueryLast
			require.EqualValues(t, 2, ask(q).Records[0].Offset)

			// The bytes of a record count once, and one record is always in the answer.
			r.produce(padded(5000), many("b", 3)...)
			q = r.query("b")
			require.Len(t, ask(q).Records, 2, "10,000 bytes")
			q.Kind = bus.QueryLast
			require.Len(t, ask(q).Records, 2, "10,000 bytes")
			q.BytesMax = 9_999
			require.Len(t, ask(q).Records, 1)
			r.produce(padded(120_000), "d") // More than all kept blocks may have.
			r.produce(number, "a")
			for _, kind := range []bus.QueryKind{bus.QueryNext, bus.QueryLast} {
				q = r.query("d")
				q.Kind, q.RecordsMax = kind, 1
				require.Len(t, ask(q).Records, 1)
				q = r.query("a")
				q.After, q.Kind = 5, kind
				require.Len(t, ask(q).Records, 17)
			}
		})
	}
}

// The log begins behind what a client has: it cannot know what it missed.
func TestGone(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	for range 10 {
		r.produce(number, many("a", 10)...)
	}
	r.deleteRecords(0, 70)
	q := r.query("a")
	for after, want := range map[uint64]bus.Result{10: bus.ResultGone, 69: bus.ResultGone, 70: bus.ResultOK, 95: bus.ResultOK} {
		q.After = after
		a := r.ask(q)
		require.Equal(t, want, a.Result, after)
		if want == bus.ResultOK {
			require.Len(t, a.Records, int(100-after))
		}
	}
	q.After, q.Kind = 0, bus.QueryLast
	require.Len(t, r.ask(q).Records, 30, "as many as there are")
	r.past.expire(time.Now().Add(time.Hour))
	q.UpTo = 60
	a := r.ask(q)
	require.Equal(t, bus.ResultOK, a.Result)
	require.Empty(t, a.Records)
	q.UpTo = 100
	r.deleteRecords(0, 100)
	r.past.expire(time.Now().Add(time.Hour))
	q.After, q.Kind = 95, bus.QueryNext
	require.Equal(t, bus.ResultGone, r.ask(q).Result)
}

// Positions of another life of the topic, of another number of partitions, and of channels without a stream.
func TestEpoch(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.produce(number, many("a", 10)...)
	q := r.query("a")
	require.Equal(t, bus.ResultEpoch, r.ask(bus.Query{Channel: "x", Epoch: q.Epoch, UpTo: 5}).Result)
	require.Equal(t, bus.ResultEpoch, r.ask(bus.Query{Channel: "c.a", UpTo: 5}).Result)
	// While the topic is gone, the query is about a stream that the source still knows.
	r.recreate(2)
	require.Equal(t, bus.ResultEpoch, r.ask(q).Result)
	r.eventuallyAnotherEpoch(q)
	require.Equal(t, bus.ResultEpoch, r.ask(q).Result)
}

// A client that has been told more by another node: it is answered when this one is there, or told that this is never.
func TestAhead(t *testing.T) {
	r := newRig(t, 1, 64<<20, nil)
	r.produce(number, many("a", 10)...)
	q := r.query("a")
	q.After = 12
	got := make(chan bus.Answer, 1)
	r.Ask(q, func(a bus.Answer) { got <- a })
	r.produce(number, many("a", 3)...)
	require.Equal(t, bus.Answer{Through: 12}, <-got)
	q.After = 1 << 63
	require.Equal(t, bus.ResultAhead, r.ask(q).Result)
}

// Kafka does not answer: queries end in time, and later ones are answered when it is back.
func TestTimeout(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	r.produce(number, many("a", 10)...)
	release := r.holdReads(10)
	q := r.query("a")
	q.After = 3
	require.Equal(t, bus.Answer{Result: bus.ResultTimeout}, r.ask(q))
	release()
	r.eventually("answered again", func() bool { return r.ask(q).Result == bus.ResultOK })
}

// Stop answers all that wait, and what comes later.
func TestStop(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.produce(number, many("a", 10)...)
	release := r.holdReads(1 << 60)
	got := make(chan bus.Result, 20)
	q := r.query("a")
	for n := range 10 {
		q.After = uint64(n) * 2
		r.Ask(q, func(a bus.Answer) { got <- a.Result })
	}
	r.Stop()
	r.Ask(q, func(a bus.Answer) { got <- a.Result })
	for range 6 { // After 10 is all there is, and 12 is ahead: some are answered without a read.
		<-got
	}
	require.Eventually(t, func() bool { return len(got) == 5 }, waitMax, time.Millisecond)
	release()
}

// More queries than may wait.
func TestOverload(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.WaitingMax = 3 })
	r.produce(number, many("a", 10)...)
	release := r.holdReads(10)
	got := make(chan bus.Result, 10)
	for range 5 {
		r.Ask(r.query("a"), func(a bus.Answer) { got <- a.Result })
	}
	require.Equal(t, bus.ResultOverload, <-got)
	require.Equal(t, bus.ResultOverload, <-got)
	release()
	for range 3 {
		require.Equal(t, bus.ResultOK, <-got)
	}
}

// A range of which compaction has left little is answered with what is left.
func TestCompacted(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	alter := kmsg.NewIncrementalAlterConfigsRequest()
	topic := kmsg.NewIncrementalAlterConfigsRequestResource()
	topic.ResourceType, topic.ResourceName = kmsg.ConfigResourceTypeTopic, "k"
	for name, value := range map[string]string{"cleanup.policy": "compact", "segment.bytes": "1", "min.cleanable.dirty.ratio": "0.01"} {
		topic.Configs = append(topic.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: kmsg.StringPtr(value)})
	}
	alter.Resources = append(alter.Resources, topic)
	require.Zero(t, r.request(&alter).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	r.produce(number, "first") // kfake has the log begin at the first record that is left.
	for range 20 {
		r.produce(number, "a", "b", "b")
	}
	q := r.query("a")
	r.kafka.Compact()
	r.start(0, nil) // Another node, which finds the topic compacted.
	a := r.ask(q)
	require.Equal(t, bus.ResultOK, a.Result)
	require.NotEmpty(t, a.Records)
	require.Less(t, len(a.Records), 20, "some are gone")
	require.Equal(t, r.log["c.a"][19].Offset, a.Records[len(a.Records)-1].Offset)
	portions, result := r.stream(rand.New(rand.NewPCG(1, 1)), q)
	require.Equal(t, bus.ResultOK, result)
	require.Equal(t, a.Records, portions)
	q.Kind, q.RecordsMax = bus.QueryLast, 1
	a = r.ask(q)
	require.Len(t, a.Records, 1)
	require.JSONEq(t, `{"n":19}`, string(a.Records[0].JSON))
}

// The log has a hole: a client from before it cannot recover, one from after it can, though both need the same block.
func TestHole(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.produce(number, many("a", 10)...)
	r.kafka.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		offset := req.Topics[0].Partitions[0].FetchOffset
		if offset >= 10 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset, p.LogStartOffset = 10, 10, 0
		for n := offset; n < 10; n++ {
			if n < 3 || n > 5 {
				b := kafkatest.Batch{Base: n, Producer: -1, Records: []kafkatest.Record{{Key: "a", Value: "1"}}}
				p.RecordBatches = append(p.RecordBatches, b.Encode()...)
			}
		}
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	for after, want := range map[uint64]bus.Result{1: bus.ResultGone, 4: bus.ResultGone, 6: bus.ResultOK, 8: bus.ResultOK} {
		q := r.query("a")
		q.After = after
		a := r.ask(q)
		require.Equal(t, want, a.Result, after)
		if want == bus.ResultOK {
			require.Len(t, a.Records, int(10-after))
		}
	}
}
