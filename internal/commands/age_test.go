package commands

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/produce"
)

func TestAges(t *testing.T) {
	begin := time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	a := ages{window: 2 * time.Minute}
	check := func(partition int32, offset int64, now, want int) {
		t.Helper()
		most, known := a.most(partition, offset, at(now))
		require.Equal(t, want >= 0, known)
		require.Equal(t, time.Duration(max(want, 0))*time.Second, most)
	}
	check(0, 5, 0, -1)
	a.note(at(0), map[int32]int64{0: 10, 1: 0})
	check(0, 9, 1, -1) // It was there, for how long is not known.
	check(0, 10, 1, 1)
	check(1, 0, 3, 3)
	check(2, 0, 3, -1)
	a.note(at(60), map[int32]int64{0: 10, 1: 5})
	check(0, 10, 61, 1)
	check(1, 4, 61, 61)
	check(1, 5, 61, 1)
	a.note(at(170), map[int32]int64{0: 10, 1: 5})
	check(1, 4, 170, -1) // The first look is too long ago to be kept.
	check(1, 5, 170, 0)
	a.begins(2)
	check(2, 0, 171, 1)
	a.note(at(175), map[int32]int64{0: 10, 1: 3, 2: 1}) // Partition 1 has lost two.
	check(1, 3, 176, 1)
	check(1, 2, 176, -1)
	check(0, 10, 176, 1)
	a.beginsAnew()
	a.begins(0)
	check(0, 0, 177, 2)
	check(1, 3, 177, -1)

	for i := range 10_000 { // However often it looks, it keeps few, and the newest.
		a.note(at(200).Add(time.Duration(i)*100*time.Millisecond), map[int32]int64{0: int64(i)})
	}
	require.LessOrEqual(t, len(a.looks), looksMax+2)
	most, known := a.most(0, 9999, at(1200))
	require.True(t, known)
	require.Equal(t, 100*time.Millisecond, most)
	_, known = a.most(0, 9999-1000, at(1200))
	require.True(t, known, "of 100 seconds ago")
}

// command returns the value of a record.
func command(t testing.TB, user string) []byte {
	t.Helper()
	value, err := (&Command{ID: NewID(), Do: Disconnect, User: user}).Append(nil)
	require.NoError(t, err)
	return value
}

// A clock that is wrong by hours, of a node, of a broker or of whoever wrote a command, drops no command that comes now,
// and is told. Of what came while nobody looked, it is taken into account.
func TestClockIsWrong(t *testing.T) {
	for _, wrong := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour} {
		var log bytes.Buffer
		applied := 0
		n := &Topic{
			ages: ages{window: 2 * time.Minute}, problem: newProblems(),
			o: Options{Topic: "commands", AgeMax: 2 * time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil)), Apply: func(context.Context, *Command) bool {
				applied++
				return true
			}},
		}
		n.ages.note(time.Now(), map[int32]int64{0: 100})
		take := func(offset int64, age time.Duration, byBroker int8) {
			n.take(t.Context(), &kgo.Record{
				Value: command(t, "u"), Offset: offset, Timestamp: time.Now().Add(-age - wrong),
				Attrs: kgo.NewRecordAttrs(kgo.RecordAttrsOpts{TimestampType: byBroker}),
			})
		}
		take(100, 0, 1)
		require.Equal(t, 1, applied, wrong)
		switch {
		case wrong == 0:
			require.Empty(t, n.Clock())
			require.Empty(t, log.String())
		case wrong > 0:
			require.Contains(t, n.Clock(), "the clock of this machine is 3h0m0s or more ahead of that of the Kafka brokers")
		default:
			require.Contains(t, n.Clock(), "the clock of this machine is 3h0m0s or more behind that of the Kafka brokers")
		}
		require.Equal(t, wrong != 0, strings.Contains(log.String(), "synchronize it"))
		require.InDelta(t, wrong.Seconds(), time.Duration(n.stats.Skew.Load()).Seconds(), 10)
		// These were there before anybody looked.
		take(98, time.Minute, 1)
		require.Equal(t, 2, applied, wrong)
		take(99, 10*time.Minute, 1)
		require.Equal(t, 2, applied, wrong)
		require.EqualValues(t, 1, n.stats.Old.Load())
		// Whoever wrote this has another clock again. That of the brokers is what counts for the difference.
		take(101, 7*time.Hour, 0)
		require.Equal(t, 3, applied)
		require.InDelta(t, wrong.Seconds(), time.Duration(n.stats.Skew.Load()).Seconds(), 10)
		require.Contains(t, log.String(), "set message.timestamp.type=LogAppendTime")
		// The clock is right again.
		n.take(t.Context(), &kgo.Record{
			Value: command(t, "u"), Offset: 102, Timestamp: time.Now(), Attrs: kgo.NewRecordAttrs(kgo.RecordAttrsOpts{TimestampType: 1}),
		})
		require.Empty(t, n.Clock())
	}
}

// Times of records that are hours away from this machine's clock change nothing for commands that come now.
func testClocks(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	n := newNode(t, k, topic, func(o *Options) { o.AgeMax = time.Minute })
	n.send("now")
	n.has("now")
	cl := k.Client(t)
	kafkatest.Produce(t, cl,
		&kgo.Record{Topic: topic, Value: command(t, "slow"), Timestamp: time.Now().Add(-time.Hour)},
		&kgo.Record{Topic: topic, Value: command(t, "fast"), Timestamp: time.Now().Add(30 * time.Minute)})
	n.has("now", "slow", "fast")
	require.Zero(t, n.Stats().Old.Load())
}

// What has waited in the topic for longer than Options.AgeMax, because this node did not come to it, is dropped.
func testOld(t *testing.T, k *kafkatest.Cluster) {
	topic := k.Topic(t, 1)
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	n := newNode(t, k, topic, func(o *Options) {
		o.AgeMax = time.Second
		apply := o.Apply
		o.Apply = func(ctx context.Context, c *Command) bool {
			if c.User == "first" {
				select {
				case held <- struct{}{}:
				default:
				}
				<-hold
			}
			return apply(ctx, c)
		}
	})
	var release sync.Once
	t.Cleanup(func() { release.Do(func() { close(hold) }) })
	count := 0
	eventually(t, "a command is held", func() bool { // On a busy machine the first may be old when it is read.
		n.send("first")
		count++
		return len(held) > 0
	})
	n.send("late")
	sent := time.Now()
	eventually(t, "it has waited too long", func() bool {
		most, known := n.ages.most(0, int64(count), time.Now())
		return (!known || most > time.Second) && time.Since(sent) > time.Second
	})
	release.Do(func() { close(hold) })
	eventually(t, "all is read", func() bool { s := n.Stats(); return s.Applied.Load()+s.Old.Load() == uint64(count)+1 })
	n.mu.Lock()
	defer n.mu.Unlock()
	require.NotContains(t, n.applied, "late")
	require.Contains(t, n.applied, "first")
}

// Commands are written, read and the topic is made over TLS with a login, as the other connections to Kafka are.
func testLogin(t *testing.T, plainText *kafkatest.Cluster) {
	for name, k := range map[string]*kafkatest.Cluster{"sasl": plainText.SASL(t), "tls": plainText.OverTLS(t)} {
		po := producerOptions(k)
		if name == "tls" {
			po.TLS = func() *tls.Config { return k.TLS }
		} else {
			po.SASL = plain.Mechanism{Username: kafkatest.User, Password: kafkatest.Password}
		}
		topic := strings.ReplaceAll(t.Name(), "/", "-") + name
		o, err := Create(t.Context(), po.Connection(), Plan{Topic: topic, Partitions: 1, Replicas: 1, Retention: time.Hour}, false)
		require.NoError(t, err)
		require.True(t, o.Created)
		p, err := produce.Open(po)
		require.NoError(t, err)
		n := newNode(t, k, topic, func(o *Options) { o.Connect, o.Producer = po.Connection(), p })
		n.send(name)
		n.has(name)
		n.Stop()
		require.NoError(t, p.Close(t.Context()))

		po.SASL, po.TLS = nil, nil
		stranger := newNode(t, k, topic, func(o *Options) { o.Connect = po.Connection() })
		eventually(t, "one without a login reads nothing", func() bool { return stranger.late(time.Second) != "" })
		stranger.Stop()
	}
}
