package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"wsd/internal/command"
	"wsd/loadtest/client"
	"wsd/loadtest/producer"
)

// This program is also the shard processes of what the tests start.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == shardCommand {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// patience is how long a state may take to come.
const patience = 60 * time.Second

// lines is a writer that passes each line on.
type lines struct {
	mu   sync.Mutex
	rest []byte
	each func(line []byte)
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		l.each(line)
		l.rest = rest
	}
}

// system is a running baseline.
type system struct {
	t       *testing.T
	address netip.AddrPort
	metrics string
	stop    func()
}

func startKafka(t *testing.T, topics ...string) string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}

// start starts a baseline and waits until it serves.
func start(t *testing.T, broker string, args ...string) *system {
	t.Helper()
	args = append([]string{"--kafka", broker, "--kafka-start", "earliest", "--listen", "127.0.0.1:0", "--metrics",
		"127.0.0.1:0", "--log-format", "json", "--stop", "10s", "--queue", "10000"}, args...)
	type served struct{ Msg, Clients, Metrics string }
	ready := make(chan served, 1)
	log := &lines{each: func(line []byte) {
		var s served
		if json.Unmarshal(line, &s) == nil && s.Msg == "serving" {
			ready <- s
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, io.Discard, log) }()
	s := &system{t: t}
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			require.Equal(t, command.OK, <-code)
		})
	}
	t.Cleanup(s.stop)
	select {
	case said := <-ready:
		s.address, s.metrics = netip.MustParseAddrPort(said.Clients), "http://"+said.Metrics
	case c := <-code:
		code <- c
		require.Fail(t, "the baseline has ended", "code %d", c)
	case <-time.After(patience):
		require.Fail(t, "the baseline does not serve")
	}
	return s
}

func (s *system) get(path string) []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode, "%s: %s", path, body)
	return body
}

func (s *system) stats() (v stats) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal(s.get(s.metrics+"/stats"), &v))
	return v
}

// sum is a figure summed over the shards.
func (v *stats) sum(name string) (n int64) {
	for label, figures := range v.Processes {
		if label != "main" {
			n += figures[name]
		}
	}
	return n
}

func (v *stats) shard(i int) map[string]int64 { return v.Processes[strconv.Itoa(i)] }

// eventually waits for a state of the whole.
func (s *system) eventually(what string, ok func(v *stats) bool) (v stats) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if v = s.stats(); ok(&v) {
			return v
		}
		if time.Now().After(deadline) {
			require.Fail(s.t, what, "%+v", v)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// feed is numbered records for clients: half of the channels are topics, the others keys of the last topic.
type feed struct {
	t         *testing.T
	broker    string
	channels  []client.Channel
	producers []*producer.Producer
	last      func() []uint64
}

const users = "users"

type clientCounters = client.Counters

func now() int64 { return time.Now().UnixNano() }

// size makes the records of the only topic larger, before any is produced.
func (f *feed) size(n int) {
	f.t.Helper()
	format, err := client.NewFormat(1, n)
	require.NoError(f.t, err)
	*f.channels[0].Format = *format
}

// newFeed makes a channel for each topic and for each of n users.
func newFeed(t *testing.T, broker string, n int, topics ...string) *feed {
	t.Helper()
	f := &feed{t: t, broker: broker}
	var lasts []func() uint64
	for i, topic := range topics {
		format, err := client.NewFormat(uint32(i+1), 128)
		require.NoError(t, err)
		p := producer.New(producer.Options{Brokers: []string{broker}, Topic: topic, Batch: 1,
			Append: func(dst []byte, seq uint64, _ time.Duration) []byte { return format.Append(dst, seq, now()) }})
		f.producers = append(f.producers, p)
		f.channels = append(f.channels, client.Channel{Name: topic, Format: format, Produced: p.Begun})
		lasts = append(lasts, p.Acked)
	}
	if n > 0 {
		format, err := client.NewFormat(99, 128)
		require.NoError(t, err)
		count := uint64(n)
		p := producer.New(producer.Options{Brokers: []string{broker}, Topic: users, Batch: 1,
			Append: func(dst []byte, seq uint64, _ time.Duration) []byte {
				return format.Append(dst, (seq-1)/count+1, now())
			},
			Key: func(dst []byte, seq uint64) []byte { return fmt.Appendf(dst, "u%d", (seq-1)%count) }})
		f.producers = append(f.producers, p)
		for i := range count {
			of := func(total uint64) uint64 { return (total + count - 1 - i) / count }
			f.channels = append(f.channels, client.Channel{Name: fmt.Sprintf("u%d", i), Format: format,
				Produced: func() uint64 { return of(p.Begun()) }})
			lasts = append(lasts, func() uint64 { return of(p.Acked()) })
		}
	}
	f.last = func() (list []uint64) {
		for _, last := range lasts {
			list = append(list, last())
		}
		return list
	}
	t.Cleanup(func() {
		for _, p := range f.producers {
			p.Close()
		}
	})
	return f
}

// produce produces n records by each producer.
func (f *feed) produce(n int) {
	f.t.Helper()
	for _, p := range f.producers {
		_, err := p.Run(f.t.Context(), n, time.Microsecond)
		require.NoError(f.t, err)
	}
}

// connect holds n clients at the addresses in turn.
func (f *feed) connect(n int, addresses ...netip.AddrPort) *held {
	f.t.Helper()
	h := &held{feed: f}
	for i, address := range addresses {
		share := (n - i + len(addresses) - 1) / len(addresses)
		e, err := client.New(client.Options{Server: address, Host: address.String(), Protocol: client.Raw,
			Channels: f.channels, Clients: share, Loops: 1, Dials: share, AttemptTimeout: patience, Now: now})
		require.NoError(f.t, err)
		h.engines = append(h.engines, e)
		e.Start()
	}
	f.t.Cleanup(func() { h.close() })
	h.eventually("clients are held", func(n2 *client.Counters, _ bool) bool { return n2.Held == int64(n) })
	return h
}

// held is clients that are connected.
type held struct {
	feed    *feed
	engines []*client.Engine
	ended   atomic.Bool
}

func (h *held) counters() (sum client.Counters, drained bool) {
	drained = true
	for _, e := range h.engines {
		n, d := e.Snapshot()
		drained = drained && d
		sum.Held += n.Held
		sum.Open += n.Open
		sum.Closed += n.Closed
		sum.Deliveries += n.Deliveries
		sum.Behind += n.Behind
		sum.Refused += n.Refused
	}
	return sum, drained
}

func (h *held) eventually(what string, ok func(n *client.Counters, drained bool) bool) {
	h.feed.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		n, drained := h.counters()
		if ok(&n, drained) {
			return
		}
		if time.Now().After(deadline) {
			require.Fail(h.feed.t, what, "%+v", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *held) close() (list []client.Counters) {
	if h.ended.Swap(true) {
		return nil
	}
	for _, e := range h.engines {
		n, _ := e.Close(5 * time.Second)
		list = append(list, n)
	}
	return list
}

// complete waits for the last record of every client, and checks that all of them came once and in order.
func (h *held) complete() {
	t := h.feed.t
	t.Helper()
	for _, e := range h.engines {
		e.Drain(h.feed.last())
	}
	h.eventually("all records arrive", func(n *client.Counters, drained bool) bool { return drained && n.Behind == 0 })
	for _, n := range h.close() {
		require.Zero(t, n.Lost+n.LostClosed+n.Duplicates+n.Reordered+n.Corrupt+n.Unexpected+n.Gaps+n.Foreign, "%+v", n)
	}
}
