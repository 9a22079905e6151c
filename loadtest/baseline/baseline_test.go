package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/loadtest/client"
)

const (
	testUsers   = 30
	testClients = 64
	testRecords = 300
)

// assigned asks the load balancer for the addresses of n clients.
func (s *system) assigned(n int) (list []netip.AddrPort) {
	s.t.Helper()
	for range n {
		var v struct{ Address string }
		require.NoError(s.t, json.Unmarshal(s.get("http://"+s.address.String()+"/assign"), &v))
		list = append(list, netip.MustParseAddrPort(v.Address))
	}
	return list
}

// Each switch changes what it should, and with each of them every record reaches every client of its channel, in order.
func TestOptimisations(t *testing.T) {
	topics := []string{"t0", "t1", "t2", "t3"}
	subscribed := int64(testClients)
	for _, c := range []struct {
		name  string
		args  []string
		shard int // Shards, 3 if not given.

		goroutines int64 // At least, for each connection; 1 if not given.

		settled func(v *stats) bool // What is waited for before the check, if anything.
		check   func(t *testing.T, v *stats)
	}{
		// A message is counted before its writes are.
		{name: "none", goroutines: 2, settled: func(v *stats) bool {
			return v.sum("bus_socket_writes_total") >= 2*v.sum("bus_messages_total")
		}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Equal(t, v.sum("kafka_polls_total"), v.sum("kafka_records_total"), "a record at a time")
			require.Equal(t, v.sum("bus_flushes_total"), v.sum("bus_messages_total"), "a message at a time")
			require.Equal(t, 2*v.sum("bus_messages_total"), v.sum("bus_socket_writes_total"), "to all other shards")
			require.Equal(t, subscribed, v.sum("cpu_reads_total")-3, "a read a connection, and one a shard at the start")
			require.Zero(t, v.Processes["main"]["kafka_records_total"])
			require.EqualValues(t, testClients, v.Processes["main"]["tunnels"])
			require.Zero(t, v.sum("bus_unrouted_total")+v.sum("bus_ring_entries_total"))
		}},
		{name: "1", args: []string{"--opt", "1"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Zero(t, v.sum("cpu_reads_total"))
			require.Equal(t, subscribed, v.sum("cpu_cached_total"))
			require.Greater(t, v.Processes["main"]["cpu_reads_total"], int64(1))
		}},
		{name: "2", args: []string{"--opt", "2"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Positive(t, v.sum("cpu_cached_total"))
			require.Equal(t, subscribed, v.sum("cpu_cached_total")+v.sum("cpu_reads_total")-3)
		}},
		{name: "3", args: []string{"--opt", "3"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Less(t, v.sum("kafka_polls_total"), v.sum("kafka_records_total"))
		}},
		{name: "4", args: []string{"--opt", "4"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Less(t, v.sum("bus_flushes_total"), v.sum("bus_messages_total"))
			require.GreaterOrEqual(t, 10*v.sum("bus_flushes_total"), v.sum("bus_messages_total"), "ten at most")
		}},
		{name: "5", args: []string{"--opt", "5"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Zero(t, v.sum("kafka_records_total"))
			require.EqualValues(t, 5*testRecords, v.Processes["main"]["kafka_records_total"])
		}},
		{name: "6", args: []string{"--opt", "6"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			// A user's message goes to one shard, which may be the one that read it.
			require.GreaterOrEqual(t, v.sum("bus_unrouted_total"), int64(testRecords))
			others := v.sum("bus_unrouted_total") + v.sum("bus_socket_writes_total")
			require.LessOrEqual(t, others, 3*v.sum("bus_messages_total"), "a message is sent to a shard, or that is spared it")
			require.GreaterOrEqual(t, others, 2*v.sum("bus_messages_total"), "all but the shard that read it")
		}},
		{name: "7", args: []string{"--opt", "7"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.EqualValues(t, testClients, v.Processes["main"]["tunnels"])
		}},
		{name: "8", args: []string{"--opt", "8"}, check: func(*testing.T, *stats) {}}, // See TestPoolHasFewerGoroutines.
		{name: "9", args: []string{"--opt", "9"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Zero(t, v.shard(2)["connections"])
			require.EqualValues(t, 5*testRecords, v.shard(2)["kafka_records_total"])
			require.Zero(t, v.shard(0)["kafka_records_total"]+v.shard(1)["kafka_records_total"])
			require.Equal(t, v.shard(0)["connections"], v.shard(1)["connections"])
		}},
		{name: "9 of 7", args: []string{"--opt", "9"}, shard: 7, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.EqualValues(t, 5*testRecords, v.shard(5)["kafka_records_total"]+v.shard(6)["kafka_records_total"])
			require.Zero(t, v.shard(5)["connections"]+v.shard(6)["connections"])
		}},
		{name: "10", args: []string{"--opt", "10"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Zero(t, v.sum("bus_socket_writes_total"))
			require.EqualValues(t, 5*testRecords, v.sum("bus_ring_entries_total"), "each once, for all shards")
		}},
		{name: "11", args: []string{"--opt", "11"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Zero(t, v.Processes["main"]["tunnels"])
			require.Equal(t, v.shard(0)["connections"], v.shard(1)["connections"]) // 22, 21, 21 or the like.
		}},
		{name: "all", args: []string{"--all"}, check: func(t *testing.T, v *stats) {
			t.Helper()
			require.Len(t, v.Opts, 11)
			require.Zero(t, v.Processes["main"]["tunnels"]+v.sum("cpu_reads_total")+v.sum("bus_socket_writes_total"))
			require.EqualValues(t, 5*testRecords, v.shard(2)["kafka_records_total"])
		}},
		{name: "all of 7", args: []string{"--all"}, shard: 7, check: func(*testing.T, *stats) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			broker := startKafka(t, append(slices.Clone(topics), users)...)
			shards := max(3, c.shard)
			s := start(t, broker, append([]string{"--shards", fmt.Sprint(shards), "--topics",
				strings.Join(append(slices.Clone(topics), users), ","), "--cgroup", idleCgroup(t)}, c.args...)...)
			f := newFeed(t, broker, testUsers, topics...)
			addresses := []netip.AddrPort{s.address}
			if strings.HasPrefix(c.name, "11") || strings.HasPrefix(c.name, "all") {
				addresses = s.assigned(testClients - testClients%shards)
			}
			// A client of each address has another channel: as many engines as addresses begin at other channels.
			h := f.connectSpread(addresses)
			f.produce(testRecords)
			h.eventually("records arrive", func(n *client.Counters, _ bool) bool { return n.Deliveries > 0 })
			v := s.eventually("figures settle", func(v *stats) bool {
				// A partition that changes its owner can bring records again. Goroutines are counted now and then.
				return v.sum("bus_messages_total")+v.Processes["main"]["bus_messages_total"] >= 5*testRecords &&
					v.sum("goroutines") >= max(1, c.goroutines)*(testClients-testClients%int64(shards)) &&
					(c.settled == nil || c.settled(v))
			})
			if len(addresses) == 1 {
				c.check(t, &v)
			} else {
				subscribed = int64(len(addresses))
				c.check(t, &v)
				subscribed = testClients
			}
			h.complete()
		})
	}
}

// connectSpread holds testClients clients at one address, or one at each of several.
func (f *feed) connectSpread(addresses []netip.AddrPort) *held {
	if len(addresses) == 1 {
		return f.connect(testClients, addresses...)
	}
	return f.connect(len(addresses), addresses...)
}

// idleCgroup is a tree with a quota of one CPU that is not used.
func idleCgroup(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000",
		"cpuacct/cpuacct.usage": "0"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
	}
	return dir
}

// The shards are members of one group, so each gets some of the partitions.
func TestShardsSharePartitions(t *testing.T) {
	topics := []string{"t0", "t1", "t2", "t3", "t4", "t5"}
	broker := startKafka(t, topics...)
	s := start(t, broker, "--topics", strings.Join(topics, ","))
	f := newFeed(t, broker, 0, topics...)
	h := f.connect(12, s.address)
	s.eventually("all shards read", func(v *stats) bool {
		f.produce(1)
		return v.shard(0)["kafka_records_total"] > 0 && v.shard(1)["kafka_records_total"] > 0 &&
			v.shard(2)["kafka_records_total"] > 0
	})
	h.complete()
}

// With the pool, goroutines that only write end; without it, each connection has two.
func TestPoolHasFewerGoroutines(t *testing.T) {
	goroutines := func(args ...string) int64 {
		broker := startKafka(t, "t0")
		s := start(t, broker, append([]string{"--topics", "t0"}, args...)...)
		before := s.eventually("goroutines are counted", func(v *stats) bool { return v.sum("goroutines") > 0 })
		f := newFeed(t, broker, 0, "t0")
		h := f.connect(300, s.address)
		var n int64
		if len(args) == 0 {
			v := s.eventually("two goroutines a connection", func(v *stats) bool {
				return v.sum("goroutines") >= before.sum("goroutines")+600
			})
			n = v.sum("goroutines")
		} else {
			v := s.eventually("one goroutine a connection", func(v *stats) bool {
				grown := v.sum("goroutines") - before.sum("goroutines")
				return v.sum("connections") == 300 && grown >= 300 && grown < 400
			})
			n = v.sum("goroutines")
		}
		h.close()
		s.stop()
		return n
	}
	require.Less(t, goroutines("--opt", "8"), goroutines())
}

// A shard that dies takes its own clients with it. The others miss nothing and get nothing twice, although another
// shard takes over its partitions, and the shard comes back.
func TestShardDies(t *testing.T) {
	for _, args := range [][]string{nil, {"--opt", "4,6,8,10"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			topics := []string{"t0", "t1", "t2", "t3", "t4", "t5"}
			broker := startKafka(t, append(slices.Clone(topics), users)...)
			s := start(t, broker, append([]string{"--topics", strings.Join(append(slices.Clone(topics), users), ",")},
				args...)...)
			f := newFeed(t, broker, 12, topics...)
			h := f.connect(72, s.address)
			f.produce(50)
			v := s.eventually("a shard reads records", func(v *stats) bool {
				f.produce(1)
				return v.shard(1)["kafka_records_total"] > 0
			})
			require.EqualValues(t, 24, v.shard(1)["connections"])
			require.NoError(t, syscall.Kill(int(v.shard(1)["pid"]), syscall.SIGKILL))
			f.produce(50)
			h.eventually("its clients are closed", func(n *client.Counters, _ bool) bool { return n.Closed == 24 })
			s.eventually("it comes back", func(v *stats) bool { return v.Restarts[1] == 1 && v.shard(1)["state"] == 2 })
			again := f.connect(24, s.address)
			v = s.stats()
			require.Equal(t, []int64{24, 24, 24},
				[]int64{v.shard(0)["connections"], v.shard(1)["connections"], v.shard(2)["connections"]})
			f.produce(50)
			again.complete()
			for _, e := range h.engines {
				e.Drain(f.last())
			}
			h.eventually("all records arrive", func(n *client.Counters, drained bool) bool { return drained && n.Behind == 0 })
			for _, n := range h.close() {
				require.EqualValues(t, 24, n.Closed)
				require.Zero(t, n.Lost+n.Duplicates+n.Reordered+n.Corrupt+n.Unexpected+n.Gaps, "%+v", n)
			}
		})
	}
}

// Each shard, or the main process, sees that the CPU is used up, and connections are refused until it is not.
func TestOverload(t *testing.T) {
	for _, args := range [][]string{nil, {"--opt", "1"}, {"--opt", "2"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			broker := startKafka(t, "t0")
			dir := idleCgroup(t)
			s := start(t, broker, append([]string{"--topics", "t0", "--cgroup", dir}, args...)...)
			f := newFeed(t, broker, 0, "t0")
			// Used up for as long as the file grows by more than the quota.
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for used := int64(1); ; used++ {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						name := filepath.Join(dir, "cpuacct/cpuacct.usage")
						_ = os.WriteFile(name+".new", fmt.Appendf(nil, "%d\n", used*int64(time.Hour)), 0o600)
						_ = os.Rename(name+".new", name)
					}
				}
			}()
			if len(args) > 0 && args[1] == "1" {
				before := s.stats()
				s.eventually("the main process reads", func(v *stats) bool {
					return v.Processes["main"]["cpu_reads_total"] >= before.Processes["main"]["cpu_reads_total"]+3
				})
			}
			// They come over two seconds: with a sample, those of its time are all taken or all refused.
			e, err := client.New(client.Options{Server: s.address, Host: s.address.String(), Protocol: client.Raw,
				Channels: f.channels, Clients: 60, Loops: 1, Dials: 6, ConnectRate: 30, AttemptTimeout: patience, Now: now})
			require.NoError(t, err)
			e.Start()
			h := &held{feed: f, engines: []*client.Engine{e}}
			h.eventually("clients are refused", func(n *client.Counters, _ bool) bool { return n.Refused > 100 })
			close(stop)
			<-ended
			h.eventually("all are held once there is CPU", func(n *client.Counters, _ bool) bool { return n.Held == 60 })
			n := h.close()
			require.Equal(t, []string{"HTTP 503 Service Unavailable"}, slices.Collect(maps.Keys(n[0].Refusals)))
		})
	}
}
