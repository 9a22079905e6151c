package server

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/testutil"
)

var sparseDuration = flag.Duration("sparse.duration", 5*time.Second, "how long BenchmarkSparse produces")

const (
	sparseTopic      = "sparse"
	sparsePartitions = 8
	sparseInterval   = 100 * time.Millisecond
)

// BenchmarkSparse compares the time from Kafka's acknowledgement of a record to the one client of its channel with that to a bare fetch
// loop on the same topic: a record each 100 ms, in turn over 8 partitions. On Apache Kafka with WSD_TEST_KAFKA, else on kfake.
func BenchmarkSparse(b *testing.B) {
	if os.Getenv("WSD_TEST_KAFKA") != "" {
		benchmarkSparse(b, kafkatest.Apache(b, 1))
	} else {
		benchmarkSparse(b, kafkatest.Kfake(b, 1))
	}
}

func benchmarkSparse(b *testing.B, k *kafkatest.Cluster) {
	b.Helper()
	k.Create(b, sparseTopic, sparsePartitions)
	r := &rig{t: b, log: &testutil.Buffer{}}
	r.start(configure(b, map[string]any{
		"kafka.brokers": k.Addrs(), "kafka.topics": []string{sparseTopic}, "shards": "2", "kafka.metadata_interval": "2s",
	}))
	defer func() { require.NoError(b, r.stop()) }()
	r.ready()
	c := r.dial("/ws?channel=" + sparseTopic)
	n := int(*sparseDuration / sparseInterval)
	acked, client, bare := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)

	// The leader's connection, since there is one broker.
	raw, err := net.Dial("tcp", k.Addrs()[0])
	require.NoError(b, err)
	defer raw.Close()
	done := make(chan error, 2)
	go func() { done <- bareLoop(raw, func(i int) { bare[i] = time.Now() }, n) }()
	go func() {
		for range n {
			text, err := c.raw()
			if err != nil {
				done <- err
				return
			}
			now := time.Now()
			i, err := strconv.Atoi(text)
			if err != nil {
				done <- err
				return
			}
			client[i] = now
		}
		done <- nil
	}()

	producer := k.Client(b, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	ticker := time.NewTicker(sparseInterval)
	defer ticker.Stop()
	for i := range n {
		<-ticker.C
		record := &kgo.Record{Topic: sparseTopic, Partition: int32(i % sparsePartitions), Value: strconv.AppendInt(nil, int64(i), 10)}
		require.NoError(b, producer.ProduceSync(b.Context(), record).FirstErr())
		acked[i] = time.Now()
	}
	for range 2 {
		require.NoError(b, <-done)
	}
	skip := min(sparsePartitions, n/2) // The first of each partition warm up.
	since := func(at []time.Time) (took []time.Duration) {
		for i := skip; i < n; i++ {
			took = append(took, at[i].Sub(acked[i]))
		}
		slices.SortFunc(took, cmp.Compare)
		return took
	}
	toClient, toBare := since(client), since(bare)
	for _, q := range []int{50, 99} {
		at := (len(toClient) - 1) * q / 100
		b.ReportMetric(toClient[at].Seconds()*1000, fmt.Sprintf("client-p%d-ms", q))
		b.ReportMetric(toBare[at].Seconds()*1000, fmt.Sprintf("bare-p%d-ms", q))
	}
}

// bareLoop fetches all partitions as kafka-go's own loop would, and tells the numbers in the n records.
func bareLoop(conn net.Conn, tell func(i int), n int) error {
	c := protocol.NewConn(conn, "bare")
	c.SetVersions(map[protocol.ApiKey]int16{protocol.Fetch: 11})
	at := make([]int64, sparsePartitions)
	for n > 0 {
		topic := fetch.RequestTopic{Topic: sparseTopic}
		for p, offset := range at {
			topic.Partitions = append(topic.Partitions, fetch.RequestPartition{
				Partition: int32(p), CurrentLeaderEpoch: -1, FetchOffset: offset, LogStartOffset: -1, PartitionMaxBytes: 1 << 20,
			})
		}
		if err := conn.SetDeadline(time.Now().Add(waitMax)); err != nil {
			return err
		}
		msg, err := c.RoundTrip(&fetch.Request{
			ReplicaID: -1, MaxWaitTime: 500, MinBytes: 1, MaxBytes: 8 << 20, IsolationLevel: 1, SessionEpoch: -1, Topics: []fetch.RequestTopic{topic},
		})
		if err != nil {
			return err
		}
		for _, p := range msg.(*fetch.Response).Topics[0].Partitions {
			for p.RecordSet.Records != nil {
				rec, err := p.RecordSet.Records.ReadRecord()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				text, err := protocol.ReadAll(rec.Value)
				if err != nil {
					return err
				}
				i, err := strconv.Atoi(string(text))
				if err != nil {
					return err
				}
				tell(i)
				at[p.Partition] = rec.Offset + 1
				n--
			}
		}
	}
	return nil
}
