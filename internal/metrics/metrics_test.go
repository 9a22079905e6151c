package metrics

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/steering"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

func options(t testing.TB, shards int) Options {
	t.Helper()
	return optionsFor(t, shards, source.Options{Topics: []string{"a", "b"}})
}

func optionsFor(t testing.TB, shards int, so source.Options) Options {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	ring, err := bus.New(bus.Options{Shards: shards, Slots: 8, BytesMax: 1 << 20, StallMax: 1, Wake: func(routing.ShardID) {}, Logger: logger})
	require.NoError(t, err)
	so.Brokers, so.Interest, so.Ring, so.Logger = []string{"127.0.0.1:1"}, routing.NewInterest(), ring, logger
	src, err := source.New(so)
	require.NoError(t, err)
	steer, err := steering.New(steering.Options{
		Mode: steering.ModeOff, Shards: shards, Groups: 1, Values: steering.DefaultValues(shards), Logger: logger,
	})
	require.NoError(t, err)
	o := Options{
		Files:   &shard.Descriptors{Max: 123},
		Version: "v1", Commit: "c", Ring: ring.Stats(), Source: src.Stats(), Steering: steer, Memory: &shard.Memory{},
		Channels: func() int { return 3 }, Ready: func() bool { return true }, Drain: func() Drain { return Drain{} },
	}
	for range shards {
		o.Shards = append(o.Shards, &shard.Stats{})
	}
	return o
}

func scrape(t *testing.T, o Options) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, 200, w.Code)
	body, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(body)
}

func TestScrape(t *testing.T) {
	o := options(t, 2)
	o.Shards[0].Connections.Store(5)
	o.Shards[1].Closed[shard.ReasonSlow].Add(7)
	o.Source.Topics()[0].Deliveries.Shard(0).Observe(2*time.Millisecond, 200*time.Microsecond, 3, true)
	o.Source.Topics()[0].Deliveries.Shard(1).Observe(100*time.Second, time.Second, 1, true)
	o.Source.Topics()[1].Deliveries.Shard(1).Observe(-time.Second, time.Second, 6, true)
	o.Steering.Slot(1).EndTurn(7, 4, 0)
	o.Source.Topics()[1].Records.Add(9)
	o.Shards[0].AdmissionChecks.Add(11)
	o.Shards[1].AdmissionChecks.Add(2)
	o.Shards[1].AdmissionRefused.Add(5)
	o.Shards[1].Closed[shard.ReasonAdmission].Add(3)
	o.Shards[0].AdmissionDryRun.Add(4)
	o.Source.RecentBytes.Store(12)
	o.Ring.PinnedBytes.Store(34)
	for _, turn := range []uint64{3e6, 3e6, 1e12} {
		o.Shards[1].LongTurns.Add(turn)
	}
	text := scrape(t, o)
	for _, line := range []string{
		`wsd_cpu_checks_total 13`,
		`wsd_cpu_checks_cached_total 13`,
		`wsd_admission_refused_total{answer="reset",shard="1"} 3`,
		`wsd_admission_refused_total{answer="http",shard="1"} 2`,
		`wsd_admission_refused_total{answer="dry_run",shard="0"} 4`,
		`wsd_admission_overloads_total{cause="cpu"} 0`,
		`wsd_admission_refusing_ratio 0`,
		`wsd_admission_descriptors_left 123`, // Also while admission is off.
		`wsd_build_info{commit="c",version="v1"} 1`,
		`wsd_connections{shard="0"} 5`,
		`wsd_connections{shard="1"} 0`,
		`wsd_channels 3`,
		`wsd_memory_bytes{kind="clients"} 0`,
		`wsd_memory_bytes{kind="recent"} 12`,
		`wsd_memory_bytes{kind="pinned"} 34`,
		`wsd_shard_long_turn_seconds_bucket{le="0.002097152"} 0`,
		`wsd_shard_long_turn_seconds_bucket{le="0.004194304"} 2`,
		`wsd_shard_long_turn_seconds_count 3`,
		`wsd_closed_total{reason="slow",shard="1"} 7`,
		`wsd_steering_mode{mode="hash"} 1`,
		`wsd_steering_mode{mode="ebpf"} 0`,
		`wsd_steering_load{shard="1"} 3`,
		`wsd_steering_uncounted_total{shard="1"} 7`,
		`wsd_steering_pending{shard="1"} 0`,
		`wsd_steering_outcomes_total{outcome="picked_least_loaded"} 0`,
		`wsd_steering_refused_total{reason="admission"} 0`,
		`wsd_steering_notes_total{note="skipped_stalled"} 0`,
		`wsd_steering_settings_changed 0`,
		`wsd_kafka_records_total{topic="b"} 9`,
		`wsd_delivery_latency_seconds_bucket{topic="a",le="0.001"} 0`,
		`wsd_delivery_latency_seconds_bucket{topic="a",le="0.0025"} 3`,
		`wsd_delivery_latency_seconds_bucket{topic="a",le="60"} 3`,
		`wsd_delivery_latency_seconds_count{topic="a"} 4`,
		`wsd_delivery_latency_seconds_sum{topic="a"} 100.006`,
		`wsd_delivery_seconds_bucket{topic="a",le="0.0001"} 0`,
		`wsd_delivery_seconds_bucket{topic="a",le="0.00025"} 3`,
		`wsd_delivery_ahead_total{topic="a"} 0`,
		`wsd_delivery_ahead_total{topic="b"} 6`,
		`wsd_delivery_late_total{shard="1",stage="outbox"} 0`,
		`wsd_kafka_timestamps{clock="unknown",topic="a"} 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Contains(t, text, "go_goroutines ")
	require.Contains(t, text, "process_resident_memory_bytes ")
}

// Beyond a number of topics there is one value for all others, so a scrape does not grow, and sums stay right.
func TestTopicsUnlisted(t *testing.T) {
	topics := []string{"a", "b"}
	for i := range 998 {
		topics = append(topics, fmt.Sprintf("more.%d", i))
	}
	o := optionsFor(t, 1, source.Options{Topics: topics, TopicsListedMax: 2})
	for _, s := range o.Source.Topics() {
		s.Records.Add(3)
		s.Lost[source.LossRetention].Add(5)
		s.Deliveries.Shard(0).Observe(time.Second, time.Second, 2, true)
	}
	text := scrape(t, o)
	for _, line := range []string{
		`wsd_kafka_records_total{topic="a"} 3`,
		`wsd_kafka_records_total{topic="b"} 3`,
		`wsd_kafka_records_total{topic="(unlisted)"} 2994`,
		`wsd_delivery_latency_seconds_count{topic="a"} 2`,
		`wsd_delivery_latency_seconds_count{topic="(unlisted)"} 1996`,
		`wsd_kafka_lost_total{reason="retention",topic="(unlisted)"} 4990`,
		`wsd_kafka_lost_total{reason="missing",topic="(unlisted)"} 0`,
		`wsd_kafka_topics 1000`,
		`wsd_kafka_topics_unlisted 998`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, "more.")
	require.NotContains(t, scrape(t, options(t, 1)), `topic="(unlisted)"`, "no sum where every topic is listed")
	none := scrape(t, optionsFor(t, 1, source.Options{Topics: topics, TopicsListedMax: -1}))
	require.NotContains(t, none, `topic="a"`)
	require.Contains(t, none, "wsd_kafka_topics_unlisted 1000\n")
}

// Names follow Prometheus' conventions, and every family gives at least one value where something is there to count.
func TestNames(t *testing.T) {
	o := options(t, 1)
	text := scrape(t, o)
	seen := make(map[string]bool)
	for _, f := range families(o) {
		require.False(t, seen[f.name], f.name)
		seen[f.name] = true
		require.Equal(t, f.kind == counter, strings.HasSuffix(f.name, "_total"), f.name)
		require.True(t, strings.HasPrefix(f.name, "wsd_"), f.name)
		require.True(t, strings.HasSuffix(f.help, "."), "%s: help is no sentence", f.name)
		if slices.Contains(f.labels, "partition") {
			continue // No partition is known.
		}
		require.Contains(t, text, "# TYPE "+f.name+" "+f.kind.String()+"\n")
	}
}

func TestGoroutines(t *testing.T) {
	block, ready := make(chan struct{}), make(chan struct{})
	for range 3 {
		go pprof.Do(context.Background(), pprof.Labels("shard", "1", "component", `a "quoted" part`), func(context.Context) {
			ready <- struct{}{}
			<-block
		})
		<-ready
	}
	defer close(block)
	counts := goroutines()
	require.Equal(t, 3, counts[`a "quoted" part`])
	require.Positive(t, counts[""])
	require.Equal(t, map[string]int{"": 2, "x": 4}, countByComponent(bytes.NewBufferString(
		"goroutine profile: total 6\n2 @ 0x1 0x2\n#\t0x1\tf\n\n4 @ 0x1\n# labels: {\"component\":\"x\"}\n#\t0x1\tg\n")))
}

const (
	docPath = "../../docs/metrics.md"
	begin   = "<!-- made by `go test ./internal/metrics -update`; do not edit below -->\n"
)

func TestDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString(begin + "\n| metric | type | labels | what it tells |\n| --- | --- | --- | --- |\n")
	for _, f := range families(options(t, 1)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
	}
	doc, err := os.ReadFile(docPath)
	require.NoError(t, err)
	head, table, found := strings.Cut(string(doc), begin)
	require.True(t, found, "docs/metrics.md lacks the line that says what is generated")
	for _, r := range shard.Reasons() {
		require.Contains(t, head, "| `"+r.String()+"` |", "docs/metrics.md does not explain this reason")
	}
	for _, cause := range shard.Causes() {
		require.Contains(t, head, "| `"+string(cause)+"` |", "docs/metrics.md does not explain this cause")
	}
	if *update {
		require.NoError(t, os.WriteFile(docPath, []byte(head+b.String()), 0o600))
		return
	}
	require.Equal(t, b.String(), begin+table, "docs/metrics.md is not current: go test ./internal/metrics -update")
}

func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprintf("shards=%d", n), func(b *testing.B) {
			h := Handler(options(b, n))
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
			}
		})
	}
}
