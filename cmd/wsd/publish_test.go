package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// publisher publishes numbers, one at a time, and notes how each was answered.
type publisher struct {
	name     string
	conn     net.Conn
	answered map[string]bool // By value: whether it was acknowledged. Without an answer there is no entry.
	sent     int
	failed   atomic.Int64
	acked    atomic.Int64
}

// publishAll publishes until ctx ends or the connection does.
func (p *publisher) publishAll(ctx context.Context) {
	for ctx.Err() == nil {
		value := fmt.Sprintf("%s-%d", p.name, p.sent)
		p.sent++
		command := fmt.Sprintf(`{"id":%d,"publish":{"channel":"chat.all","data":%q}}`, p.sent+1, value)
		if wsutil.WriteClientText(p.conn, []byte(command)) != nil {
			return
		}
		for {
			b, err := wsutil.ReadServerText(p.conn)
			if err != nil {
				return
			}
			var reply struct {
				ID    int
				Error *struct {
					Code      int
					Temporary bool
				}
			}
			if json.Unmarshal(b, &reply) != nil || reply.ID == 0 {
				_ = wsutil.WriteClientText(p.conn, []byte("{}")) // A ping.
				continue
			}
			if p.answered[value] = reply.Error == nil; reply.Error == nil {
				p.acked.Add(1)
				break
			}
			if reply.Error.Code != 100 || !reply.Error.Temporary {
				p.answered["bad answer: "+string(b)] = true
			}
			p.failed.Add(1)
			break
		}
	}
}

// join connects by the client protocol, perhaps with a subscription.
func (p *process) join(channel string) net.Conn {
	p.t.Helper()
	conn := p.dial("/connection/websocket")
	require.NoError(p.t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	commands := []string{`{"id":1,"connect":{}}`}
	if channel != "" {
		commands = append(commands, fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel))
	}
	for _, command := range commands {
		require.NoError(p.t, wsutil.WriteClientText(conn, []byte(command)))
		b, err := wsutil.ReadServerText(conn)
		require.NoError(p.t, err)
		require.NotContains(p.t, string(b), `"error"`)
	}
	return conn
}

// TestApacheKafka: three wsd on one Kafka. Publications cross machines; one wsd is killed under load, and Kafka is away
// for 20 seconds: publishers get temporary errors, and nothing that was answered is lost or there twice. A subscriber
// of the one that is killed recovers on another.
func TestApacheKafka(t *testing.T) {
	k := kafkatest.Apache(t, 1)
	topic := k.Topic(t, 4)
	var nodes []*process
	for range 3 {
		nodes = append(nodes, start(t, "serve", "--kafka.brokers", strings.Join(k.Addrs(), ","), "--kafka.topics", topic, "--routes",
			topic+"=chat.{key}", "--kafka.partitioner", "murmur2", "--publish.rules", "chat.*=all", "--client.listen", "127.0.0.1:0",
			"--admin.listen=", "--steering.mode", "off", "--publish.timeout", "2s", "--kafka.start", "earliest", "--limits.publish-rate", "0"))
	}
	var received []string
	var mu sync.Mutex
	subscriber := nodes[0].join("chat.all")
	go func() {
		for {
			b, err := wsutil.ReadServerText(subscriber)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(b), "\n") {
				var push struct {
					Push *struct{ Pub *struct{ Data string } }
				}
				if json.Unmarshal([]byte(line), &push) == nil && push.Push != nil && push.Push.Pub != nil {
					mu.Lock()
					received = append(received, push.Push.Pub.Data)
					mu.Unlock()
				} else {
					_ = wsutil.WriteClientText(subscriber, []byte("{}"))
				}
			}
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var publishers []*publisher
	var running, following sync.WaitGroup
	moved := &follower{channel: "chat.all"}
	followCtx, endFollowing := context.WithCancel(t.Context())
	defer following.Wait()
	defer endFollowing()
	following.Go(func() { moved.follow(followCtx, []string{nodes[2].clients, nodes[1].clients}) })
	require.Eventually(t, func() bool { _, ready, _, _ := moved.state(); return ready }, kafkatest.WaitMax, 20*time.Millisecond, "a subscription")
	for i, node := range nodes {
		for j := range 4 {
			p := &publisher{name: fmt.Sprintf("%d.%d", i, j), conn: node.join(""), answered: map[string]bool{}}
			publishers = append(publishers, p)
			running.Go(func() { p.publishAll(ctx) })
		}
	}
	count := func(from, to int, of func(*publisher) int64) (n int64) {
		for _, p := range publishers[from:to] {
			n += of(p)
		}
		return n
	}
	acked := func(p *publisher) int64 { return p.acked.Load() }
	more := func(from, to int, what string) {
		t.Helper()
		before := count(from, to, acked)
		require.Eventually(t, func() bool { return count(from, to, acked) >= before+400 }, 2*kafkatest.WaitMax, 20*time.Millisecond, what)
	}
	more(0, 12, "publications of all nodes")
	require.NoError(t, nodes[2].cmd.Process.Kill())
	more(0, 8, "publications of those that live")
	k.Down(t)
	require.Eventually(t, func() bool { return count(0, 8, func(p *publisher) int64 { return p.failed.Load() }) >= 8 }, kafkatest.WaitMax,
		20*time.Millisecond, "temporary errors")
	time.Sleep(20 * time.Second) // Kafka is away for that long; nothing is decided by it.
	k.Up(t)
	more(0, 8, "publications after Kafka is back")
	cancel()
	running.Wait()

	log := readAll(t, k, topic, 4)
	times := map[string]int{}
	for _, value := range log {
		times[value]++
	}
	total, failed := 0, 0
	for _, p := range publishers {
		for i := range p.sent {
			value := fmt.Sprintf("%s-%d", p.name, i)
			if p.answered[value] {
				total++
				require.Equal(t, 1, times[value], "%s was answered", value)
			} else {
				failed++
				require.LessOrEqual(t, times[value], 1, value)
			}
		}
		for value := range p.answered {
			require.NotContains(t, value, "bad answer")
		}
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(received) >= len(log)
	}, kafkatest.WaitMax, 20*time.Millisecond, "the subscriber gets all")
	require.Equal(t, log, received, "in the order of the log")
	require.Eventually(t, func() bool { got, _, _, _ := moved.state(); return len(got) >= len(log) }, kafkatest.WaitMax,
		20*time.Millisecond, "the subscriber that moved gets all")
	got, _, recovered, faults := moved.state()
	require.Equal(t, log, got, "nothing is lost, twice or out of order")
	require.Positive(t, recovered, "it recovered")
	require.Empty(t, faults)
	t.Logf("%d answered, each in the log once and delivered once; %d failed or without an answer", total, failed)
}

// readAll returns the values of a topic of which one partition has records.
func readAll(t *testing.T, k *kafkatest.Cluster, topic string, partitions int32) (values []string) {
	t.Helper()
	for _, r := range k.Records(t, topic, partitions) {
		values = append(values, strings.Trim(string(r.Value), `"`))
	}
	return values
}
