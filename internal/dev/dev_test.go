package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Listen, o.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	c, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

func read(t *testing.T, c *Cluster, topic string, n int) (records []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err0())
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestTrades(t *testing.T) {
	c := start(t, Options{Rate: 500, Topics: []string{"more", TopicTrades}})
	require.Equal(t, []string{TopicTrades, TopicLoadtest, "more"}, c.Topics())
	ids := make(map[uint64]bool)
	for _, r := range read(t, c, TopicTrades, 200) {
		var trade struct {
			ID                 uint64
			Symbol, Side, Time string
			Price, Size        float64
		}
		require.NoError(t, json.Unmarshal(r.Value, &trade), string(r.Value))
		require.Equal(t, string(r.Key), trade.Symbol)
		require.Positive(t, trade.Price)
		require.Positive(t, trade.Size)
		require.Contains(t, []string{"buy", "sell"}, trade.Side)
		require.False(t, ids[trade.ID], "trade %d came twice", trade.ID)
		ids[trade.ID] = true
	}
}

func TestLines(t *testing.T) {
	c := start(t, Options{Stdin: "lines", In: strings.NewReader("one\r\n\ntwo\n" + strings.Repeat("x", lineMax+1) + "\nthree")})
	var got []string
	for _, r := range read(t, c, "lines", 3) {
		got = append(got, string(r.Value))
	}
	require.Equal(t, []string{"one", "two", "three"}, got)
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("y", lineMax-1)
	r := bufio.NewReader(strings.NewReader(long + "\n" + long + "zz\nend"))
	line, skipped, err := readLine(r)
	require.NoError(t, err)
	require.Zero(t, skipped)
	require.Len(t, line, lineMax-1)
	line, skipped, err = readLine(r)
	require.NoError(t, err)
	require.Equal(t, lineMax+2, skipped)
	require.Empty(t, line)
	line, _, err = readLine(r)
	require.ErrorContains(t, err, "EOF")
	require.Equal(t, "end", string(line))
}

func TestRetention(t *testing.T) {
	c := start(t, Options{})
	value := make([]byte, 512<<10)
	random := rand.NewChaCha8([32]byte{}) // Producers compress.
	_, err := random.Read(value)
	require.NoError(t, err)
	for range 3 * retentionBytes / len(value) {
		require.NoError(t, c.producer.ProduceSync(t.Context(), &kgo.Record{Topic: TopicLoadtest, Value: value}).FirstErr())
	}
	require.Eventually(t, func() bool {
		p := c.kafka.PartitionInfo(TopicLoadtest, 0)
		return p.LogStartOffset*int64(len(value)) >= 2*retentionBytes-2*segmentBytes
	}, 20*time.Second, 50*time.Millisecond, "old records stay")
}

func TestStartErrors(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, o := range map[string]Options{
		"--dev.kafka-listen": {Listen: taken.Addr().String()},
		"every address":      {Listen: "0.0.0.0:0"},
		"not HOST:PORT":      {Listen: "localhost"},
		"not a number":       {Listen: "127.0.0.1:http"},
		`"a b"`:              {Listen: "127.0.0.1:0", Topics: []string{"a b"}},
	} {
		_, err := Start(t.Context(), o)
		require.ErrorContains(t, err, name)
	}
}

// What is no Kafka client gets no memory.
func TestGuard(t *testing.T) {
	c := start(t, Options{})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.Brokers()[0])
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	n, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Zero(t, n)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.producer.ProduceSync(t.Context(), &kgo.Record{Topic: TopicLoadtest, Value: make([]byte, 1<<19)}).FirstErr())
}

func TestDigits(t *testing.T) {
	for want, v := range map[string]float64{"91250.0": 91250, "2.21000": 2.21, "0.158000": 0.158, "1234567": 1234567} {
		require.Equal(t, want, digits(v, 6))
	}
}
