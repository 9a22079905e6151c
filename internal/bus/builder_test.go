package bus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

func channel(id routing.ChannelID, shards ...routing.ShardID) routing.Channel {
	ch := routing.Channel{ID: id, Name: fmt.Sprint(id)}
	for _, s := range shards {
		ch.Shards.Add(s)
	}
	return ch
}

// What is in a batch is its own: the caller's buffers are used again.
func TestBuilderCopies(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 1 << 20, BytesMax: 1 << 30})
	buffer, other := make([]byte, 100_000), make([]byte, 100_000)
	var want [][]byte
	for i, size := range []int{1, 0, 50, 255, 256, 257, 4000, 100_000, 1, 70_000, 3} {
		value := buffer[:size]
		for j := range value {
			value[j] = byte(i + j)
		}
		json := other[:size/2]
		copy(json, value)
		want = append(want, bytes.Clone(value))
		b.Add(channel(1), Record{Offset: uint64(i), Value: value, JSON: json, Text: true}, time.Now())
	}
	b.Add(channel(1), Record{}, time.Now())
	batch := b.Seal()
	clear(buffer)
	clear(other)
	require.Len(t, batch.Segments, 1)
	records := batch.Segments[0].Records
	require.Len(t, records, len(want)+1)
	for i, w := range want {
		require.True(t, bytes.Equal(w, records[i].Value), i)
		require.True(t, bytes.Equal(w[:len(w)/2], records[i].JSON), i)
		require.NotNil(t, records[i].Value)
		_ = append(records[i].Value, "overwritten"...) // Must not reach the next value.
	}
	require.Nil(t, records[len(want)].Value)
	require.Nil(t, records[len(want)].JSON)
	require.GreaterOrEqual(t, batch.memory, batch.Bytes)
	require.Less(t, batch.memory, 3*batch.Bytes)
}

// A value that is its own JSON is stored once.
func TestBuilderShares(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 10, BytesMax: 1000})
	value := []byte(`{"a":1}`)
	b.Add(channel(1), Record{Value: value, JSON: value}, time.Now())
	r := b.Seal().Segments[0].Records[0]
	require.Same(t, &r.Value[0], &r.JSON[0])
	require.NotSame(t, &r.Value[0], &value[0])
}

func TestBuilder(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 4, BytesMax: 100})
	require.Nil(t, b.Seal())
	now := time.Now()
	require.False(t, b.Add(channel(1, 1), Record{Offset: 1, Value: []byte("a")}, now))
	require.False(t, b.Add(channel(2, 2), Record{Offset: 2, Value: []byte("b")}, now.Add(-time.Second)))
	require.False(t, b.Add(channel(1, 1), Record{Offset: 3, Value: []byte("c")}, now.Add(time.Second)))
	require.True(t, b.Add(channel(1, 200), Record{Offset: 4, Value: []byte("d")}, now), "full by records")
	batch := b.Seal()
	require.Equal(t, 4, batch.Records)
	require.Equal(t, 4, batch.Bytes)
	require.Equal(t, now.Add(-time.Second), batch.Oldest)
	require.Len(t, batch.Segments, 2)
	var offsets []uint64
	for _, r := range batch.Segments[0].Records {
		offsets = append(offsets, r.Offset)
	}
	require.Equal(t, []uint64{1, 3, 4}, offsets)
	require.Equal(t, 3, batch.Segments[0].Bytes)
	require.Equal(t, channel(1, 1, 200).Shards, batch.Segments[0].Shards, "what its records were for")
	require.Equal(t, channel(2, 2).Shards, batch.Segments[1].Shards)
	var shards []routing.ShardID
	for s := range batch.Shards.All() {
		shards = append(shards, s)
	}
	require.Equal(t, []routing.ShardID{1, 2, 200}, shards)

	require.True(t, b.Add(channel(1), Record{Value: make([]byte, 1000)}, now), "full by bytes, whatever the size")
	next := b.Seal()
	require.Equal(t, 1, next.Records, "the batch before is not continued")
	require.Equal(t, now, next.Oldest)
	require.Equal(t, 4, batch.Records)
}

// However many ask at once, a layout is built once for each variant and counted once.
func TestLayoutOnce(t *testing.T) {
	r := newRing(t, Options{Shards: 1})
	batch := batchFor(10, 0)
	require.NoError(t, r.Publish(t.Context(), batch))
	before := r.Stats().RetainedBytes.Load()
	var asked, built atomic.Int32
	var running sync.WaitGroup
	var got [32][]byte
	for i := range got {
		running.Go(func() {
			asked.Add(1)
			got[i] = batch.Segments[0].Layout(VariantJSON, func(s *Segment) []byte {
				for built.Add(1); asked.Load() < int32(len(got)); {
					runtime.Gosched() // Until the others have seen that there is none.
				}
				return bytes.Clone(s.Records[0].Value)
			})
		})
	}
	running.Wait()
	require.EqualValues(t, 1, built.Load())
	for _, g := range got {
		require.Same(t, &got[0][0], &g[0])
	}
	require.Equal(t, before+int64(cap(got[0])), r.Stats().RetainedBytes.Load())
	require.Empty(t, batch.Segments[0].Layout(VariantRaw, func(*Segment) []byte { return nil }))
	require.Empty(t, batch.Segments[0].Layout(VariantRaw, func(*Segment) []byte { panic("BUG: an empty layout is kept as well") }))
}

// Keys are the batch's own memory too, and count.
func TestKeys(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 3, BytesMax: 1 << 20})
	ch, key := routing.Channel{ID: 1, Name: "a"}, []byte("key")
	require.False(t, b.AddKeyed(ch, Record{Value: []byte("1")}, key, time.Now()))
	copy(key, "xxx")
	require.False(t, b.AddKeyed(ch, Record{Value: []byte("2")}, nil, time.Now()))
	require.True(t, b.AddKeyed(ch, Record{Value: []byte("3")}, []byte{}, time.Now()), "full")
	keyed := b.Seal()
	seg := keyed.Segments[0]
	require.Equal(t, [][]byte{[]byte("key"), nil, {}}, [][]byte{seg.Key(0), seg.Key(1), seg.Key(2)})
	for range 3 {
		b.Add(ch, Record{Value: []byte("1")}, time.Now())
	}
	plain := b.Seal()
	require.Nil(t, plain.Segments[0].Key(2))
	require.Greater(t, keyed.memory, plain.memory)
}

// A message stands between what came before it and what comes after it.
func TestMessagesInOrder(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 100, BytesMax: 1 << 20})
	a, c := routing.Channel{ID: 1, Name: "a"}, routing.Channel{ID: 2, Name: "c"}
	m, n := routing.Channel{ID: routing.ConnChannel(7)}, routing.Channel{ID: 3, Name: routing.Everybody}
	add := func(ch routing.Channel, value string) { b.Add(ch, Record{Value: []byte(value)}, time.Now()) }
	tell := func(ch routing.Channel, value string) { b.AddMessage(ch, Record{Value: []byte(value)}, time.Now()) }
	for range 2 { // A builder that is used again knows nothing of the last batch.
		add(a, "1")
		add(c, "1")
		add(a, "2")
		tell(m, "1")
		tell(m, "2")
		tell(n, "1")
		tell(m, "3")
		add(a, "3")
		add(a, "4")
		tell(m, "4")
		add(a, "5")
		batch := b.Seal()
		var got []string
		for _, seg := range batch.Segments {
			text := seg.Name
			if text == "" {
				text = fmt.Sprint(seg.Channel & 0xff)
			}
			for _, r := range seg.Records {
				text += " " + string(r.Value)
			}
			got = append(got, text)
		}
		require.Equal(t, []string{"a 1 2", "c 1", "7 1 2", "3 1", "7 3", "a 3 4", "7 4", "a 5"}, got)
		require.Equal(t, 11, batch.Records)
	}
}

// Each shard finds its segments, in order, and none of others where few want each.
func TestSegmentsOf(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	listed := 0
	for range 2000 {
		b := NewBuilder(BuilderOptions{RecordsMax: 1 << 20, BytesMax: 1 << 20})
		channels, shards, most := 1+random.IntN(40), 1+random.IntN(routing.ShardsMax), 1+random.IntN(4)
		for range random.IntN(100) {
			ch := routing.Channel{ID: routing.ChannelID(1 + random.IntN(channels))}
			for range 1 + random.IntN(most) {
				ch.Shards.Add(routing.ShardID(random.IntN(shards)))
			}
			add := b.Add
			if random.IntN(10) == 0 {
				add = b.AddMessage
			}
			add(ch, Record{Offset: 1}, time.Now())
		}
		batch := b.Seal()
		if batch == nil {
			continue
		}
		looked := 0
		for i := range routing.ShardsMax {
			s := routing.ShardID(i)
			var want, got []*Segment
			for _, seg := range batch.Segments {
				if seg.Shards.Has(s) {
					want = append(want, seg)
				}
			}
			for _, seg := range batch.SegmentsOf(s) {
				looked++
				if seg.Shards.Has(s) {
					got = append(got, seg)
				}
			}
			require.Len(t, got, len(want))
			for i := range want {
				require.Same(t, want[i], got[i], "shard %d, segment %d", s, i)
			}
		}
		if batch.ends != nil {
			listed++
			require.Len(t, batch.byShard, looked, "a shard looks at what is its own")
			again := Batch{Segments: batch.Segments, Shards: batch.Shards}
			again.sort()
			require.Equal(t, len(again.byShard)*pointerSize+len(again.ends)*4, again.memory)
		}
	}
	require.Greater(t, listed, 100)
}
