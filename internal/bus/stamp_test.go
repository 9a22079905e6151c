package bus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/stats"
)

// Records of a segment share a stamp as long as they come from the same place and time, and a segment has few stamps.
func TestStamps(t *testing.T) {
	b := NewBuilder(BuilderOptions{RecordsMax: 1 << 20, BytesMax: 1 << 30})
	one, two := stats.NewDeliveries("one", 1), stats.NewDeliveries("two", 1)
	add := func(topic *stats.Deliveries, millis int64, offset uint64) {
		b.From(Origin{Topic: topic, Fetched: 7, Partition: 3})
		b.Add(channel(1, 0), Record{Offset: offset, Value: []byte("v")}, time.UnixMilli(millis))
	}
	stamp := func(topic *stats.Deliveries, millis int64, offset uint64, n uint32) Stamp {
		return Stamp{Origin{topic, 7, 3}, millis, offset, n}
	}
	of := func(batch *Batch) (list []Stamp) {
		batch.Segments[0].Stamps.Each(func(s *Stamp) { list = append(list, *s) })
		return list
	}
	add(one, 5, 1)
	add(one, 5, 2)
	add(one, 6, 3)
	add(two, 6, 4)
	add(nil, 6, 5)
	add(one, -1, 6)
	require.Equal(t, []Stamp{stamp(one, 5, 1, 2), stamp(one, 6, 3, 1), stamp(two, 6, 4, 1), stamp(one, -1, 6, 1)}, of(b.Seal()))

	const many = 1000
	for i := range uint64(many) {
		add(one, int64(i), i)
	}
	list, n := of(b.Seal()), 0
	require.Len(t, list, stampsMax)
	for i := range list {
		n += int(list[i].Records)
	}
	require.Equal(t, many, n)
	for i := range uint64(many) {
		add([]*stats.Deliveries{one, two}[i%2], int64(i), i)
	}
	batch := b.Seal()
	require.LessOrEqual(t, len(of(batch)), 2*stampsMax+1)
	before := batch.memory
	b.Add(channel(1, 0), Record{Value: []byte("v")}, time.UnixMilli(0))
	require.Greater(t, before, b.Seal().memory+stampSize*stampsMax, "they count as memory")
}
