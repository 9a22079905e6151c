package produce

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/testutil"
)

// TestKfake runs the suite on kfake.
func TestKfake(t *testing.T) { suite(t, kafkatest.Kfake(t, 3)) }

// TestApacheKafka runs it on Apache Kafka (make test-kafka).
func TestApacheKafka(t *testing.T) { suite(t, kafkatest.Apache(t, 3)) }

func suite(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, *kafkatest.Cluster){
		"records": testRecords, "partitions": testPartitions, "bounds": testBounds, "outage": testOutage,
		"refused": testRefused, "sasl": testSASL, "tls": testTLS, "sasl over tls": testSASLOverTLS, "leader": testLeader,
		"small batches": testSmallBatches,
	} {
		t.Run(name, func(t *testing.T) { run(t, k) })
	}
}

func options(k *kafkatest.Cluster) Options {
	return Options{
		Brokers: k.Addrs(), ClientID: "test", DialTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second,
		Timeout: kafkatest.WaitMax, RecordsMax: 10_000, BytesMax: 64 << 20, RecordBytesMax: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, o Options) *Producer {
	t.Helper()
	p, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), kafkatest.WaitMax)
		defer cancel()
		_ = p.Close(ctx) // The test may have closed it.
	})
	return p
}

// answers collects callbacks, by the name of their record.
type answers struct {
	mu   sync.Mutex
	acks map[string]Ack
	errs map[string]error
	all  sync.WaitGroup
}

func (a *answers) expect(t *testing.T, name string) func(Ack, error) {
	t.Helper()
	a.all.Add(1)
	return func(ack Ack, err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.acks == nil {
			a.acks, a.errs = map[string]Ack{}, map[string]error{}
		}
		if _, twice := a.acks[name]; twice {
			t.Errorf("%s is answered twice", name)
			return
		}
		a.acks[name], a.errs[name] = ack, err
		a.all.Done()
	}
}

func (a *answers) wait(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() { a.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * kafkatest.WaitMax):
		require.FailNow(t, "not all records are answered")
	}
}

func testRecords(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	topic := k.Topic(t, 2)
	p := open(t, options(k))
	var a answers
	const records = 500
	for i := range records {
		name := fmt.Sprint(i)
		require.NoError(t, p.Produce(Record{Topic: topic, Partition: int32(i % 2), Key: []byte("k" + name),
			Value: []byte(name), Headers: []Header{{"wsd-user", []byte("alice")}}}, a.expect(t, name)))
	}
	a.wait(t)
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, uint64(records), p.Stats().Acked.Load())
	require.Zero(t, p.Stats().Records.Load())
	require.Zero(t, p.Stats().Bytes.Load())
	next := map[int32]int{0: 0, 1: 1}
	list := k.Records(t, topic, 2)
	require.Len(t, list, records)
	for _, r := range list {
		name := string(r.Value)
		require.Equal(t, fmt.Sprint(next[r.Partition]), name, "the order of a partition")
		next[r.Partition] += 2
		require.Equal(t, "k"+name, string(r.Key))
		require.Equal(t, []kgo.RecordHeader{{Key: "wsd-user", Value: []byte("alice")}}, r.Headers)
		require.NoError(t, a.errs[name])
		require.Equal(t, Ack{r.Partition, r.Offset}, a.acks[name])
	}
	require.ErrorIs(t, p.Produce(Record{Topic: topic}, nil), errClosed)
}

func testPartitions(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	topic := k.Topic(t, 4)
	o := options(k)
	o.Partition = func(key []byte, n int32) int32 { return int32(len(key)) % n }
	chosen, murmur := open(t, o), open(t, options(k))
	var a answers
	for i := range 8 {
		key := []byte("kkkkkkkk"[:i+1])
		require.NoError(t, chosen.Produce(Record{Topic: topic, Partition: AnyPartition, Key: key},
			a.expect(t, string(key))))
	}
	require.NoError(t, murmur.Produce(Record{Topic: topic, Partition: AnyPartition, Key: []byte("21")},
		a.expect(t, "murmur2")))
	require.NoError(t, murmur.Produce(Record{Topic: topic, Partition: AnyPartition}, a.expect(t, "no key")))
	require.NoError(t, murmur.Produce(Record{Topic: topic, Partition: 4}, a.expect(t, "bad partition")))
	a.wait(t)
	for i := range 8 {
		require.Equal(t, int32(i+1)%4, a.acks["kkkkkkkk"[:i+1]].Partition)
	}
	want := kgo.StickyKeyPartitioner(nil).ForTopic(topic).Partition(&kgo.Record{Key: []byte("21")}, 4)
	require.Equal(t, int32(want), a.acks["murmur2"].Partition)
	require.NoError(t, a.errs["no key"])
	requireKind(t, UnknownTopic, a.errs["bad partition"])
	for i := range 20 { // Without a key and a partition, records keep their order by name.
		require.NoError(t, murmur.Produce(Record{Partition: AnyPartition, Order: []byte("21"),
			Prepare: func(r *Record) error { r.Topic = topic; return nil }}, a.expect(t, fmt.Sprint("order", i))))
	}
	require.NoError(t, murmur.Produce(Record{Prepare: func(*Record) error { return io.EOF }}, a.expect(t, "refused")))
	a.wait(t)
	for i := range 20 {
		require.NoError(t, a.errs[fmt.Sprint("order", i)])
		require.Equal(t, int32(want), a.acks[fmt.Sprint("order", i)].Partition)
	}
	requireKind(t, Refused, a.errs["refused"])
	require.ErrorIs(t, a.errs["refused"], io.EOF)
}

func requireKind(t *testing.T, kind Kind, err error) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, kind.String(), e.Kind.String(), "%v", err)
}

// TestBounds: what is under way is bounded, without a broker that could take anything, and ends at the deadline.
func TestBounds(t *testing.T) {
	k := kafkatest.Kfake(t, 1)
	topic := k.Topic(t, 1)
	k.Down(t)
	defer k.Up(t)
	o := options(k)
	o.Timeout, o.RecordsMax = 300*time.Millisecond, 3
	p := open(t, o)
	var a answers
	for i := range 3 {
		require.NoError(t, p.Produce(Record{Topic: topic}, a.expect(t, fmt.Sprint(i))))
	}
	requireKind(t, Full, p.Produce(Record{Topic: topic}, nil))
	a.wait(t)
	for i := range 3 {
		requireKind(t, Timeout, a.errs[fmt.Sprint(i)])
	}
	require.Equal(t, uint64(3), p.Stats().Failed[Timeout].Load())
	require.Equal(t, uint64(1), p.Stats().Failed[Full].Load())
}

// TestBoundsOfBytes: the bytes under way are bounded, and those of one record.
func TestBoundsOfBytes(t *testing.T) { testBounds(t, kafkatest.Kfake(t, 1)) }

func testBounds(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	topic := k.Topic(t, 1)
	o := options(k)
	o.RecordBytesMax, o.BytesMax = 200, 2*recordOverhead
	o.Partition = func([]byte, int32) int32 { return 0 }
	p := open(t, o)
	requireKind(t, TooLarge, p.Produce(Record{Topic: topic, Value: make([]byte, 201)}, nil))
	var a answers
	require.NoError(t, p.Produce(Record{Topic: topic, Value: make([]byte, 100)}, a.expect(t, "first")))
	requireKind(t, Full, p.Produce(Record{Topic: topic, Value: make([]byte, 50), Headers: []Header{{"x",
		make([]byte, 40)}}, Key: make([]byte, 9)}, nil))
	a.wait(t)
	require.NoError(t, a.errs["first"])
}

// testOutage: what is answered without an error is in the log once, although Kafka is away in between; what waits is
// answered by its deadline, and writing goes on by itself.
func testOutage(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	topic := k.Topic(t, 1)
	o := options(k)
	o.Timeout, o.RequestTimeout = 2*time.Second, time.Second
	p := open(t, o)
	var a answers
	sent := 0
	send := func() {
		name := fmt.Sprint(sent)
		sent++
		require.NoError(t, p.Produce(Record{Topic: topic, Value: []byte(name)}, a.expect(t, name)))
	}
	for range 100 {
		send()
	}
	k.Down(t)
	for range 100 {
		send()
	}
	a.wait(t)
	require.Error(t, a.errs[fmt.Sprint(sent-1)])
	k.Up(t)
	for deadline := time.Now().Add(kafkatest.WaitMax); ; {
		send()
		a.wait(t)
		if a.errs[fmt.Sprint(sent-1)] == nil {
			break
		}
		require.True(t, time.Now().Before(deadline), "writing does not go on: %v", a.errs[fmt.Sprint(sent-1)])
	}
	require.NoError(t, p.Close(t.Context()))
	count := map[string]int{}
	for _, r := range k.Records(t, topic, 1) {
		count[string(r.Value)]++
	}
	for name, err := range a.errs {
		if err == nil {
			require.Equal(t, 1, count[name], "record %s was answered", name)
		} else {
			require.LessOrEqual(t, count[name], 1, "record %s was answered with %v", name, err)
		}
	}
}

func testLeader(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	topic := k.Topic(t, 1)
	p := open(t, options(k))
	var a answers
	for round := range 3 {
		for i := range 50 {
			name := fmt.Sprintf("%d.%d", round, i)
			require.NoError(t, p.Produce(Record{Topic: topic, Value: []byte(name)}, a.expect(t, name)))
		}
		k.MoveLeader(t, topic, 0)
	}
	a.wait(t)
	for name, err := range a.errs {
		require.NoError(t, err, name)
	}
	require.Len(t, k.Records(t, topic, 1), 150)
}

func testRefused(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	p := open(t, options(k))
	var a answers
	require.NoError(t, p.Produce(Record{Topic: "no-such-topic", Partition: AnyPartition}, a.expect(t, "topic")))
	require.NoError(t, p.Produce(Record{Topic: "not a topic", Partition: AnyPartition}, a.expect(t, "name")))
	a.wait(t)
	requireKind(t, UnknownTopic, a.errs["topic"])
	requireKind(t, UnknownTopic, a.errs["name"])
}

// testSmallBatches: records that come together are written to a topic that takes no more in a batch than the largest
// record needs.
func testSmallBatches(t *testing.T, k *kafkatest.Cluster) {
	t.Helper()
	o := options(k)
	o.RecordBytesMax = 50_000
	topic := k.Topic(t, 1, "max.message.bytes", fmt.Sprint(o.RecordBytesMax+batchOverhead))
	p := open(t, o)
	var a answers
	for i := range 100 {
		value := make([]byte, 10_000)
		_, _ = rand.Read(value) // The client could compress others.
		require.NoError(t, p.Produce(Record{Topic: topic, Value: value}, a.expect(t, fmt.Sprint(i))))
	}
	a.wait(t)
	for i := range 100 {
		require.NoError(t, a.errs[fmt.Sprint(i)])
		require.EqualValues(t, i, a.acks[fmt.Sprint(i)].Offset, "in order")
	}
}

func testSASL(t *testing.T, plainText *kafkatest.Cluster) {
	t.Helper()
	k := plainText.SASL(t)
	topic := k.Topic(t, 1)
	m, err := scram.Mechanism(scram.SHA512, kafkatest.User, kafkatest.Password)
	require.NoError(t, err)
	o := options(k)
	o.SASL = m
	byScram := open(t, o)
	o.SASL = plain.Mechanism{Username: kafkatest.User, Password: kafkatest.Password}
	byPlain := open(t, o)
	o.SASL, o.Timeout = plain.Mechanism{Username: kafkatest.User, Password: "wrong"}, 2*time.Second
	wrong := open(t, o)
	var a answers
	require.NoError(t, byScram.Produce(Record{Topic: topic}, a.expect(t, "scram")))
	require.NoError(t, byPlain.Produce(Record{Topic: topic}, a.expect(t, "plain")))
	require.NoError(t, wrong.Produce(Record{Topic: topic}, a.expect(t, "wrong")))
	a.wait(t)
	require.NoError(t, a.errs["scram"])
	require.NoError(t, a.errs["plain"])
	require.Error(t, a.errs["wrong"])
}

func testTLS(t *testing.T, plainText *kafkatest.Cluster) {
	t.Helper()
	k := plainText.OverTLS(t)
	topic := k.Topic(t, 1)
	o := options(k)
	o.TLS = func() *tls.Config { return k.TLS }
	p := open(t, o)
	var a answers
	require.NoError(t, p.Produce(Record{Topic: topic}, a.expect(t, "tls")))
	a.wait(t)
	require.NoError(t, a.errs["tls"])
}

// testSASLOverTLS: a login works over TLS, also when it has to be renewed; a wrong one, and one without TLS, is refused.
func testSASLOverTLS(t *testing.T, plainText *kafkatest.Cluster) {
	t.Helper()
	k := plainText.SASLOverTLS(t)
	topic := k.Topic(t, 1)
	o := options(k)
	o.TLS = func() *tls.Config { return k.TLS }
	var a answers
	m, err := scram.Mechanism(scram.SHA512, kafkatest.User, kafkatest.Password)
	require.NoError(t, err)
	o.SASL = m
	byScram := open(t, o)
	o.SASL = plain.Mechanism{Username: kafkatest.User, Password: kafkatest.Password}
	byPlain := open(t, o)
	require.NoError(t, byPlain.Produce(Record{Topic: topic}, a.expect(t, "plain")))
	began := time.Now()
	for i := 0; time.Since(began) < 3*time.Second; i++ { // A login by SCRAM-SHA-512 lasts for two seconds.
		require.NoError(t, byScram.Produce(Record{Topic: topic}, a.expect(t, fmt.Sprint("scram", i))))
		a.wait(t)
		require.NoError(t, a.errs[fmt.Sprint("scram", i)])
		time.Sleep(50 * time.Millisecond)
	}
	require.NoError(t, a.errs["plain"])

	o.Timeout = 2 * time.Second
	o.SASL = plain.Mechanism{Username: kafkatest.User, Password: "wrong"}
	var log testutil.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	wrong := open(t, o)
	o.SASL, o.Logger = nil, slog.New(slog.DiscardHandler)
	stranger := open(t, o)
	o.SASL, o.TLS = m, nil
	bare := open(t, o)
	for name, p := range map[string]*Producer{"wrong": wrong, "no login": stranger, "no TLS": bare} {
		require.NoError(t, p.Produce(Record{Topic: topic}, a.expect(t, name)))
	}
	a.wait(t)
	for _, name := range []string{"wrong", "no login", "no TLS"} {
		requireKind(t, Timeout, a.errs[name])
	}
	if k.Name != "kfake" { // Which just ends the connection.
		require.Contains(t, log.String(), "SASL_AUTHENTICATION_FAILED")
	}
}

// TestGivenUpAtItsDeadline: the client may give a record up just when its deadline passes. Whoever waits for the outcome
// of what was answered with a timeout then gets it as well.
func TestGivenUpAtItsDeadline(t *testing.T) {
	k := kafkatest.Kfake(t, 1)
	for _, settlesFirst := range []bool{true, false} {
		o := options(k)
		o.Timeout = time.Hour
		p := open(t, o)
		var outcomes []error
		note := func(_ Ack, err error) { outcomes = append(outcomes, err) }
		e := newEntry(&Record{Topic: "a", Late: note}, recordOverhead, note)
		p.mu.Lock()
		p.records, p.bytes = 1, recordOverhead
		p.pending.push(e)
		p.mu.Unlock()
		if !settlesFirst {
			p.expire(time.Now().Add(2 * o.Timeout))
		}
		p.settle(e, kgo.ErrRecordTimeout)
		require.Len(t, outcomes, 2)
		for _, err := range outcomes {
			requireKind(t, Timeout, err)
		}
		records, bytes := p.Usage()
		require.Zero(t, records+bytes)
	}
}
