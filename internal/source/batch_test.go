package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// rec is a record to be encoded by hand, as no producer would let us.
type rec struct {
	delta int64
	key   string
	value string
}

type rawBatch struct {
	base       int64
	lastDelta  int32
	attributes int16
	producer   int64
	records    []rec
	count      int32 // 0: as many as records.
	tail       []byte
}

const (
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
)

func (b rawBatch) encode() []byte {
	var body []byte
	for _, r := range b.records {
		one := []byte{0}
		one = binary.AppendVarint(one, 1)
		one = binary.AppendVarint(one, r.delta)
		for _, s := range []string{r.key, r.value} {
			one = binary.AppendVarint(one, int64(len(s)))
			one = append(one, s...)
		}
		one = binary.AppendVarint(one, 0)
		body = binary.AppendVarint(body, int64(len(one)))
		body = append(body, one...)
	}
	body = append(body, b.tail...)
	if c := compress.Compression(b.attributes & 7); c != compress.None {
		var out bytes.Buffer
		w := c.Codec().NewWriter(&out)
		_, _ = w.Write(body)
		_ = w.Close()
		body = out.Bytes()
	}
	if b.count == 0 {
		b.count = int32(len(b.records))
	}
	return encodeBatch(b, body)
}

// encodeBatch puts b's header in front of records that are encoded and compressed already.
func encodeBatch(b rawBatch, body []byte) []byte {
	after := binary.BigEndian.AppendUint16(nil, uint16(b.attributes))
	after = binary.BigEndian.AppendUint32(after, uint32(b.lastDelta))
	after = binary.BigEndian.AppendUint64(after, 1000)
	after = binary.BigEndian.AppendUint64(after, 2000)
	after = binary.BigEndian.AppendUint64(after, uint64(b.producer))
	after = binary.BigEndian.AppendUint16(after, 0)
	after = binary.BigEndian.AppendUint32(after, 0)
	after = binary.BigEndian.AppendUint32(after, uint32(b.count))
	after = append(after, body...)
	out := binary.BigEndian.AppendUint64(nil, uint64(b.base))
	out = binary.BigEndian.AppendUint32(out, uint32(4+1+4+len(after)))
	out = binary.BigEndian.AppendUint32(out, 7) // Leader epoch.
	out = append(out, 2)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(after, castagnoli))
	return append(out, after...)
}

func simple(base int64, n int) rawBatch {
	b := rawBatch{base: base, lastDelta: int32(n - 1), producer: -1}
	for i := range n {
		b.records = append(b.records, rec{delta: int64(i), value: fmt.Sprint(base + int64(i))})
	}
	return b
}

func marker(base, producer int64, commit bool) rawBatch {
	key := "\x00\x00\x00\x00"
	if commit {
		key = "\x00\x00\x00\x01"
	}
	return rawBatch{base: base, attributes: attrTransactional | attrControl, producer: producer, records: []rec{{key: key, value: "\x00\x00\x00\x00\x00\x00"}}}
}

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
	_, _, err := b.f.take(&resp)
	require.NoError(t, err)
}

// feedFrom is feed without transactions, for a log that begins at logStart.
func (b *bench) feedFrom(t testing.TB, high, logStart int64, data []byte) {
	t.Helper()
	b.f.asked = map[partKey]asked{{topic: "a"}: {p: b.p, offset: b.p.routed.Load(), first: true}}
	resp := kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{
		HighWatermark: high, LastStableOffset: high, LogStartOffset: logStart, RecordBatches: data,
	}}}}}
	_, _, err := b.f.take(&resp)
	require.NoError(t, err)
}

func join(batches ...rawBatch) (out []byte) {
	for _, b := range batches {
		out = append(out, b.encode()...)
	}
	return out
}

func TestWalkHoles(t *testing.T) {
	b := newBench(t, Options{})
	// Compaction: a hole at the head, in the middle and at the tail of a batch, and an empty batch.
	b.feed(t, 30, nil, join(
		rawBatch{base: 0, lastDelta: 9, producer: -1, records: []rec{{delta: 2, value: "2"}, {delta: 5, value: "5"}, {delta: 7, value: "7"}}},
		rawBatch{base: 10, lastDelta: 4, producer: -1},
		simple(15, 2)))
	b.wantValues(t, "a", []string{"2", "5", "7", "15", "16"})
	ts := b.topic(0)
	require.EqualValues(t, 17, b.p.routed.Load())
	require.EqualValues(t, 7+5, ts.Compacted.Load())
	require.Zero(t, ts.Gaps.Load())
	// A hole between batches.
	b.feed(t, 30, nil, join(simple(20, 3)))
	require.EqualValues(t, 3, ts.Gaps.Load())
	require.EqualValues(t, 23, b.p.routed.Load())
	require.Equal(t, 1, b.logs.count("offsets are missing"))
	// A batch that begins before the offset asked for, as brokers send it.
	b.p.routed.Store(25)
	b.feed(t, 30, nil, join(simple(23, 5)))
	b.wantValues(t, "a", []string{"2", "5", "7", "15", "16", "20", "21", "22", "25", "26", "27"})
	require.EqualValues(t, 3, ts.Gaps.Load())
	require.Zero(t, lost(ts))
	require.EqualValues(t, 5+3+3, ts.Records.Load())
}

func TestWalkCutBatch(t *testing.T) {
	b := newBench(t, Options{})
	whole := join(simple(0, 3), simple(3, 3))
	for cut := len(whole) - 1; cut > len(simple(0, 3).encode()); cut-- {
		b.p.routed.Store(0)
		b.feed(t, 6, nil, whole[:cut])
		require.EqualValues(t, 3, b.p.routed.Load(), "cut at %d", cut)
	}
	require.Zero(t, lost(b.topic(0))+b.topic(0).Gaps.Load())
}

func TestWalkAborted(t *testing.T) {
	b := newBench(t, Options{})
	txn := func(base, producer int64, n int) rawBatch {
		r := simple(base, n)
		r.attributes, r.producer = attrTransactional, producer
		return r
	}
	notTxn := simple(8, 1)
	notTxn.producer = 5 // The same producer outside a transaction.
	b.feed(t, 100, []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 6, FirstOffset: 12}, {ProducerID: 5, FirstOffset: 2}, {ProducerID: 5, FirstOffset: 20}}, join(
		txn(0, 6, 2), txn(2, 5, 2), txn(4, 6, 2), txn(6, 5, 2), notTxn, marker(9, 5, false), txn(10, 5, 1), marker(11, 6, true),
		txn(12, 6, 3), txn(15, 5, 1), marker(16, 6, false), txn(17, 6, 1), marker(18, 5, true), marker(19, 6, true), txn(20, 5, 1), marker(21, 5, false)))
	b.wantValues(t, "a", []string{"0", "1", "4", "5", "8", "10", "15", "17"})
	ts := b.topic(0)
	require.EqualValues(t, 22, b.p.routed.Load())
	require.EqualValues(t, 4+3+1, ts.Aborted.Load())
	require.EqualValues(t, 6, ts.Markers.Load())
	require.Zero(t, ts.Gaps.Load()+ts.Compacted.Load()+lost(ts))
}

// A batch that cannot be read is tried a few times and then passed over: counted, logged, and what follows it is delivered.
func TestBadBatches(t *testing.T) {
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 0x40 } }
	for name, c := range map[string]struct {
		bad    rawBatch
		damage func([]byte)
		opts   Options
		tries  int
		want   []string // Of the bad batch at 3 to 5.
	}{
		"checksum":                  {bad: simple(3, 3), damage: flip(70), tries: 3},
		"checksum in attributes":    {bad: simple(3, 3), damage: flip(22), tries: 3},
		"old format":                {bad: simple(3, 3), damage: func(b []byte) { b[16] = 1 }, tries: 3},
		"record cut":                {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, records: []rec{{value: "3"}}, count: 3}, tries: 3, want: []string{"3"}},
		"record length":             {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, records: []rec{{value: "3"}}, count: 2, tail: []byte{0x7e, 0, 0}}, tries: 3, want: []string{"3"}},
		"huge varint":               {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, count: 1, tail: bytes.Repeat([]byte{0xff}, 20)}, tries: 3},
		"offset outside":            {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, records: []rec{{delta: 9, value: "x"}}}, tries: 3},
		"negative offset":           {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, records: []rec{{delta: -1, value: "x"}}}, tries: 3},
		"more records than offsets": {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, count: 2000000000}, tries: 3},
		"unknown compression": {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, attributes: 0}, damage: func(b []byte) {
			b[22] = 7
			binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
		}, tries: 3},
		"too large inflated": {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, attributes: 4, records: []rec{{value: strings.Repeat("x", 1<<20)}}}, opts: Options{BatchBytesMax: 1 << 16}, tries: 1},
		"not compressed as said": {bad: rawBatch{base: 3, lastDelta: 2, producer: -1, records: []rec{{value: "plain"}}}, damage: func(b []byte) {
			b[22] = 1
			binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
		}, tries: 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.opts)
			bad := c.bad.encode()
			if c.damage != nil {
				c.damage(bad)
			}
			// As a broker answers: from the batch that holds the offset asked for.
			answer := func() []byte {
				switch at := b.p.routed.Load(); {
				case at < 3:
					return bytes.Join([][]byte{join(simple(0, 3)), bad, join(simple(6, 2))}, nil)
				case at < 6:
					return append(bytes.Clone(bad), join(simple(6, 2))...)
				default:
					return join(simple(6, 2))
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
	bad := simple(0, 3).encode()
	binary.BigEndian.PutUint32(bad[23:], 1<<30) // Last offset far beyond the log.
	data := append(bad, join(simple(3, 2))...)
	for try := 0; b.p.routed.Load() < 3; try++ {
		require.Less(t, try, 5)
		b.feed(t, 5, nil, data)
	}
	b.feed(t, 5, nil, join(simple(3, 2)))
	b.wantValues(t, "a", offsets(3, 5))
	require.EqualValues(t, 3, lost(b.topic(0)))
}

// A panic while one record is read costs that record and no other. A logger that panics stands for any defect on the way.
func TestPanicCostsOneRecord(t *testing.T) {
	b := newBench(t, Options{})
	batch := simple(0, 5)
	batch.records[2].value = "no JSON"
	b.logs.panicAt("is not JSON")
	b.feed(t, 5, nil, join(batch))
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
	data := join(simple(0, 3))
	rp := kmsg.FetchResponseTopicPartition{HighWatermark: 3, LastStableOffset: 3, RecordBatches: data}
	b.p.owner = b.newFetcher(2, "elsewhere")
	b.f.takeOne(asked{p: b.p}, &rp)
	require.Zero(t, b.p.routed.Load(), "led elsewhere meanwhile")
	b.p.owner, b.p.resolve = b.f, resolveRange
	b.f.takeOne(asked{p: b.p}, &rp)
	require.Zero(t, b.p.routed.Load(), "an open question")
	b.p.resolve = resolveNothing
	b.f.takeOne(asked{p: b.p, offset: 2}, &rp)
	require.Zero(t, b.p.routed.Load(), "asked for another offset")
	b.f.takeOne(asked{p: b.p}, &rp)
	require.EqualValues(t, 3, b.p.routed.Load())
}

// A broken invariant of ours is not survived.
func TestBugPanicsGoOn(t *testing.T) {
	require.PanicsWithValue(t, "BUG: x", func() {
		var err error
		defer recovered(&err)
		panic("BUG: x")
	})
}

func FuzzWalk(f *testing.F) {
	f.Add(join(simple(0, 3), marker(3, 5, false), rawBatch{base: 4, lastDelta: 3, attributes: 2, records: []rec{{delta: 1, value: "x"}}}), uint64(1), false)
	f.Add(join(simple(0, 3)), uint64(2), true)
	b := newBench(f, Options{BatchBytesMax: 1 << 20})
	b.drop = true
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, sum bool) {
		data = bytes.Clone(data)
		rnd := rand.New(rand.NewPCG(seed, 1))
		if sum && len(data) > batchHeadBytes { // Let the damage get past the checksum.
			data[crcFrom+rnd.IntN(len(data)-crcFrom)] ^= byte(seed)
			if size := int64(batchStartBytes) + int64(int32(binary.BigEndian.Uint32(data[8:]))); size > crcFrom && size <= int64(len(data)) {
				binary.BigEndian.PutUint32(data[crcAt:], crc32.Checksum(data[crcFrom:size], castagnoli))
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
