package source

import (
	"fmt"
	"math/rand/v2"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/route"
)

// Channels, and the stream that each has as topic/partition: empty for one without.
func TestStreams(t *testing.T) {
	s := &Source{}
	topicWith := func(name string, r Route, n int32) *topic {
		table, err := route.New([]Route{r}, nil)
		require.NoError(t, err)
		tp := &topic{name: name, route: table.Topic(name), id: [16]byte{1}}
		for i := range n {
			p := s.newPartition(tp, i, Start{})
			p.routed.Store(int64(i) + 5)
			tp.parts = append(tp.parts, p)
		}
		return tp
	}
	parts := func(name, channel string, n int32) *topic { return topicWith(name, Route{Channel: channel}, n) }
	keyed := func(name, channel string, n int32) *topic {
		return topicWith(name, Route{Channel: channel, Partitioner: route.PartitionerCRC32}, n)
	}
	for _, c := range []struct {
		name   string
		topics []*topic
		want   map[string]string
	}{
		{"one partition", []*topic{parts("a", "{topic}", 1)}, map[string]string{"a": "a/0", "b": ""}},
		{"two partitions on one channel", []*topic{parts("a", "{topic}", 2)}, map[string]string{"a": ""}},
		{"a channel a partition", []*topic{parts("a", "{topic}-{partition}", 2)}, map[string]string{"a-0": "a/0", "a-1": "a/1", "a-2": ""}},
		{"two topics on one channel", []*topic{parts("a", "x", 1), parts("b", "x", 1), parts("c", "{topic}", 1)}, map[string]string{"x": "", "c": "c/0"}},
		{"keys may name it", []*topic{parts("a", "{topic}", 1), parts("b", "{key}", 1)}, map[string]string{"a": "", "c": "b/0"}},
		{"keys of a topic that does not exist yet", []*topic{parts("a", "{topic}", 1), parts("b", "{key}", 0)}, map[string]string{"a": "", "c": ""}},
		{"keys cannot name it", []*topic{parts("a", "{topic}", 1), parts("b", "b:{key}", 1)}, map[string]string{"a": "a/0", "b:": "", "b:c": "b/0"}},
		{"headers cannot name it: too short", []*topic{parts("a", "x.", 1), parts("b", "x.{header.h}", 1)}, map[string]string{"x.": "a/0", "x.y": "b/0"}},
		{"partition numbers may name it", []*topic{parts("a", "x.7", 1), parts("b", "{header.h}.{partition}", 1)}, map[string]string{"x.7": ""}},
		{"a key and two partitions", []*topic{parts("a", "{key}", 2)}, map[string]string{"k": ""}},
		{"a key and its partitioner", []*topic{keyed("a", "a:{key}!", 4)}, map[string]string{"a:1!": "a/3", "a:2!": "a/1", "a:3!": "a/3", "a:!": "", "a:1": ""}},
		{"the key twice", []*topic{keyed("a", "{key}.{key}", 4)}, map[string]string{"1.1": ""}},
		{"a key beside a header", []*topic{keyed("a", "{key}.{header.h}", 4)}, map[string]string{"1.1": ""}},
		{"keys of two topics", []*topic{keyed("a", "a.{key}", 4), keyed("b", "{key}", 4)}, map[string]string{"1": "b/3", "a.1": ""}},
		{"a key beside its partition", []*topic{parts("a", "{partition}.{key}", 12)}, map[string]string{"1.x": "a/1", "11.1.x": "a/11", "12.x": ""}},
		{"a partition behind the key", []*topic{parts("a", "{key}{partition}", 12)}, map[string]string{"x7": "a/7", "x11": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := buildStreams(c.topics)
			for channel, want := range c.want {
				got := ""
				if st, ok := list.find(channel, false); ok {
					got = fmt.Sprintf("%s/%d", st.p.topic.name, st.p.id)
				}
				require.Equal(t, want, got, channel)
			}
		})
	}
	s.streams.Store(buildStreams([]*topic{parts("a", "{topic}-{partition}", 2)}))
	offset, epoch, ok := s.Position("a-1")
	require.True(t, ok)
	require.EqualValues(t, 6, offset)
	require.Equal(t, "AQAAAAAAAAAAAAAAAAAAAA.1.2", epoch)
}

// The partitioners agree with two independent clients, for any bytes.
func TestPartitioners(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	java := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	librdkafka := kafkago.CRC32Balancer{Consistent: true}
	for range 20_000 {
		key := make([]byte, 1+random.IntN(40))
		for i := range key {
			key[i] = byte(random.Uint32())
		}
		n := 1 + random.IntN(100)
		if random.IntN(50) == 0 {
			n = len(counting) + random.IntN(10)
		}
		require.Equal(t, java.Partition(&kgo.Record{Key: key}, n), partitionOf(route.PartitionerMurmur2, key, n), "%x of %d", key, n)
		require.Equal(t, librdkafka.Balance(kafkago.Message{Key: key}, countTo(n)...), partitionOf(route.PartitionerCRC32, key, n), "%x of %d", key, n)
	}
	// Known values of org.apache.kafka.common.utils.Utils.murmur2, made positive, and of CRC-32.
	for key, want := range map[string]int{"21": -973932308 & 0x7fffffff, "foobar": -790332482 & 0x7fffffff, "a-little-bit-long-string": -985981536 & 0x7fffffff} {
		require.Equal(t, want%1000, partitionOf(route.PartitionerMurmur2, []byte(key), 1000), key)
	}
	require.Equal(t, 0xcbf43926%1000, partitionOf(route.PartitionerCRC32, []byte("123456789"), 1000))
	_, err := route.New([]Route{{Channel: "{key}", Partitioner: "random"}}, nil)
	require.ErrorContains(t, err, `routes[0].partitioner "random": unknown partitioner; write murmur2 or crc32`)
}

// Producers with another partitioner: it is noticed, and nothing is promised of their keys.
func TestStrays(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{
		Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{key}", Partitioner: route.PartitionerMurmur2}},
	}, "k")
	r.waitReady(t)
	right := int32(partitionOf(route.PartitionerMurmur2, []byte("k"), 4))
	record := func(partition int32) {
		produceRecords(t, cl, &kgo.Record{Topic: "a", Partition: partition, Key: []byte("k"), Value: []byte("1")})
	}
	record(right)
	record((right + 1) % 4)
	r.wantValues(t, "k", []string{"1", "1"})
	require.EqualValues(t, 1, r.topic(0).Strays.Load())
	_, ok := r.Stream("k")
	require.False(t, ok)
	require.Contains(t, r.logs.String(), "kafka.partitioner")
	later := func() { last := &r.Source.topics[0].strays.last; last.Set(last.Get().Add(-straysLast / 2)) }
	later()
	record((right + 1) % 4)
	r.wantValues(t, "k", []string{"1", "1", "1"})
	require.EqualValues(t, 2, r.topic(0).Strays.Load(), "they are refreshed for also while some are known")
	later()
	_, ok = r.Stream("k")
	require.False(t, ok, "five minutes after the last")
	later()
	_, ok = r.Stream("k")
	require.True(t, ok, "ten minutes after it")
}
