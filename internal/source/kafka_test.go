package source

import (
	"crypto/tls"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// Every test of the suite runs on kfake and on Apache Kafka. A cluster serves them all, so each has topics of its own
// and leaves all brokers running.
var suite = []struct {
	name string
	test func(t *testing.T, k *kafkatest.Cluster)
}{
	{"every partition in every compression", everyCompression},
	{"batch larger than a fetch", batchLargerThanAFetch},
	{"start at the end", startAtTheEnd},
	{"start at a time", startAtATime},
	{"transactions", transactions},
	{"open transaction holds back", openTransaction},
	{"uncommitted records", uncommitted},
	{"compaction", compaction},
	{"records deleted before they are read", recordsDeleted},
	{"retention overtakes", retentionOvertakes},
	{"missing topic is picked up", missingTopic},
	{"new partitions", newPartitions},
	{"topic created again with a shorter log", func(t *testing.T, k *kafkatest.Cluster) { recreated(t, k, 50) }},
	{"topic created again with a longer log", func(t *testing.T, k *kafkatest.Cluster) { recreated(t, k, 150) }},
	{"topic deleted and later created again", deletedThenRecreated},
	{"positions in a group", groupPositions},
	{"sasl", saslSuite},
	{"sessions", sessionsSuite},
	{"tls", tlsSuite},
	{"leader moves", leaderMoves},
	{"broker stopped", func(t *testing.T, k *kafkatest.Cluster) { brokerEnds(t, k, k.Stop) }},
	{"broker killed", func(t *testing.T, k *kafkatest.Cluster) { brokerEnds(t, k, k.Kill) }},
	{"broker frozen", brokerFrozen},
	{"nearest replica", nearestReplica},
	{"everything at once", everythingAtOnce},
	{"all brokers away", allBrokersAway},
}

func TestKfake(t *testing.T) { runSuite(t, kafkatest.Kfake(t, 3)) }

func TestApacheKafka(t *testing.T) { runSuite(t, kafkatest.Apache(t, 3)) }

func runSuite(t *testing.T, k *kafkatest.Cluster) {
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) { s.test(t, k) })
	}
}

// suiteSessionMin is Options.sessionMin of every test of the suite.
var suiteSessionMin int

// reading returns options that read topics from their beginning, each partition to the channel TOPIC/PARTITION.
func reading(k *kafkatest.Cluster, topics ...string) Options {
	return Options{
		Brokers: k.Addrs(), Topics: topics, TLS: always(k.TLS), Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{topic}/{partition}"}},
		sessionMin: suiteSessionMin,
	}
}

// always returns a function that returns c, or nil for plain text.
func always(c *tls.Config) func() *tls.Config {
	if c == nil {
		return nil
	}
	return func() *tls.Config { return c }
}

// channels names those that partitions of a topic have by reading.
func channels(topic string, partitions int) (names []string) {
	for p := range partitions {
		names = append(names, topic+"/"+strconv.Itoa(p))
	}
	return names
}

// wantLog waits for the values of a log that has no holes, and wants them with their offsets.
func (r *rig) wantLog(t testing.TB, channel string, values []string) {
	t.Helper()
	r.wantValues(t, channel, values)
	for i, rec := range r.records(channel) {
		require.EqualValues(t, i+1, rec.Offset, "channel %s", channel)
	}
}

// wantIntact wants that nothing of any topic was lost or is said to be.
func (r *rig) wantIntact(t testing.TB) {
	t.Helper()
	for _, ts := range r.Stats().Topics() {
		require.Zero(t, lost(ts)+ts.Gaps.Load()+ts.Compacted.Load()+ts.Truncations.Load()+ts.Breaks.Load()+ts.Recreations.Load(), "topic %s\n%s", ts.Name, r.logs)
	}
	require.Zero(t, r.Stats().Panics.Load())
}

// waitCurrent waits until every topic is read to its end.
func (r *rig) waitCurrent(t testing.TB) {
	t.Helper()
	eventually(t, func() bool {
		for _, ts := range r.Status().Topics {
			if !ts.Current {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("not current: %+v", r.Status()) })
}
