package commands

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"wsd/internal/kafkatest"
	"wsd/internal/produce"
)

// TestKfake runs the suite on kfake.
func TestKfake(t *testing.T) { suite(t, kafkatest.Kfake(t, 3)) }

// TestApacheKafka runs it on Apache Kafka (make test-kafka).
func TestApacheKafka(t *testing.T) { suite(t, kafkatest.Apache(t, 3)) }

func suite(t *testing.T, k *kafkatest.Cluster) {
	for name, run := range map[string]func(*testing.T, *kafkatest.Cluster){
		"nodes": testNodes, "hostile": testHostile, "missing": testMissing, "create": testCreate, "away": testAway, "partitions": testPartitions, "clocks": testClocks,
		"old": testOld, "login": testLogin, "leaderless": testLeaderless,
	} {
		t.Run(name, func(t *testing.T) { run(t, k) })
	}
}

func producerOptions(k *kafkatest.Cluster) produce.Options {
	return produce.Options{
		Brokers: k.Addrs(), ClientID: "test", DialTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second,
		Timeout: kafkatest.WaitMax, RecordsMax: 10_000, BytesMax: 64 << 20, RecordBytesMax: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// node is a wsd as far as commands go.
type node struct {
	t testing.TB
	*Topic

	mu      sync.Mutex
	applied []string // Users of the commands.
}

func newNode(t testing.TB, k *kafkatest.Cluster, topic string, change func(*Options)) *node {
	t.Helper()
	po := producerOptions(k)
	p, err := produce.Open(po)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), kafkatest.WaitMax)
		defer cancel()
		require.NoError(t, p.Close(ctx))
	})
	n := &node{t: t}
	o := Options{
		Topic: topic, Origin: "node", Connect: po.Connection(), Producer: p, AgeMax: time.Hour, LateAfter: kafkatest.WaitMax,
		Logger: slog.New(slog.DiscardHandler),
		Apply: func(_ context.Context, c *Command) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.applied = append(n.applied, c.User)
			return true
		},
	}
	if change != nil {
		change(&o)
	}
	n.Topic, err = New(o)
	require.NoError(t, err)
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// has waits until the node has applied the commands for these users, and no others.
func (n *node) has(users ...string) {
	n.t.Helper()
	var got []string
	for deadline := time.Now().Add(kafkatest.WaitMax); ; time.Sleep(time.Millisecond) {
		n.mu.Lock()
		got = slices.Clone(n.applied)
		n.mu.Unlock()
		if len(got) >= len(users) || time.Now().After(deadline) {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(users)
	require.Equal(n.t, users, got)
}

// send sends a command, and returns when it is acknowledged.
func (n *node) send(user string) {
	n.t.Helper()
	done := make(chan error, 1)
	n.Send(&Command{Do: Disconnect, User: user}, func(err error) { done <- err })
	select {
	case err := <-done:
		require.NoError(n.t, err)
	case <-time.After(2 * kafkatest.WaitMax):
		require.FailNow(n.t, "the command was not answered")
	}
}

// eventually waits for a state.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(kafkatest.WaitMax); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "not in time: "+what)
		}
	}
}

// Every node applies every command once, and one that starts later none of those before.
func testNodes(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 3)
	nodes := []*node{newNode(t, k, topic, nil), newNode(t, k, topic, nil)}
	var users []string
	for i := range 50 {
		user := fmt.Sprint("user", i)
		users = append(users, user)
		nodes[i%2].send(user)
	}
	for _, n := range nodes {
		n.has(users...)
		require.EqualValues(t, 50, n.Stats().Applied.Load())
		require.EqualValues(t, 25, n.Stats().Sent.Load())
		require.Empty(t, n.Late())
	}
}

// Nothing in the topic but commands, each once, does anything.
func testHostile(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	n := newNode(t, k, topic, nil)
	n.send("first")
	cl := k.Client(t)
	value := func(user string) []byte {
		c := &Command{ID: NewID(), Do: Disconnect, User: user}
		b, err := c.Append(nil)
		require.NoError(t, err)
		return b
	}
	twice := value("twice")
	for _, r := range []*kgo.Record{
		{Value: nil}, {Value: []byte("{")}, {Value: []byte(`{"v":1}`)}, {Value: []byte(`{"v":7}`)},
		{Value: twice}, {Value: twice},
		{Value: value("last")},
	} {
		r.Topic = topic
		kafkatest.Produce(t, cl, r)
	}
	n.has("first", "twice", "last")
	s := n.Stats()
	require.Equal(t, []uint64{3, 3, 1, 1, 0},
		[]uint64{s.Applied.Load(), s.Malformed.Load(), s.Unknown.Load(), s.Again.Load(), s.Old.Load()})
}

// Without the topic, commands are late, and not sent. When it is there, it is read.
func testMissing(t *testing.T, k *kafkatest.Cluster) {
	topic := strings.ReplaceAll(t.Name(), "/", "-")
	n := newNode(t, k, topic, nil)
	eventually(t, "it says that commands are late", func() bool { return n.late(time.Millisecond) != "" })
	require.Contains(t, n.late(0), topic)
	k.Create(t, topic, 1)
	eventually(t, "the topic is read", func() bool { return n.Late() == "" })
	n.send("a")
	n.has("a")
}

// Partitions that the topic gets later are read from their beginning, and so is a topic that is created again.
func testPartitions(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	n := newNode(t, k, topic, nil)
	n.send("a")
	n.has("a")
	k.AddPartitions(t, topic, 3)
	cl := k.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	write := func(user string, partition int32) {
		c := &Command{ID: NewID(), Do: Disconnect, User: user}
		value, err := c.Append(nil)
		require.NoError(t, err)
		kafkatest.Produce(t, cl, &kgo.Record{Topic: topic, Partition: partition, Value: value})
	}
	write("b", 2)
	n.has("a", "b")
	k.Delete(t, topic)
	k.Create(t, topic, 1)
	cl = k.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	write("c", 0)
	n.has("a", "b", "c")
}

func testCreate(t *testing.T, k *kafkatest.Cluster) {
	topic := strings.ReplaceAll(t.Name(), "/", "-")
	po := producerOptions(k)
	p := Plan{Topic: topic, Partitions: 2, Replicas: 3, MinISR: 2, Retention: time.Hour}
	create := func(dry bool) Outcome {
		o, err := Create(t.Context(), po.Connection(), p, dry)
		require.NoError(t, err)
		return o
	}
	o := create(true)
	require.False(t, o.Created || o.Exists)
	require.Equal(t, "would create topic "+topic+" with 2 partitions and 3 replicas", o.Lines[0])
	require.Contains(t, o.Lines, "  retention.ms=3600000")
	require.Contains(t, o.Lines, "  min.insync.replicas=2")
	o = create(false)
	require.True(t, o.Created)
	o = create(false)
	require.True(t, o.Exists)
	require.False(t, o.Created || o.Differs, "%v", o.Lines)
	p.Retention = 2 * time.Hour
	o = create(false)
	require.True(t, o.Differs)
	require.Contains(t, o.Lines, "  retention.ms is 3600000, wsd would set 7200000")
	n := newNode(t, k, topic, nil)
	n.send("a")
	n.has("a")
	p.Topic, p.Replicas = "other-"+topic, 9
	_, err := Create(t.Context(), po.Connection(), p, true)
	require.ErrorContains(t, err, "create topic other-")
}

// A broker may not have heard of a topic that another has made.
func TestCreateUnknownYet(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	connect := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	p := Plan{Topic: "commands", Partitions: 1, Replicas: 1, Retention: time.Hour}
	o, err := Create(t.Context(), connect, p, false)
	require.NoError(t, err)
	require.True(t, o.Created)
	unknown := kerr.UnknownTopicOrPartition.Code
	// The first look and the one after the refusal find nothing.
	looks := 0
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.MetadataRequest)
		if len(r.Topics) == 0 || looks == 2 {
			cluster.KeepControl()
			return nil, nil, false
		}
		looks++
		cluster.KeepControl()
		resp := r.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range r.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic, topic.ErrorCode = asked.Topic, unknown
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	described := false
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if described {
			return nil, nil, false
		}
		described = true
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, unknown
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
	o, err = Create(t.Context(), connect, p, false)
	require.NoError(t, err)
	require.Equal(t, 2, looks)
	require.True(t, described)
	require.True(t, o.Exists)
	require.False(t, o.Created || o.Differs, "%v", o.Lines)
}

// While Kafka is away, commands are late. What is sent meanwhile comes when Kafka is back, to every node, once.
func testAway(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	one, two := newNode(t, k, topic, nil), newNode(t, k, topic, nil)
	one.send("a")
	two.has("a")
	k.Down(t)
	eventually(t, "it says that commands are late", func() bool { return one.late(time.Second) != "" })
	done := make(chan error, 1)
	one.Send(&Command{Do: Disconnect, User: "b"}, func(err error) { done <- err })
	k.Up(t)
	require.NoError(t, <-done)
	one.has("a", "b")
	two.has("a", "b")
	eventually(t, "commands are not late", func() bool { return one.Late() == "" })
}

// BenchmarkCommand measures what a command costs a node: from a record's value to Apply, without Kafka's client; and
// what its record takes.
func BenchmarkCommand(b *testing.B) {
	t := &Topic{o: Options{AgeMax: time.Hour, Apply: func(context.Context, *Command) bool { return true }, Logger: slog.New(slog.DiscardHandler)}}
	c := &Command{Origin: "wsd-1.example.com:8000", Do: Disconnect, User: "user-12345", Code: 4000, Reason: "signed out"}
	values := make([][]byte, 4096)
	for i := range values {
		c.ID = NewID()
		values[i], _ = c.Append(nil)
	}
	b.ReportMetric(float64(len(values[0])), "record_bytes")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(values) == 0 {
			t.seen = window{} // Ids are new.
		}
		t.take(b.Context(), &kgo.Record{Value: values[i%len(values)], Timestamp: time.Now()})
	}
}

// BenchmarkCommandsFromKafka measures the same with Kafka's client: commands that this process has written, until all
// are applied. With kfake the server is in the same process, so that it counts too. Apache Kafka, which is used with
// WSD_TEST_KAFKA (make test-kafka sets it), is not.
func BenchmarkCommandsFromKafka(b *testing.B) {
	for name, start := range map[string]func(b *testing.B) *kafkatest.Cluster{
		"kfake":  func(b *testing.B) *kafkatest.Cluster { return kafkatest.Kfake(b, 1) },
		"apache": func(b *testing.B) *kafkatest.Cluster { return kafkatest.Apache(b, 1) },
	} {
		b.Run(name, func(b *testing.B) { benchmarkCommandsFromKafka(b, start(b)) })
	}
}

func benchmarkCommandsFromKafka(b *testing.B, k *kafkatest.Cluster) {
	topic := k.Topic(b, 1)
	n := newNode(b, k, topic, nil)
	n.send("first")
	cpu := cpuTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range b.N {
		all.Add(1)
		n.Send(&Command{Do: Disconnect, User: "user-12345"}, func(error) { all.Done() })
		if i%1000 == 999 {
			all.Wait()
		}
	}
	all.Wait()
	require.Zero(b, n.Stats().SendFailed.Load())
	eventually(b, "all are applied", func() bool { return n.Stats().Applied.Load() >= uint64(b.N)+1 })
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu_µs/command")
}

// cpuTime is the CPU time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
