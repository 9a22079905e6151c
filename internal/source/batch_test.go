package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
	"wsd/internal/kafkatest"
)

func offsets(from, to int) (out []string) {
	for n := from; n < to; n++ {
		out = append(out, fmt.Sprint(n))
	}
	return out
}

// bench is a source whose watcher sleeps, with one partition that stands at 0, so that a test may hand it responses.
type bench struct {
	*rig
	f *fetcher
	p *partition
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{rig: &rig{sink: newSink(t, 1, ringSize{slots: 1024, bytes: 64 << 20})}}
	b.read(t, 0, b.collect)
	b.interest.Add("a", 0, 0)
	o.Brokers, o.Topics, o.BackoffMin, o.BackoffMax = []string{"127.0.0.1:1"}, []string{"a"}, time.Hour, time.Hour
	b.start(t, o)
	eventually(t, func() bool { return b.Stats().MetadataErrors.Load() == 1 }, func() string { return "" })
	tp := b.Source.topics[0]
	b.p = b.newPartition(tp, 0, Start{})
	tp.parts = []*partition{b.p}
	b.f = b.newFetcher(1, "nowhere")
	b.p.owner, b.p.resolve = b.f, resolveNothing
	b.p.routed.Store(0)
	return b
}

// feed hands the batches over as a response to a fetch from the partition's position.
func (b *bench) feed(t testing.TB, high int64, aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction, data []byte) {
	t.Helper()
	b.f.asked = map[partKey]asked{{topic: "a"}: {p: b.p, offset: b.p.routed.Load(), first: true}}
	resp := kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{
		HighWatermark: high, LastStableOffset: high, AbortedTransactions: aborted, RecordBatches: data,
	}}}}}
	b.take(t, &resp)
}

// take hands a response over, and finishes the walks that were put aside.
func (b *bench) take(t testing.TB, resp *kmsg.FetchResponse) {
	t.Helper()
	_, _, err := b.f.take(resp)
	require.NoError(t, err)
	for len(b.f.walks) > 0 {
		require.NoError(t, b.f.goOn())
	}
}

// feedFrom is feed without transactions, for a log that begins at logStart.
func (b *bench) feedFrom(t testing.TB, high, logStart int64, data []byte) {
	t.Helper()
	b.f.asked = map[partKey]asked{{topic: "a"}: {p: b.p, offset: b.p.routed.Load(), first: true}}
	resp := kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{
		HighWatermark: high, LastStableOffset: high, LogStartOffset: logStart, RecordBatches: data,
	}}}}}
	b.take(t, &resp)
}

func TestWalkHoles(t *testing.T) {
	b := newBench(t, Options{})
	// Compaction: a hole at the head, in the middle and at the tail of a batch, and an empty batch.
	b.feed(t, 30, nil, kafkatest.Join(
		kafkatest.Batch{Base: 0, LastDelta: 9, Producer: -1, Records: []kafkatest.Record{{Delta: 2, Value: "2"}, {Delta: 5, Value: "5"}, {Delta: 7, Value: "7"}}},
		kafkatest.Batch{Base: 10, LastDelta: 4, Producer: -1},
		kafkatest.Numbered(15, 2)))
	b.wantValues(t, "a", []string{"2", "5", "7", "15", "16"})
	ts := b.topic(0)
	require.EqualValues(t, 17, b.p.routed.Load())
	require.EqualValues(t, 7+5, ts.Compacted.Load())
	require.Zero(t, ts.Gaps.Load())
	// A hole between batches.
	b.feed(t, 30, nil, kafkatest.Join(kafkatest.Numbered(20, 3)))
	require.EqualValues(t, 3, ts.Gaps.Load())
	require.EqualValues(t, 23, b.p.routed.Load())
	require.Equal(t, 1, b.logs.count("offsets are missing"))
	// A batch that begins before the offset asked for, as brokers send it.
	b.p.routed.Store(25)
	b.feed(t, 30, nil, kafkatest.Join(kafkatest.Numbered(23, 5)))
	b.wantValues(t, "a", []string{"2", "5", "7", "15", "16", "20", "21", "22", "25", "26", "27"})
	require.EqualValues(t, 3, ts.Gaps.Load())
	require.Zero(t, lost(ts))
	require.EqualValues(t, 5+3+3, ts.Records.Load())
}

func TestWalkCutBatch(t *testing.T) {
	b := newBench(t, Options{})
	whole := kafkatest.Join(kafkatest.Numbered(0, 3), kafkatest.Numbered(3, 3))
	for cut := len(whole) - 1; cut > len(kafkatest.Numbered(0, 3).Encode()); cut-- {
		b.p.routed.Store(0)
		b.feed(t, 6, nil, whole[:cut])
		require.EqualValues(t, 3, b.p.routed.Load(), "cut at %d", cut)
	}
	require.Zero(t, lost(b.topic(0))+b.topic(0).Gaps.Load())
}

func TestWalkAborted(t *testing.T) {
	b := newBench(t, Options{})
	txn := func(base, producer int64, n int) kafkatest.Batch {
		r := kafkatest.Numbered(base, n)
		r.Attributes, r.Producer = kafkatest.Transactional, producer
		return r
	}
	notTxn := kafkatest.Numbered(8, 1)
	notTxn.Producer = 5 // The same producer outside a transaction.
	b.feed(t, 100, []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 6, FirstOffset: 12}, {ProducerID: 5, FirstOffset: 2}, {ProducerID: 5, FirstOffset: 20}}, kafkatest.Join(
		txn(0, 6, 2), txn(2, 5, 2), txn(4, 6, 2), txn(6, 5, 2), notTxn, kafkatest.Marker(9, 5, false), txn(10, 5, 1), kafkatest.Marker(11, 6, true),
		txn(12, 6, 3), txn(15, 5, 1), kafkatest.Marker(16, 6, false), txn(17, 6, 1), kafkatest.Marker(18, 5, true), kafkatest.Marker(19, 6, true), txn(20, 5, 1), kafkatest.Marker(21, 5, false)))
	b.wantValues(t, "a", []string{"0", "1", "4", "5", "8", "10", "15", "17"})
	ts := b.topic(0)
	require.EqualValues(t, 22, b.p.routed.Load())
	require.EqualValues(t, 4+3+1, ts.Aborted.Load())
	require.EqualValues(t, 6, ts.Markers.Load())
	require.Zero(t, ts.Gaps.Load()+ts.Compacted.Load()+lost(ts))
}

// A batch that cannot be read is tried a few times and then passed over: counted, logged, and what follows it is
// delivered.
func TestBadBatches(t *testing.T) {
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 0x40 } }
	for name, c := range map[string]struct {
		bad    kafkatest.Batch
		damage func([]byte)
		opts   Options
		tries  int
		want   []string // Of the bad batch at 3 to 5.
	}{
		"checksum":                  {bad: kafkatest.Numbered(3, 3), damage: flip(70), tries: 3},
		"checksum in attributes":    {bad: kafkatest.Numbered(3, 3), damage: flip(22), tries: 3},
		"old format":                {bad: kafkatest.Numbered(3, 3), damage: func(b []byte) { b[16] = 1 }, tries: 3},
		"record cut":                {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Records: []kafkatest.Record{{Value: "3"}}, Count: 3}, tries: 3, want: []string{"3"}},
		"record length":             {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Records: []kafkatest.Record{{Value: "3"}}, Count: 2, Tail: []byte{0x7e, 0, 0}}, tries: 3, want: []string{"3"}},
		"huge varint":               {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Count: 1, Tail: bytes.Repeat([]byte{0xff}, 20)}, tries: 3},
		"offset outside":            {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Records: []kafkatest.Record{{Delta: 9, Value: "x"}}}, tries: 3},
		"negative offset":           {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Records: []kafkatest.Record{{Delta: -1, Value: "x"}}}, tries: 3},
		"more records than offsets": {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Count: 2000000000}, tries: 3},
		"unknown compression": {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Attributes: 0}, damage: func(b []byte) {
			b[22] = 7
			kafkatest.Reseal(b)
		}, tries: 3},
		"too large inflated": {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Attributes: 4, Records: []kafkatest.Record{{Value: strings.Repeat("x", 1<<20)}}}, opts: Options{BatchBytesMax: 1 << 16}, tries: 1},
		"not compressed as said": {bad: kafkatest.Batch{Base: 3, LastDelta: 2, Producer: -1, Records: []kafkatest.Record{{Value: "plain"}}}, damage: func(b []byte) {
			b[22] = 1
			kafkatest.Reseal(b)
		}, tries: 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.opts)
			bad := c.bad.Encode()
			if c.damage != nil {
				c.damage(bad)
			}
			// As a broker answers: from the batch that holds the offset asked for.
			answer := func() []byte {
				switch at := b.p.routed.Load(); {
				case at < 3:
					return bytes.Join([][]byte{kafkatest.Join(kafkatest.Numbered(0, 3)), bad, kafkatest.Join(kafkatest.Numbered(6, 2))}, nil)
				case at < 6:
					return append(bytes.Clone(bad), kafkatest.Join(kafkatest.Numbered(6, 2))...)
				default:
					return kafkatest.Join(kafkatest.Numbered(6, 2))
				}
			}
			for try := 1; b.p.routed.Load() < 6; try++ {
				require.LessOrEqual(t, try, c.tries, "tried too often")
				b.feed(t, 8, nil, answer())
			}
			b.feed(t, 8, nil, answer())
			b.wantValues(t, "a", append(append(offsets(0, 3), c.want...), offsets(6, 8)...))
			require.EqualValues(t, 3-len(c.want), lost(b.topic(0)))
			require.EqualValues(t, c.tries, b.Stats().FetchErrors[kafka.ErrorCorrupt].Load())
			require.NotZero(t, b.logs.count("reason=unreadable"))
			require.NotEmpty(t, b.breaksOf("a"), "subscribers are told")
			require.Empty(t, b.p.errorText())
		})
	}
}

// A header that cannot be believed does not let the reader jump, nor keep it for ever.
func TestBadBatchWithoutAnEnd(t *testing.T) {
	b := newBench(t, Options{})
	bad := kafkatest.Numbered(0, 3).Encode()
	binary.BigEndian.PutUint32(bad[23:], 1<<30) // Last offset far beyond the log.
	data := append(bad, kafkatest.Join(kafkatest.Numbered(3, 2))...)
	for try := 0; b.p.routed.Load() < 3; try++ {
		require.Less(t, try, 5)
		b.feed(t, 5, nil, data)
	}
	b.feed(t, 5, nil, kafkatest.Join(kafkatest.Numbered(3, 2)))
	b.wantValues(t, "a", offsets(3, 5))
	require.EqualValues(t, 3, lost(b.topic(0)))
}

// A panic while one record is read costs that record and no other. A logger that panics stands for any defect on the
// way.
func TestPanicCostsOneRecord(t *testing.T) {
	b := newBench(t, Options{})
	batch := kafkatest.Numbered(0, 5)
	batch.Records[2].Value = "no JSON"
	b.logs.panicAt("is not JSON")
	b.feed(t, 5, nil, kafkatest.Join(batch))
	b.wantValues(t, "a", []string{"0", "1", "3", "4"})
	require.EqualValues(t, 1, lost(b.topic(0)))
	require.EqualValues(t, 1, b.Stats().Panics.Load())
	require.Contains(t, b.logs.String(), "offset=2")
	require.EqualValues(t, 5, b.p.routed.Load())
	require.EqualValues(t, 5, b.topic(0).Records.Load())
}

// What a broker says about the range of offsets decides where reading goes on.
func TestRejoin(t *testing.T) {
	for _, c := range []struct {
		name                  string
		at, first, last, want int64
		lost, truncated       uint64
		log                   string
	}{
		{"retention overtook", 10, 25, 40, 25, 15, 0, "reason=retention from=10 to=24 offsets=15"},
		{"truncated", 50, 0, 40, 40, 10, 1, "reason=truncated from=40 to=49 offsets=10"},
		{"it was only a moment", 30, 0, 40, 30, 0, 0, ""},
		{"at the end", 40, 0, 40, 40, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Options{})
			b.p.routed.Store(c.at)
			b.p.resolve = resolveRange
			require.NoError(t, b.rejoin(b.f, b.p, c.first, c.last))
			require.Equal(t, c.want, b.p.routed.Load())
			require.Equal(t, resolveNothing, b.p.resolve)
			require.Equal(t, c.lost, lost(b.topic(0)))
			require.Equal(t, c.truncated, b.topic(0).Truncations.Load())
			require.Contains(t, b.logs.String(), c.log)
		})
	}
}

// A response counts only for a partition that still stands where it was asked for and still belongs to the asker.
func TestLateResponsesAreIgnored(t *testing.T) {
	b := newBench(t, Options{})
	data := kafkatest.Join(kafkatest.Numbered(0, 3))
	rp := kmsg.FetchResponseTopicPartition{HighWatermark: 3, LastStableOffset: 3, RecordBatches: data}
	b.p.owner = b.newFetcher(2, "elsewhere")
	b.f.takeOne(asked{p: b.p}, &rp, 0)
	require.Zero(t, b.p.routed.Load(), "led elsewhere meanwhile")
	b.p.owner, b.p.resolve = b.f, resolveRange
	b.f.takeOne(asked{p: b.p}, &rp, 0)
	require.Zero(t, b.p.routed.Load(), "an open question")
	b.p.resolve = resolveNothing
	b.f.takeOne(asked{p: b.p, offset: 2}, &rp, 0)
	require.Zero(t, b.p.routed.Load(), "asked for another offset")
	b.f.takeOne(asked{p: b.p}, &rp, 0)
	require.EqualValues(t, 3, b.p.routed.Load())
}

// A broken invariant of ours is not survived.
func TestBugPanicsGoOn(t *testing.T) {
	require.PanicsWithValue(t, "BUG: x", func() {
		var err error
		defer catchPanic(&err)
		panic("BUG: x")
	})
}

// sealedFrom is where the bytes begin that a batch's checksum covers.
const sealedFrom = 21

func FuzzWalk(f *testing.F) {
	f.Add(kafkatest.Join(kafkatest.Numbered(0, 3), kafkatest.Marker(3, 5, false), kafkatest.Batch{Base: 4, LastDelta: 3, Attributes: 2, Records: []kafkatest.Record{{Delta: 1, Value: "x"}}}), uint64(1), false)
	f.Add(kafkatest.Join(kafkatest.Numbered(0, 3)), uint64(2), true)
	b := newBench(f, Options{BatchBytesMax: 1 << 20, StallAfter: 24 * time.Hour}) // Fuzzing takes longer than ten seconds.
	b.drop = true
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, sum bool) {
		data = bytes.Clone(data)
		rnd := rand.New(rand.NewPCG(seed, 1))
		if sum && len(data) > kafkatest.HeadBytes { // Let the damage get past the checksum.
			data[sealedFrom+rnd.IntN(len(data)-sealedFrom)] ^= byte(seed)
			if size := 12 + int64(int32(binary.BigEndian.Uint32(data[8:]))); size > sealedFrom && size <= int64(len(data)) {
				kafkatest.Reseal(data[:size])
			}
		}
		b.p.routed.Store(0)
		for range badTriesMax {
			from := b.p.routed.Load()
			b.feed(t, 1<<40, []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 5}}, data)
			if at := b.p.routed.Load(); at < from {
				t.Fatalf("the position went back from %d to %d", from, at)
			}
		}
		if b.Stats().Panics.Load() > 0 {
			t.Fatal(b.logs.String())
		}
	})
}
