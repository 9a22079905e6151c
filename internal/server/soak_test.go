package server

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/kafkatest"
	"wsd/internal/testutil"
)

// What make soak-kafka sets; without a duration the soak is skipped.
var (
	soakDuration = flag.Duration("soak.duration", 0, "how long records are produced; 0: no soak")
	soakKill     = flag.Duration("soak.kill", 30*time.Second, "time between two kills of a broker")
	soakAway     = flag.Duration("soak.away", 10*time.Second, "how long a killed broker stays away")
	soakRate     = flag.Int("soak.rate", 20_000, "records a second")
	soakKeys     = flag.Int("soak.keys", 2000, "keys, each with a channel and a client of its own")
)

const (
	soakTopic      = "soak"
	soakPartitions = 12
	soakTick       = 5 * time.Millisecond
	// soakPending bounds what the producer holds while a partition has no leader: past it, producing falls behind its rate.
	soakPending = 400_000
)

// Brokers are killed one after the other, each when all replicas have caught up, while every key's client gets its records: each once
// and in order, by the numbers in them.
func TestApacheKafkaSoak(t *testing.T) {
	if *soakDuration == 0 {
		t.Skip("it runs for minutes: make soak-kafka")
	}
	k := kafkatest.Apache(t, 3)
	k.Create(t, soakTopic, soakPartitions)
	r := &rig{t: t, log: &testutil.Buffer{}}
	r.start(configure(t, map[string]any{
		"kafka.brokers": k.Addrs(), "kafka.topics": []string{soakTopic}, "routes": []string{"{key}"}, "shards": "2", "kafka.metadata_interval": "2s",
	}))
	r.ready()
	s := &soak{t: t, sent: make([]atomic.Int64, *soakKeys), got: make([]atomic.Int64, *soakKeys)}
	var conns []net.Conn
	for key := range *soakKeys {
		c := r.dial("/ws?channel=" + soakKey(key))
		conns = append(conns, c.conn)
		s.clients.Go(func() { s.read(key, c) })
	}
	producing, stop := context.WithTimeout(t.Context(), *soakDuration)
	defer stop()
	var producer sync.WaitGroup
	producer.Go(func() {
		s.produce(producing, k.Client(t, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(5*time.Millisecond),
			kgo.MaxBufferedRecords(soakPending), kgo.ProducerBatchCompression(kgo.NoCompression())))
	})
	kills := s.killBrokers(producing, k)
	producer.Wait()

	sent := s.total(s.sent)
	r.eventually("all records at their clients, or a client that has ended", func() bool { return s.total(s.got) >= sent || s.ended.Load() > 0 })
	s.closing.Store(true)
	for _, c := range conns {
		_ = c.Close() // Each is closed only once.
	}
	s.clients.Wait()
	t.Logf("%d records in %s, %.0f a second, %d brokers killed: %d lost, %d twice or out of order, %d clients closed", sent, *soakDuration,
		float64(sent)/soakDuration.Seconds(), kills, s.lost.Load()+sent-s.total(s.got), s.twice.Load(), s.ended.Load())
	require.Positive(t, kills, "-soak.duration must be longer than -soak.kill")
	require.Zero(t, s.lost.Load()+s.twice.Load()+s.ended.Load())
	for key := range s.got {
		require.Equal(t, s.sent[key].Load(), s.got[key].Load(), "key %d", key)
	}
}

// soak is what was produced and what came, by key.
type soak struct {
	t       testing.TB
	sent    []atomic.Int64 // Acknowledged by all replicas in sync.
	got     []atomic.Int64
	clients sync.WaitGroup
	closing atomic.Bool
	lost    atomic.Int64 // Numbers that were left out before another came.
	twice   atomic.Int64 // Numbers at or below one that came before.
	ended   atomic.Int64 // Clients whose connection ended.
}

func soakKey(key int) string { return "k" + strconv.Itoa(key) }

func (s *soak) total(counts []atomic.Int64) (n int64) {
	for i := range counts {
		n += counts[i].Load()
	}
	return n
}

// read checks what the client of a key gets: "KEY NUMBER", from 1 on.
func (s *soak) read(key int, c *client) {
	rw := struct {
		io.Reader
		io.Writer
	}{bufio.NewReader(c.rw), c.conn}
	prefix := soakKey(key) + " "
	for last := int64(0); ; {
		b, _, err := wsutil.ReadServerData(rw)
		if err != nil {
			if !s.closing.Load() {
				s.ended.Add(1)
				s.t.Errorf("client %d after record %d: %v", key, last, err)
			}
			return
		}
		text, ok := strings.CutPrefix(string(b), prefix)
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case !ok || err != nil:
			s.t.Errorf("client %d got %q", key, b)
			return
		case n <= last:
			s.twice.Add(1)
			s.t.Errorf("client %d: record %d after %d", key, n, last)
			continue
		case n > last+1:
			s.lost.Add(n - last - 1)
			s.t.Errorf("client %d: record %d after %d", key, n, last)
		}
		last = n
		s.got[key].Add(1)
	}
}

// produce gives every key in turn its next record, at the rate, until ctx ends; then it waits for all acknowledgements.
func (s *soak) produce(ctx context.Context, cl *kgo.Client) {
	begun := make([]int64, *soakKeys)
	tick := time.NewTicker(soakTick)
	defer tick.Stop()
	start := time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			s.flush(cl)
			return
		case <-tick.C:
		}
		for due := int(time.Since(start).Seconds() * float64(*soakRate)); n < due && ctx.Err() == nil; n++ {
			key := n % *soakKeys
			begun[key]++
			name := soakKey(key)
			// Not ctx: whether a record that is given up was written would be unknown.
			cl.Produce(context.Background(), &kgo.Record{Topic: soakTopic, Key: []byte(name), Value: fmt.Appendf(nil, "%s %d", name, begun[key])}, func(_ *kgo.Record, err error) {
				if err != nil {
					s.t.Errorf("produce: %v", err)
					return
				}
				s.sent[key].Add(1)
			})
		}
	}
}

func (s *soak) flush(cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), kafkatest.WaitMax)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		s.t.Errorf("wait for acknowledgements: %v", err)
	}
}

// killBrokers kills the brokers in turn until ctx ends, and leaves all running.
func (s *soak) killBrokers(ctx context.Context, k *kafkatest.Cluster) (kills int) {
	pause := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	for next := time.Now().Add(*soakKill); pause(time.Until(next)); next = next.Add(*soakKill) {
		id := int32(kills%3 + 1)
		began := time.Now()
		k.Kill(s.t, id)
		kills++
		pause(*soakAway)
		k.Start(s.t, id) // Returns when the replicas have caught up.
		s.t.Logf("broker %d killed, its replicas in sync after %.1f s; %d records produced, %d delivered", id, time.Since(began).Seconds(), s.total(s.sent), s.total(s.got))
		if late := time.Since(next); late > *soakKill {
			next = next.Add(late - *soakKill)
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		s.t.Error("the soak was interrupted")
	}
	return kills
}
