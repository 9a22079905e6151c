package source

import (
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafkatest"
)

// heavyRecords is how many records a batch needs for its walk to be put aside and to go on for some slices more.
const heavyRecords = (slicesAtOnce + 3) * sliceWork / 64

// addPartition gives the bench another partition, at offset 0.
func (b *bench) addPartition() *partition {
	tp := b.Source.topics[0]
	p := b.newPartition(tp, int32(len(tp.parts)), Start{})
	p.owner, p.resolve = b.f, resolveNothing
	p.routed.Store(0)
	tp.parts = append(tp.parts, p)
	b.f.parts = tp.parts
	return p
}

// respond hands over a response with these batches of each partition.
func (b *bench) respond(t testing.TB, parts map[*partition][]byte) {
	t.Helper()
	b.f.asked = make(map[partKey]asked)
	topic := kmsg.FetchResponseTopic{Topic: "a"}
	for p, data := range parts {
		b.f.asked[partKey{topic: "a", id: p.id}] = asked{p: p, offset: p.routed.Load()}
		topic.Partitions = append(topic.Partitions, kmsg.FetchResponseTopicPartition{
			Partition: p.id, HighWatermark: 1 << 20, LastStableOffset: 1 << 20, RecordBatches: data,
		})
	}
	_, _, err := b.f.take(&kmsg.FetchResponse{Version: 11, Topics: []kmsg.FetchResponseTopic{topic}})
	require.NoError(t, err)
}

func heavyBatch(base int64) []byte {
	batch := kafkatest.Numbered(base, heavyRecords)
	batch.Attributes = int16(compress.Zstd)
	return batch.Encode()
}

// A batch of very many records is walked in slices. Between them the other partitions are read, of this broker and of
// others, and the partition is not fetched. In the end everything has been routed in order.
func TestHeavyBatchHoldsUpNobody(t *testing.T) {
	b := newBench(t, Options{Routes: []Route{{Channel: "{topic}/{partition}"}}, CommitGroup: "g"})
	for _, channel := range channels("a", 3) {
		b.interest.Add(channel, 0, 0)
	}
	second, elsewhere := b.addPartition(), b.addPartition()
	other := b.newFetcher(2, "elsewhere")
	elsewhere.owner = other

	b.respond(t, map[*partition][]byte{b.p: heavyBatch(0), second: kafkatest.Join(kafkatest.Numbered(0, 3))})
	require.Len(t, b.f.walks, 1)
	require.True(t, b.f.keep)
	paused := b.p.routed.Load()
	require.Positive(t, paused)
	require.Less(t, paused, int64(heavyRecords))
	require.False(t, b.p.caughtUp.Load())
	require.EqualValues(t, 7, b.p.lastEpoch, "the epoch of the batch that the position is in")
	require.Equal(t, paused, b.p.published.Load())
	require.EqualValues(t, 7, b.p.publishedEpoch.Load())
	require.EqualValues(t, 3, second.routed.Load())
	b.wantValues(t, "a/1", offsets(0, 3))

	unresolved, _ := b.f.plan(11)
	require.Empty(t, unresolved)
	require.NotContains(t, b.f.asked, partKey{topic: "a"}, "the partition is not fetched while its walk goes on")
	require.Contains(t, b.f.asked, partKey{topic: "a", id: 1})
	b.respond(t, map[*partition][]byte{second: kafkatest.Join(kafkatest.Numbered(3, 3))})
	b.wantValues(t, "a/1", offsets(0, 6))
	rp := kmsg.FetchResponseTopicPartition{HighWatermark: 3, LastStableOffset: 3, RecordBatches: kafkatest.Join(kafkatest.Numbered(0, 3))}
	require.NoError(t, other.takeOne(asked{p: elsewhere}, &rp, 0).err)
	require.EqualValues(t, 3, elsewhere.routed.Load())

	slices := 0
	for ; len(b.f.walks) > 0; slices++ {
		require.NoError(t, b.f.goOn())
	}
	require.Greater(t, slices, 1)
	require.EqualValues(t, heavyRecords, b.p.routed.Load())
	b.wantValues(t, "a/0", offsets(0, heavyRecords))
	require.Zero(t, lost(b.topic(0))+b.topic(0).Compacted.Load()+b.Stats().Panics.Load())
	b.f.plan(11)
	require.Contains(t, b.f.asked, partKey{topic: "a"})
}

// Whatever happens to the partition between two slices: the rest of the walk no longer counts, and what is fetched
// afterwards follows without a gap and without a repeat.
func TestPartitionChangesBetweenSlices(t *testing.T) {
	data := heavyBatch(0)
	for name, change := range map[string]func(b *bench){
		"moved":              func(b *bench) { b.p.owner = b.newFetcher(2, "elsewhere") },
		"a new leader":       func(b *bench) { b.p.newEpochLocked(8) },
		"reset":              func(b *bench) { b.p.resolve = resolveRange; b.p.vouchLocked() },
		"the connection":     func(b *bench) { b.f.dropWalks() },
		"truncated to there": func(b *bench) { b.p.leaderEpoch = 9 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{})
			b.p.leaderEpoch = 7
			b.respond(t, map[*partition][]byte{b.p: data})
			require.NoError(t, b.f.goOn())
			require.Len(t, b.f.walks, 1)
			b.Source.mu.Lock()
			change(b)
			paused := b.p.routed.Load()
			b.Source.mu.Unlock()
			require.NoError(t, b.f.goOn())
			require.Empty(t, b.f.walks)
			require.Equal(t, paused, b.p.routed.Load())
			b.p.owner, b.p.resolve = b.f, resolveNothing
			b.feed(t, heavyRecords, nil, data)
			b.wantValues(t, "a", offsets(0, heavyRecords))
			require.Zero(t, lost(b.topic(0)))
		})
	}
}

// What is put aside is limited. Walks that are too many are given up, so that they hold up nobody either, and their
// partitions are fetched again when there is a place.
func TestWalksPutAside(t *testing.T) {
	b := newBench(t, Options{})
	data := heavyBatch(0)
	parts := map[*partition][]byte{b.p: data}
	for range walksMax + 1 {
		parts[b.addPartition()] = data
	}
	light := b.addPartition()
	b.drop = true
	b.respond(t, parts)
	require.Len(t, b.f.walks, walksMax)
	for p := range parts {
		require.Positive(t, p.routed.Load())
		require.Less(t, p.routed.Load(), int64(heavyRecords), "no walk holds up the others to its end")
	}
	// next returns the heavy partitions that the next fetch asks for, and counts them.
	asked := 0
	next := func() map[*partition][]byte {
		b.f.plan(11)
		require.Contains(t, b.f.asked, partKey{topic: "a", id: light.id})
		heavy := make(map[*partition][]byte)
		for _, a := range b.f.asked {
			if a.p != light && a.p.routed.Load() < heavyRecords {
				heavy[a.p] = data
			}
		}
		asked = len(heavy)
		return heavy
	}
	next()
	require.Zero(t, asked, "there is no place")
	for len(b.f.walks) == walksMax {
		require.NoError(t, b.f.goOn())
	}
	for left := 2; left > 0; {
		heavy := next()
		require.LessOrEqual(t, asked, walksMax-len(b.f.walks))
		left -= asked
		b.respond(t, heavy)
		require.NoError(t, b.f.goOn())
	}
	for len(b.f.walks) > 0 {
		require.NoError(t, b.f.goOn())
	}
	for p := range parts {
		require.EqualValues(t, heavyRecords, p.routed.Load())
		require.False(t, p.awaitsPlace)
	}
	require.Zero(t, lost(b.topic(0)))

	b.o.FetchTotalBytes = 1
	for p := range parts {
		p.routed.Store(0)
	}
	b.respond(t, parts)
	require.Len(t, b.f.walks, 1, "the bytes of responses are limited, too")
	next()
	require.Zero(t, asked)
	b.f.dropWalks()
	next()
	require.Equal(t, walksMax+1, asked, "there are places again, and the walk that was dropped begins anew")
}

// A damaged batch and a panic are dealt with in a later slice as in the first.
func TestDamageInALaterSlice(t *testing.T) {
	b := newBench(t, Options{LogInterval: 1})
	bad := kafkatest.Numbered(0, heavyRecords)
	bad.Records[heavyRecords-1].Delta = 5
	b.logs.panicAt("is not JSON")
	bad.Records[heavyRecords-9].Value = "no JSON"
	data := kafkatest.Join(bad, kafkatest.Numbered(heavyRecords, 2))
	b.feed(t, heavyRecords+2, nil, data)
	b.feed(t, heavyRecords+2, nil, data)
	want := append(offsets(0, heavyRecords-9), offsets(heavyRecords-8, heavyRecords-1)...)
	b.wantValues(t, "a", append(want, offsets(heavyRecords, heavyRecords+2)...))
	require.EqualValues(t, 1, b.Stats().Panics.Load())
	require.EqualValues(t, 2, lost(b.topic(0)))
	require.EqualValues(t, 2, b.topic(0).Breaks.Load())
}

// A walk through a block pauses also where it finds nothing, so that recovery can do it in slices and give it up.
func TestBlockWalkPauses(t *testing.T) {
	b := newBench(t, Options{Routes: []Route{{Channel: "x:{key}"}}, RecentBytesMax: 64 << 20})
	batch := kafkatest.Numbered(0, heavyRecords) // Their keys are empty, so nobody can name a channel for them.
	batch.Records[heavyRecords-1].Key = "1"
	b.feed(t, heavyRecords, nil, kafkatest.Join(batch))
	block, ok := b.Recent(b.p.streamOf(1), heavyRecords)
	require.True(t, ok)
	defer block.Done()
	w, pauses := b.NewWalker(), 0
	w.Pause = func() bool { pauses++; return true }
	w.Open(b.p.streamOf(1), block, 0, heavyRecords)
	require.True(t, w.Next())
	require.Equal(t, "x:1", string(w.Channel()))
	require.GreaterOrEqual(t, pauses, slicesAtOnce)
	require.False(t, w.Next())
	require.NoError(t, w.Err())

	w.Pause = func() bool { return false }
	w.Open(b.p.streamOf(1), block, 0, heavyRecords)
	require.False(t, w.Next())
	require.ErrorIs(t, w.Err(), ErrAbandoned)
}
