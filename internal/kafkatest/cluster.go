package kafkatest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// WaitMax bounds every wait in this package. It is long enough for a busy machine.
const WaitMax = time.Minute

// The user and password of a SASL cluster, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
const (
	User     = "wsd"
	Password = "open-sesame"
)

// Ability is something that only some clusters can do.
type Ability uint8

// The abilities that a test may need.
const (
	StopOne      Ability = iota // Stop, Kill and Start one broker.
	SegmentFiles                // The broker itself does retention and compaction, segment by segment.
	OAuth                       // Clients of a SASL cluster may log in by OAUTHBEARER, see Token.
)

// brokers is what kfake and Apache Kafka do differently.
type brokers interface {
	addrs() []string
	move(t testing.TB, c *Cluster, topic string, partition, to int32)
	stop(t testing.TB, id int32, kill bool)
	start(t testing.TB, id int32)
	freeze(t testing.TB, id int32, thaw bool)
	down(t testing.TB)
	up(t testing.TB)
	caughtUp(t testing.TB)
	clean()
	lacks(what Ability) string
	sasl(t testing.TB) *Cluster
	tls(t testing.TB) *Cluster
	saslTLS(t testing.TB) *Cluster
}

// Cluster is a Kafka cluster.
type Cluster struct {
	Name    string
	TLS     *tls.Config // What a client needs. Nil means plain text.
	brokers brokers
	listen  func() []string
	clients []kgo.Opt // How Client connects.
	adm     *kadm.Client
}

// open prepares c for the test and its subtests.
func (c *Cluster) open(t testing.TB) *Cluster {
	t.Helper()
	c.adm = kadm.NewClient(c.Client(t))
	return c
}

// topics numbers the names of topics, because one cluster serves many tests.
var topics atomic.Int64

// Addrs returns the addresses of the brokers, including those that are down.
func (c *Cluster) Addrs() []string { return c.listen() }

// Needs skips the test if this cluster lacks an ability.
func (c *Cluster) Needs(t testing.TB, what Ability) {
	t.Helper()
	if reason := c.brokers.lacks(what); reason != "" {
		t.Skip(reason)
	}
}

// SASL returns a cluster whose clients must authenticate, without TLS. It may have topics of its own.
func (c *Cluster) SASL(t testing.TB) *Cluster { t.Helper(); return c.brokers.sasl(t) }

// OverTLS returns a cluster whose clients must use TLS. It may have topics of its own.
func (c *Cluster) OverTLS(t testing.TB) *Cluster { t.Helper(); return c.brokers.tls(t) }

// SASLOverTLS returns a cluster whose clients must authenticate, over TLS. It may have topics of its own.
func (c *Cluster) SASLOverTLS(t testing.TB) *Cluster { t.Helper(); return c.brokers.saslTLS(t) }

// Client returns a client that lets the test choose partitions. It is closed at the end of the test.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base := []kgo.Opt{
		kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RetryTimeout(WaitMax), kgo.DialTimeout(5 * time.Second),
	}
	cl, err := kgo.NewClient(slices.Concat(base, c.clients, opts)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// admin calls do with an administration client and a context with a time limit.
func (c *Cluster) admin(t testing.TB, do func(ctx context.Context, a *kadm.Client)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	do(ctx, c.adm)
}

// Topic creates a topic with a unique name and with each partition on all brokers, and deletes it at the end of the
// test. Settings are keys and values in turn.
func (c *Cluster) Topic(t testing.TB, partitions int32, settings ...string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", topics.Add(1))
	c.Create(t, name, partitions, settings...)
	t.Cleanup(func() {
		// The test may have deleted it.
		c.admin(t, func(ctx context.Context, a *kadm.Client) { _, _ = a.DeleteTopic(ctx, name) })
	})
	return name
}

// Create creates a topic and waits until all its partitions have leaders.
func (c *Cluster) Create(t testing.TB, name string, partitions int32, settings ...string) {
	t.Helper()
	configs := map[string]*string{}
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		_, err := a.CreateTopic(ctx, partitions, -1, configs, name)
		require.NoError(t, err)
	})
	c.await(t, "leaders", func() bool {
		for p := range partitions {
			if c.Leader(t, name, p) < 0 {
				return false
			}
		}
		return true
	})
}

// Delete deletes a topic.
func (c *Cluster) Delete(t testing.TB, name string) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		_, err := a.DeleteTopic(ctx, name)
		require.NoError(t, err)
	})
}

// AddPartitions raises the number of a topic's partitions to total.
func (c *Cluster) AddPartitions(t testing.TB, topic string, total int) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		resp, err := a.UpdatePartitions(ctx, total, topic)
		require.NoError(t, err)
		require.NoError(t, resp.Error())
	})
	c.await(t, "leaders", func() bool { return c.Leader(t, topic, int32(total-1)) >= 0 })
}

// DeleteRecords deletes a partition's records before an offset.
func (c *Cluster) DeleteRecords(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		var offsets kadm.Offsets
		offsets.AddOffset(topic, partition, offset, -1)
		resp, err := a.DeleteRecords(ctx, offsets)
		require.NoError(t, err)
		require.NoError(t, resp.Error())
	})
}

// Configure changes a setting of a topic.
func (c *Cluster) Configure(t testing.TB, topic, key, value string) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		resp, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
		require.NoError(t, err)
		require.NoError(t, resp[0].Err)
	})
}

// Range returns the offset of the first record in a partition and the offset of the next record to come. After an
// election it waits until the leader knows them.
func (c *Cluster) Range(t testing.TB, topic string, partition int32) (first, next int64) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		for {
			starts, err := a.ListStartOffsets(ctx, topic)
			require.NoError(t, err)
			ends, err := a.ListEndOffsets(ctx, topic)
			require.NoError(t, err)
			start, _ := starts.Lookup(topic, partition)
			end, _ := ends.Lookup(topic, partition)
			if err := errors.Join(start.Err, end.Err); err == nil {
				first, next = start.Offset, end.Offset
				return
			} else if ctx.Err() != nil || start.Err != nil && !kerr.IsRetriable(start.Err) ||
				end.Err != nil && !kerr.IsRetriable(end.Err) {
				require.NoError(t, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return first, next
}

// Records reads all records that the partitions of a topic have now, from their beginning.
func (c *Cluster) Records(t testing.TB, topic string, partitions int32) (list []*kgo.Record) {
	t.Helper()
	from := map[int32]kgo.Offset{}
	want := int64(0)
	for p := range partitions {
		from[p] = kgo.NewOffset().AtStart()
		first, next := c.Range(t, topic, p)
		want += next - first
	}
	cl := c.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	for int64(len(list)) < want {
		fetches := cl.PollFetches(ctx)
		require.NoError(t, fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) { list = append(list, r) })
	}
	return list
}

// Leader returns the broker that leads a partition, or -1.
func (c *Cluster) Leader(t testing.TB, topic string, partition int32) (leader int32) {
	t.Helper()
	c.admin(t, func(ctx context.Context, a *kadm.Client) { leader = leaderOf(ctx, a, topic, partition) })
	return leader
}

func leaderOf(ctx context.Context, a *kadm.Client, topic string, partition int32) int32 {
	m, err := a.Metadata(ctx, topic)
	if err != nil {
		return -1
	}
	p, ok := m.Topics[topic].Partitions[partition]
	if !ok || p.Err != nil {
		return -1
	}
	return p.Leader
}

// MoveLeader makes another broker lead a partition, and waits until it does.
func (c *Cluster) MoveLeader(t testing.TB, topic string, partition int32) {
	t.Helper()
	from := c.Leader(t, topic, partition)
	var ids []int32
	c.admin(t, func(ctx context.Context, a *kadm.Client) {
		all, err := a.ListBrokers(ctx)
		require.NoError(t, err)
		ids = all.NodeIDs()
	})
	require.Greater(t, len(ids), 1, "a leader can move only where there is another broker")
	to := ids[(slices.Index(ids, from)+1)%len(ids)]
	c.brokers.move(t, c, topic, partition, to)
	c.await(t, "the leader to move", func() bool { return c.Leader(t, topic, partition) == to })
}

// Stop stops a broker cleanly.
func (c *Cluster) Stop(t testing.TB, id int32) { t.Helper(); c.brokers.stop(t, id, false) }

// Kill kills a broker.
func (c *Cluster) Kill(t testing.TB, id int32) { t.Helper(); c.brokers.stop(t, id, true) }

// Freeze keeps a broker from doing anything, although its process goes on to exist.
func (c *Cluster) Freeze(t testing.TB, id int32) { t.Helper(); c.brokers.freeze(t, id, false) }

// Thaw lets a broker that was frozen go on, and waits until all replicas are in sync.
func (c *Cluster) Thaw(t testing.TB, id int32) {
	t.Helper()
	c.brokers.freeze(t, id, true)
	c.brokers.caughtUp(t)
}

// Start starts a broker that was stopped or killed, and waits until all replicas are in sync.
func (c *Cluster) Start(t testing.TB, id int32) {
	t.Helper()
	c.brokers.start(t, id)
	c.brokers.caughtUp(t)
}

// Down kills all brokers of Apache Kafka, or stops those of kfake.
func (c *Cluster) Down(t testing.TB) { t.Helper(); c.brokers.down(t) }

// Up starts all brokers again.
func (c *Cluster) Up(t testing.TB) {
	t.Helper()
	c.brokers.up(t)
	c.brokers.caughtUp(t)
}

// Clean does retention and compaction now. Apache Kafka needs no call, because it does both many times a second.
func (c *Cluster) Clean() { c.brokers.clean() }

// await polls until a condition holds.
func (c *Cluster) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(WaitMax); !cond(); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%s: gave up waiting for %s", c.Name, what)
	}
}

// Produce writes records. It returns when all in-sync replicas have them.
func Produce(t testing.TB, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	require.NoError(t, cl.ProduceSync(ctx, records...).FirstErr())
}
