package kafkatest

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"wsd/internal/kafkabroker"
)

// apache is Apache Kafka.
type apache struct{ c *kafkabroker.Cluster }

// Apache starts Apache Kafka for the test. It skips the test without WSD_TEST_KAFKA. Settings are the brokers'
// settings: keys and values alternate. If the test fails, the brokers' logs are kept and their last lines are shown.
func Apache(t testing.TB, brokers int, settings ...string) *Cluster {
	t.Helper()
	home, ok := kafkabroker.Home()
	if !ok {
		t.Skipf("%s is not set: make test-kafka runs this test on Apache Kafka", kafkabroker.HomeVariable)
	}
	dir, err := os.MkdirTemp("", "wsd-kafka-") //nolint:usetesting // The logs are kept if the test fails.
	require.NoError(t, err)
	properties := map[string]string{}
	for i := 0; i < len(settings); i += 2 {
		properties[settings[i]] = settings[i+1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*WaitMax)
	defer cancel()
	c, err := kafkabroker.Start(ctx, kafkabroker.Options{
		Home: home, Dir: dir, Brokers: brokers, Users: map[string]string{User: Password}, TLS: true, JWKS: keys(t),
		Properties: properties,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("end Apache Kafka: %v", err)
		}
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
			return
		}
		t.Log(c.Logs(5))
		data, _ := filepath.Glob(filepath.Join(dir, "*", "data")) // The pattern is valid.
		for _, d := range data {
			_ = os.RemoveAll(d) // Only the logs matter. It does no harm if some data is left.
		}
	})
	a := &apache{c}
	return (&Cluster{Name: "Apache Kafka", brokers: a, listen: a.addrs}).open(t)
}

func (a *apache) addrs() []string { return a.c.Addrs() }

func (a *apache) lacks(Ability) string { return "" }

func (a *apache) within(t testing.TB, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	require.NoError(t, do(ctx))
}

// move makes the broker the first of the partition's replicas, and has the first one elected.
func (a *apache) move(t testing.TB, c *Cluster, topic string, partition, to int32) {
	t.Helper()
	c.admin(t, func(ctx context.Context, adm *kadm.Client) {
		m, err := adm.Metadata(ctx, topic)
		require.NoError(t, err)
		replicas := slices.Clone(m.Topics[topic].Partitions[partition].Replicas)
		i := slices.Index(replicas, to)
		require.GreaterOrEqual(t, i, 0, "broker %d has no replica of partition %d", to, partition)
		replicas[0], replicas[i] = replicas[i], replicas[0]
		var req kadm.AlterPartitionAssignmentsReq
		req.Assign(topic, partition, replicas)
		moved, err := adm.AlterPartitionAssignments(ctx, req)
		require.NoError(t, err)
		require.NoError(t, moved.Error())
		var set kadm.TopicsSet
		set.Add(topic, partition)
		elected, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
		require.NoError(t, err)
		require.NoError(t, elected[topic][partition].Err)
	})
}

func (a *apache) stop(t testing.TB, id int32, kill bool) {
	t.Helper()
	if kill {
		require.NoError(t, a.c.Kill(int(id)))
	} else {
		require.NoError(t, a.c.Stop(int(id)))
	}
}

func (a *apache) freeze(t testing.TB, id int32, thaw bool) {
	t.Helper()
	if thaw {
		require.NoError(t, a.c.Thaw(int(id)))
		return
	}
	require.NoError(t, a.c.Freeze(int(id)))
	t.Cleanup(func() { _ = a.c.Thaw(int(id)) }) // If the test fails before.
}

func (a *apache) start(t testing.TB, id int32) {
	t.Helper()
	a.within(t, func(ctx context.Context) error { return a.c.StartBroker(ctx, int(id)) })
}

// down kills all brokers. The last ones could not stop cleanly, because nobody could take over their leaderships.
func (a *apache) down(t testing.TB) { t.Helper(); require.NoError(t, a.c.Close()) }

func (a *apache) up(t testing.TB) {
	t.Helper()
	a.within(t, a.c.StartAll)
}

func (a *apache) caughtUp(t testing.TB) { t.Helper(); a.within(t, a.c.CaughtUp) }

func (a *apache) clean() {}

func (a *apache) sasl(t testing.TB) *Cluster {
	t.Helper()
	return (&Cluster{
		Name: "Apache Kafka", brokers: a, listen: a.c.SASLAddrs,
		clients: []kgo.Opt{kgo.SASL(plain.Auth{User: User, Pass: Password}.AsMechanism())},
	}).open(t)
}

func (a *apache) tls(t testing.TB) *Cluster {
	t.Helper()
	client := &tls.Config{RootCAs: a.c.RootCAs(), MinVersion: tls.VersionTLS12}
	return (&Cluster{Name: "Apache Kafka", brokers: a, listen: a.c.TLSAddrs, TLS: client,
		clients: []kgo.Opt{kgo.DialTLSConfig(client)}}).open(t)
}

func (a *apache) saslTLS(t testing.TB) *Cluster {
	t.Helper()
	client := &tls.Config{RootCAs: a.c.RootCAs(), MinVersion: tls.VersionTLS12}
	return (&Cluster{
		Name: "Apache Kafka", brokers: a, listen: a.c.SASLTLSAddrs, TLS: client,
		clients: []kgo.Opt{
			kgo.DialTLSConfig(client), kgo.SASL(plain.Auth{User: User, Pass: Password}.AsMechanism()),
		},
	}).open(t)
}
