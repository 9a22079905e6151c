package server

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/stats"
	"wsd/internal/testutil"
)

// counts returns what wsd counts of the latency of a topic's deliveries.
func (r *rig) counts(topic string) (c stats.DeliveryCounts) {
	for _, t := range r.server.source.Stats().Topics() {
		if t.Name == topic {
			c.Add(t.Deliveries)
		}
	}
	return c
}

// bucketOf returns the index of the bucket for seconds.
func bucketOf(seconds float64) (i int) {
	bounds := stats.LatencyBounds()
	for i < len(bounds) && seconds > bounds[i] {
		i++
	}
	return i
}

// quantileBucket returns the index of the bucket that holds quantile q of what was counted after before.
func quantileBucket(before, after *stats.LatencyCounts, q float64) (i int) {
	all := float64(after.Count - before.Count)
	for i < len(after.Bounds) && float64(after.Cumulative[i]-before.Cumulative[i]) < q*all {
		i++
	}
	return i
}

// What wsd counts agrees with what the load generator has measured: each delivery once, and quantiles within a bucket.
// The load generator counts from when a record is due until it has read it, and says how late it was itself, with either.
// Make test-alerts runs it.
func TestApacheKafkaLatency(t *testing.T) {
	k := kafkatest.Apache(t, 1)
	program := filepath.Join(t.TempDir(), "loadtest")
	out, err := exec.Command("go", "build", "-o", program, "../../loadtest").CombinedOutput()
	require.NoError(t, err, "%s", out)
	topic, appended := k.Topic(t, 1), k.Topic(t, 1, "message.timestamp.type", "LogAppendTime")
	r := &rig{t: t, log: &testutil.Buffer{}}
	r.start(configure(t, map[string]any{"kafka.brokers": k.Addrs(), "kafka.topics": []string{topic, appended}, "shards": "2"}))
	r.ready()
	defer r.timestamps(k, topic, appended)
	for _, load := range []struct{ clients, rate, batch int }{{200, 50, 1}, {1000, 10, 1}, {300, 50, 20}} {
		r.eventually("those of the last load have gone", func() bool {
			return r.metric(`wsd_connections{shard="0"}`)+r.metric(`wsd_connections{shard="1"}`) == 0
		})
		before := r.counts(topic)
		out, err := exec.Command(program, "fanout", "--clients", strconv.Itoa(load.clients), "--rate", strconv.Itoa(load.rate),
			"--batch", strconv.Itoa(load.batch), "--duration", "5s", "--topic", topic, "--url", "ws://"+r.server.Addresses()[0].String(),
			"--kafka", strings.Join(k.Addrs(), ","), "--admin", "http://"+r.server.AdminAddress(), "--json").Output()
		type micros struct {
			Count int64
			P50   float64 `json:"p50_us"`
			P90   float64 `json:"p90_us"`
			P99   float64 `json:"p99_us"`
		}
		var measured struct {
			Summary  string
			Latency  micros
			Loadtest struct{ Lag micros }
			Records  struct {
				Late float64 `json:"produce_late_max_ms"`
			}
		}
		require.NoError(t, json.Unmarshal(out, &measured), "%v %s", err, out)
		require.NoError(t, err, measured.Summary)
		var after stats.DeliveryCounts
		r.eventually("all are counted", func() bool {
			after = r.counts(topic)
			return after.Latency.Count-before.Latency.Count >= uint64(measured.Latency.Count)
		})
		require.EqualValues(t, measured.Latency.Count, after.Latency.Count-before.Latency.Count, "each delivery once")
		require.Equal(t, after.Latency.Count, after.InWsd.Count)
		l, lag := measured.Latency, measured.Loadtest.Lag
		for _, q := range []struct{ q, latency, lag float64 }{{0.5, l.P50, lag.P50}, {0.9, l.P90, lag.P90}, {0.99, l.P99, lag.P99}} {
			got, most := quantileBucket(&before.Latency, &after.Latency, q.q), bucketOf(q.latency/1e6)
			least := bucketOf((q.latency - max(0, q.lag) - 1000*max(0, measured.Records.Late)) / 1e6)
			t.Logf("%v: %.0f %%: the clients measured %.1f ms, bucket %d (%d without its own delays); wsd counted bucket %d, and %d in wsd",
				load, 100*q.q, q.latency/1000, most, least, got, quantileBucket(&before.InWsd, &after.InWsd, q.q))
			require.LessOrEqual(t, got, most+1)
			require.GreaterOrEqual(t, got, least-1)
		}
	}
	r.timestamps(k, topic, appended)
}

// timestamps checks that the timestamps are the producer's or the broker's, as the topic has it, and that wsd says which.
func (r *rig) timestamps(k *kafkatest.Cluster, created, appended string) {
	r.t.Helper()
	old, producer := time.Now().Add(-time.Hour), k.Client(r.t)
	for topic, clock := range map[string]string{created: "create", appended: "append"} {
		c, before := r.dial("/ws?channel="+topic), r.counts(topic)
		record := &kgo.Record{Topic: topic, Value: []byte("v"), Timestamp: old}
		require.NoError(r.t, producer.ProduceSync(r.t.Context(), record).FirstErr())
		require.Equal(r.t, "v", c.message())
		// Clients of the load generator that wsd does not know to have gone may get it as well.
		r.eventually("counted", func() bool { return r.counts(topic).Latency.Count > before.Latency.Count })
		after, last := r.counts(topic), len(before.Latency.Bounds)-1
		recent := after.Latency.Cumulative[last] - before.Latency.Cumulative[last]
		require.Equal(r.t, clock == "append", recent > 0, "%s: a producer's timestamp is an hour old", clock)
		require.Equal(r.t, 1, r.metric(`wsd_kafka_timestamps{clock="`+clock+`",topic="`+topic+`"}`))
	}
}
