package recovery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// Random queries while records come, against what the test knows it has produced: with everything in memory, with
// little of it, and with nothing, so that Kafka is asked each time. Some records are of transactions that are aborted.
func TestAnswers(t *testing.T) {
	const keys, rounds = 7, 60
	for name, kept := range map[string]int{"memory": 64 << 20, "little memory": 8 << 10, "Kafka": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, kept, func(o *Options) { o.PublicationsMax = 20 })
			r.client = r.newClient(kgo.TransactionalID("tx"), kgo.ProducerBatchCompression([]kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.Lz4Compression()}[len(name)%3]))
			random := rand.New(rand.NewPCG(9, uint64(kept)))
			for range rounds {
				require.NoError(t, r.client.BeginTransaction())
				var list []*kgo.Record
				for range 1 + random.IntN(30) {
					key := fmt.Sprint(random.IntN(keys))
					list = append(list, &kgo.Record{Topic: "k", Key: []byte(key), Value: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, random.IntN(1000), strings.Repeat("x", random.IntN(100)))})
				}
				require.NoError(t, r.client.ProduceSync(t.Context(), list...).FirstErr())
				commit := random.IntN(3) > 0
				require.NoError(t, r.client.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)))
				if commit {
					for _, rec := range list {
						r.note(rec)
					}
				}
				for _, rec := range list {
					r.eventually("read", func() bool { return r.position(string(rec.Key)) > uint64(rec.Offset) })
				}
				var running sync.WaitGroup
				for range random.IntN(20) {
					q := r.query(fmt.Sprint(random.IntN(keys)))
					if q.UpTo == 0 {
						continue
					}
					q.Kind, q.RecordsMax = bus.QueryKind(random.IntN(3)), 1+random.IntN(25)
					q.UpTo -= random.Uint64N(min(q.UpTo, 30))
					q.After = random.Uint64N(q.UpTo + 1)
					if random.IntN(2) == 0 {
						q.After = q.UpTo - min(q.UpTo, random.Uint64N(60))
					}
					running.Go(func() {
						a := r.ask(q)
						all := 0
						for _, rec := range r.log[q.Channel] {
							if rec.Offset > q.After && rec.Offset <= q.UpTo {
								all++
							}
						}
						if q.Kind == bus.QueryAll && all > min(q.RecordsMax, r.o.PublicationsMax) {
							if a.Result != bus.ResultLimit || a.Records != nil {
								t.Errorf("%+v: %v with %d records, want too many", q, a.Result, len(a.Records))
							}
							return
						}
						want := r.want(q)
						if a.Result != bus.ResultOK || fmt.Sprint(offsetsOf(want)) != fmt.Sprint(offsetsOf(a.Records)) {
							t.Errorf("%+v: %v with %v, want %v", q, a.Result, offsetsOf(a.Records), offsetsOf(want))
							return
						}
						for i := range want {
							if string(want[i].Value) != string(a.Records[i].Value) || string(want[i].JSON) != string(a.Records[i].JSON) {
								t.Errorf("%+v: %s, want %s", q, a.Records[i].Value, want[i].Value)
							}
						}
					})
				}
				running.Wait()
				require.False(t, t.Failed())
			}
			st := r.Stats()
			t.Logf("%d answers, %d reads, %d fetches", st.Queries[bus.ResultOK].Load()+st.Queries[bus.ResultLimit].Load(), st.Reads.Load(), st.Fetches.Load())
			if name == "memory" {
				require.Zero(t, st.Reads.Load())
			} else {
				require.Positive(t, st.Reads.Load())
			}
		})
	}
}

func offsetsOf(list []bus.Record) (offsets []uint64) {
	for i := range list {
		offsets = append(offsets, list[i].Offset)
	}
	return offsets
}

// many returns a key so many times.
func many(key string, n int) []string {
	return strings.Split(strings.Repeat(key+" ", n)[:n*(len(key)+1)-1], " ")
}

func TestLimits(t *testing.T) {
	for _, kept := range []int{0, 64 << 20} {
		r := newRig(t, 1, kept, func(o *Options) {
			o.PublicationsMax, o.BytesMax, o.ReadBytesMax, o.Concurrency = 20, 10_000, 100_000, 1
		})
		r.produce(number, many("a", 21)...)
		q := r.query("a")
		require.Equal(t, bus.ResultLimit, r.ask(q).Result, "one too many")
		q.After = 1
		require.Len(t, r.ask(q).Records, 20)
		q.After, q.Kind = 0, bus.QueryLast
		require.EqualValues(t, 2, r.ask(q).Records[0].Offset)

		r.produce(func(int) string { return fmt.Sprintf("%q", strings.Repeat("x", 3000)) }, many("b", 2)...)
		q = r.query("b")
		require.Equal(t, bus.ResultLimit, r.ask(q).Result, "12 KB with its JSON")
		q.RecordsMax, q.Kind = 1, bus.QueryLast
		require.Len(t, r.ask(q).Records, 1)

		// A batch that a read may not take: only those fail that need it.
		r.produce(func(int) string { return fmt.Sprintf("%q", strings.Repeat("x", 120_000)) }, "d")
		r.produce(number, "a")
		q = r.query("a")
		q.After = q.UpTo - 1
		require.Len(t, r.ask(q).Records, 1)
		q.After = 5
		if kept == 0 {
			require.Equal(t, bus.ResultLimit, r.ask(q).Result)
		} else {
			require.Len(t, r.ask(q).Records, 17)
		}
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
		q.Kind = bus.QueryFirst
		require.Equal(t, want, r.ask(q).Result, after)
		q.Kind = bus.QueryAll
	}
	q.After, q.Kind = 0, bus.QueryLast
	require.Len(t, r.ask(q).Records, 30, "as many as there are")
	r.deleteRecords(0, 100)
	r.past.expire(time.Now().Add(time.Hour))
	q.After, q.Kind = 95, bus.QueryAll
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
	r.eventually("recreated", func() bool { return r.source.Ready() && r.position("a") == 0 })
	require.NotEqual(t, q.Epoch, r.query("a").Epoch)
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
	require.Equal(t, bus.Answer{}, <-got)
	q.After = 1 << 63
	require.Equal(t, bus.ResultAhead, r.ask(q).Result)
}

// What many ask for at once is read once.
func TestReadsAreShared(t *testing.T) {
	const clients = 2000
	r := newRig(t, 1, 0, func(o *Options) { o.PublicationsMax = 100 })
	keys := []string{"a", "b", "c", "d"}
	for n := range 40 {
		r.produce(number, many(keys[n%4], 10)...)
	}
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		if req.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset < 400 { // Not the source's.
			r.kafka.SleepControl(func() { <-hold })
		}
		return nil, nil, false
	})
	var answered sync.WaitGroup
	for n := range clients {
		q := r.query(keys[n%4])
		q.After = uint64(n % 300)
		want := r.want(q)
		answered.Add(1)
		r.Ask(q, func(a bus.Answer) {
			defer answered.Done()
			if len(want) <= r.o.PublicationsMax && (a.Result != bus.ResultOK || len(a.Records) != len(want)) {
				t.Errorf("%+v: %v with %d, want %d", q, a.Result, len(a.Records), len(want))
			}
		})
	}
	close(hold)
	answered.Wait()
	st := r.Stats()
	t.Logf("%d reads, %d fetches", st.Reads.Load(), st.Fetches.Load())
	require.LessOrEqual(t, st.Fetches.Load(), uint64(4), "one for each range of 100 at most")
}

// Kafka does not answer: queries end in time, and later ones are answered when it is back.
func TestTimeout(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	r.produce(number, many("a", 10)...)
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		r.kafka.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	q := r.query("a")
	q.After = 3
	require.Equal(t, bus.ResultTimeout, r.ask(q).Result)
	r.kafka.DropControl()
	close(hold)
	r.eventually("answered again", func() bool { return r.ask(q).Result == bus.ResultOK })
}

// Stop answers all that wait, and what comes later.
func TestStop(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.produce(number, many("a", 10)...)
	hold := make(chan struct{})
	defer close(hold)
	r.kafka.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		r.kafka.SleepControl(func() { <-hold })
		return nil, nil, false
	})
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
	r.kafka.DropControl()
}

// More queries than may wait.
func TestOverload(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.WaitingMax = 3 })
	r.produce(number, many("a", 10)...)
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		r.kafka.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	got := make(chan bus.Result, 10)
	for range 5 {
		r.Ask(r.query("a"), func(a bus.Answer) { got <- a.Result })
	}
	require.Equal(t, bus.ResultOverload, <-got)
	require.Equal(t, bus.ResultOverload, <-got)
	r.kafka.DropControl()
	close(hold)
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
	q.Kind, q.RecordsMax = bus.QueryLast, 1
	a = r.ask(q)
	require.Len(t, a.Records, 1)
	require.JSONEq(t, `{"n":19}`, string(a.Records[0].JSON))
}

// What nothing of is left but aborted transactions has no bytes, and is forgotten like anything else: the clock goes on
// for it.
func TestPastWithoutBytes(t *testing.T) {
	r := newRig(t, 1, 0, nil)
	r.past.add(stream{}, source.Block{From: 0, To: 10}, time.Now().Add(10*clockInterval-pastIdle))
	r.startClock()
	bytes, streams := r.past.size()
	require.Zero(t, bytes)
	require.Equal(t, 1, streams)
	r.eventually("forgotten", func() bool { _, streams := r.past.size(); return streams == 0 })
}
