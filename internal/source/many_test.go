package source

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
)

// look returns what metadata says about topics of one partition each.
func look(topics int) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	for i := range topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic = kmsg.StringPtr(fmt.Sprintf("a-topic-with-a-name-%05d", i))
		rt.TopicID[0], rt.TopicID[1], rt.TopicID[2] = 1, byte(i>>8), byte(i)
		rp := kmsg.NewMetadataResponseTopicPartition()
		rp.Leader, rp.LeaderEpoch = -1, 3
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// BenchmarkLook is the work on each look at the cluster's metadata, after the answer is decoded. It must not cost more
// for each topic when there are more of them, see ns/topic.
func BenchmarkLook(b *testing.B) {
	for _, topics := range []int{2_500, 10_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			resp := look(topics)
			var names []string
			for i := range resp.Topics {
				names = append(names, *resp.Topics[i].Topic)
			}
			k := newSink(b, 1, ringSize{slots: 8, bytes: 1 << 20})
			s, err := New(Options{Brokers: []string{"127.0.0.1:1"}, Topics: names, TopicsMax: topics,
				Interest: k.interest, Ring: k.ring, Logger: discard,
				Builder: bus.BuilderOptions{RecordsMax: 512, BytesMax: 1 << 20}})
			require.NoError(b, err)
			defer s.stopFetch()
			b.ReportAllocs()
			for b.Loop() {
				s.askCommitted(resp)
				_, err := s.apply(resp)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(topics), "ns/topic")
		})
	}
}

// Partitions stay in the order of their numbers, however the cluster names them.
func TestPartitionsInOrder(t *testing.T) {
	topic := &topic{name: "a"}
	for _, id := range []int32{3, 0, 2, 7, 1} {
		require.Nil(t, topic.find(id))
		topic.add(&partition{id: id})
	}
	var ids []int32
	for _, p := range topic.parts {
		ids = append(ids, p.id)
		require.Same(t, p, topic.find(p.id))
	}
	require.Equal(t, []int32{0, 1, 2, 3, 7}, ids)
}
