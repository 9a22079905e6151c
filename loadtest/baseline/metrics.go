package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wsd/internal/httpserve"
	"wsd/loadtest/baseline/shm"
)

// figure is one figure of every process.
type figure struct {
	name string
	kind prometheus.ValueType
	help string
	read func(*shm.Slot) *atomic.Int64
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// figures are all of them. The label process is main, or the number of a shard.
var figures = []figure{
	{"state", gauge, "0 down, 1 starting, 2 takes clients.", func(s *shm.Slot) *atomic.Int64 { return &s.State }},
	{"pid", gauge, "Process id.", func(s *shm.Slot) *atomic.Int64 { return &s.PID }},
	{"connections", gauge, "Clients.", func(s *shm.Slot) *atomic.Int64 { return &s.Connections }},
	{"tunnels", gauge, "Tunnels of the load balancer.", func(s *shm.Slot) *atomic.Int64 { return &s.Tunnels }},
	{"accepted_total", counter, "Upgrades.", func(s *shm.Slot) *atomic.Int64 { return &s.Accepted }},
	{"refused_total", counter, "Upgrades refused.", func(s *shm.Slot) *atomic.Int64 { return &s.Refused }},
	{"slow_total", counter, "Clients closed with a full queue.", func(s *shm.Slot) *atomic.Int64 { return &s.Slow }},
	{"deliveries_total", counter, "Messages queued for clients.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Deliveries }},
	{"duplicates_total", counter, "Messages that came again and were left out.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Duplicates }},
	{"kafka_records_total", counter, "Records read.", func(s *shm.Slot) *atomic.Int64 { return &s.Records }},
	{"kafka_polls_total", counter, "Times that records were handled.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Polls }},
	{"kafka_oversized_total", counter, "Records too large for the bus, left out.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Oversized }},
	{"bus_messages_total", counter, "Messages published.", func(s *shm.Slot) *atomic.Int64 { return &s.Published }},
	{"bus_flushes_total", counter, "Times that messages were sent.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Flushes }},
	{"bus_socket_writes_total", counter, "Writes to sockets of shards.",
		func(s *shm.Slot) *atomic.Int64 { return &s.SocketSends }},
	{"bus_ring_entries_total", counter, "Messages written into the ring.",
		func(s *shm.Slot) *atomic.Int64 { return &s.RingWrites }},
	{"bus_unrouted_total", counter, "Messages that a shard was spared, summed over shards.",
		func(s *shm.Slot) *atomic.Int64 { return &s.Unrouted }},
	{"cpu_reads_total", counter, "Reads of the cgroup's CPU time.",
		func(s *shm.Slot) *atomic.Int64 { return &s.CPUReads }},
	{"cpu_cached_total", counter, "Connections admitted or refused without such a read.",
		func(s *shm.Slot) *atomic.Int64 { return &s.CPUCached }},
	{"goroutines", gauge, "Goroutines.", func(s *shm.Slot) *atomic.Int64 { return &s.Goroutines }},
	{"cpu_nanoseconds_total", counter, "CPU time.", func(s *shm.Slot) *atomic.Int64 { return &s.CPUNanos }},
}

// processes returns the slots by label.
func (m *mainProcess) processes() map[string]*shm.Slot {
	list := map[string]*shm.Slot{"main": m.board.Slot(shm.Main)}
	for i := range m.c.Shards {
		list[strconv.Itoa(i)] = m.board.Slot(i)
	}
	return list
}

// Describe implements prometheus.Collector: none in advance, so the collector is unchecked.
func (m *mainProcess) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *mainProcess) Collect(to chan<- prometheus.Metric) {
	processes := m.processes()
	for _, f := range figures {
		desc := prometheus.NewDesc("baseline_"+f.name, f.help, []string{"process"}, nil)
		for label, slot := range processes {
			to <- prometheus.MustNewConstMetric(desc, f.kind, float64(f.read(slot).Load()), label)
		}
	}
	desc := prometheus.NewDesc("baseline_restarts_total", "Times that the shard ended unasked.", []string{"process"},
		nil)
	for i := range m.c.Shards {
		to <- prometheus.MustNewConstMetric(desc, counter, float64(m.restarts[i].Load()), strconv.Itoa(i))
	}
}

// stats is the answer of /stats.
type stats struct {
	Clients   string                      `json:"clients"` // Address for clients.
	Opts      []int                       `json:"opts"`
	Processes map[string]map[string]int64 `json:"processes"` // Figures of main and of each shard.
	Restarts  []int64                     `json:"restarts"`  // By shard.
}

func (m *mainProcess) stats() stats {
	s := stats{Clients: m.balancer.Addr(), Opts: m.on.numbers(), Processes: map[string]map[string]int64{}}
	for label, slot := range m.processes() {
		values := map[string]int64{}
		for _, f := range figures {
			values[f.name] = f.read(slot).Load()
		}
		s.Processes[label] = values
	}
	for i := range m.c.Shards {
		s.Restarts = append(s.Restarts, m.restarts[i].Load())
	}
	return s
}

// profileMax is how long a response may take: a CPU profile of a minute.
const profileMax = 70 * time.Second

func (m *mainProcess) serveMetrics(l net.Listener) *httpserve.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(m.stats()) // The client may have gone.
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /shard/{index}/debug/pprof/", m.shardProfiles())
	return httpserve.Start(httpserve.Options{Name: "metrics port", Component: "metrics", Listener: l, Handler: mux,
		Probe: func(*http.Request) bool { return false }, WriteTimeout: profileMax, Logger: m.log})
}
