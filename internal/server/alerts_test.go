package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"wsd/internal/kafkatest"
	"wsd/internal/testutil"
)

// Each rule leads to a paragraph of the docs, has a test of its own, and asks for metrics that there are. So do the
// dashboards.
func TestRulesAndDashboards(t *testing.T) {
	runbook, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	tests, err := os.ReadFile("../../deploy/prometheus/wsd.rules.test.yml")
	require.NoError(t, err)
	live := ""
	for _, name := range []string{"alerts_test.go", "alertsmore_test.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		live += string(text)
	}
	table, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	known := func(where, expr string) {
		for _, name := range regexp.MustCompile(`\bwsd_\w+`).FindAllString(expr, -1) {
			name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			require.Contains(t, string(table), "| `"+name+"` |", where)
		}
	}
	for _, r := range mustRules(t) {
		known(r.Alert, r.Expr)
		require.Equal(t, "docs/operations.md#"+strings.ToLower(r.Alert), r.Annotations["runbook_url"])
		require.Contains(t, string(runbook), "\n### "+r.Alert+"\n", "docs/operations.md does not explain it")
		require.Contains(t, string(tests), "name: "+r.Alert+"\n", "no test of promtool")
		require.Contains(t, []string{"page", "ticket", "info"}, r.Labels["severity"], r.Alert)
		require.Contains(t, live, `"`+r.Alert+`"`, "no test lets it fire and clear")
	}
	for name, exprs := range mustExpressions(t) {
		for _, expr := range exprs {
			known(name, expr)
		}
	}
}

// The tables of docs/metrics.md have the rules: those that wake somebody first, each with its runbook and with metrics that
// it asks for.
func TestWhatToWatch(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	_, watch, found := strings.Cut(string(doc), "\n## What to watch\n")
	require.True(t, found)
	watch, tuning, found := strings.Cut(watch, "\n## When tuning\n")
	require.True(t, found)
	exprs := map[string]string{}
	bySeverity := map[string][]string{}
	for _, r := range mustRules(t) {
		exprs[r.Alert] = r.Expr
		bySeverity[r.Labels["severity"]] = append(bySeverity[r.Labels["severity"]], r.Alert)
		require.NotContains(t, tuning, r.Alert, "it stands twice")
	}
	var severities []string
	listed := map[string][]string{}
	for line := range strings.Lines(watch) {
		if m := regexp.MustCompile("`severity: ([a-z]+)`").FindStringSubmatch(line); m != nil {
			severities = append(severities, m[1])
		}
		m := regexp.MustCompile(`^\| \[(\w+)\]\((.*?)\) \| (.*) \|$`).FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		alert, runbook, metrics := m[1], m[2], regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(m[3], -1)
		severity := severities[len(severities)-1]
		listed[severity] = append(listed[severity], alert)
		require.Equal(t, "operations.md#"+strings.ToLower(alert), runbook)
		require.NotEmpty(t, metrics, alert)
		for _, metric := range metrics {
			require.Contains(t, exprs[alert], metric[1], alert)
		}
	}
	require.Equal(t, []string{"page", "ticket", "info"}, severities)
	require.Equal(t, bySeverity, listed)
}

// What promtool says of the rules, with a case in which each fires and one in which it does not.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: make setup")
	}
	for _, args := range [][]string{
		{"check", "rules", rulesPath}, {"test", "rules", strings.Replace(rulesPath, ".yml", ".test.yml", 1)},
	} {
		out, err := exec.Command(promtool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %v: %s", args, out)
	}
}

// alerting is a wsd under load, beside a Prometheus.
type alerting struct {
	*stalling
	kafka      *kafkatest.Cluster
	prometheus *prometheus
	tree       memoryTree
	topic      string
	running    sync.WaitGroup
	paused     atomic.Bool // No records are produced.
}

const alertClients = 20

// A real Prometheus scrapes a wsd under load: each expression of the dashboards and rules has a value, and nothing is
// wrong. Then something goes wrong, one after the other: its alert fires, and clears when it is over. Make test-alerts
// runs it.
func TestApacheKafkaAlerts(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("prometheus is not installed: make test-alerts")
	}
	a := newAlerting(t)
	p := a.prometheus
	for name, exprs := range mustExpressions(t) {
		for _, expr := range exprs {
			p.eventually(name+": "+expr, func() bool {
				n, err := p.series(expr)
				require.NoError(t, err)
				return n > 0
			})
		}
		t.Logf("%s: %d expressions, none empty", name, len(exprs))
	}
	for _, r := range mustRules(t) {
		parts := operands(regexp.MustCompile(`\[\d+m\]`).ReplaceAllString(r.Expr, "["+window+"]"))
		require.NotEmpty(t, parts, r.Alert)
		for _, part := range parts {
			n, err := p.series(part)
			require.NoError(t, err)
			require.Positive(t, n, "%s: %s", r.Alert, part)
		}
	}
	p.only("WsdNotSteering")

	p.goesWrong(a.slowClients, "WsdSlowClients")
	p.goesWrong(func() func() { a.tree.use(85); return func() { a.tree.use(0) } }, "WsdRefusingClients")
	p.goesWrong(func() func() {
		a.kafka.Stop(t, 1)
		return func() { a.kafka.Start(t, 1) }
	}, "WsdKafkaUnreachable")
	p.goesWrong(a.clockAhead, "WsdClockAhead")
	a.nativeHistogram()

	// While a shard is stalled and the bus is full, the source reads nothing, and Kafka deletes what it would have read.
	// Only when the shard goes on is it known how late its deliveries are, and how long the source has waited.
	p.goesWrong(a.backlog, "WsdShardStalled", "WsdBehindKafka")
	p.fired("WsdBusFull", "WsdDeliveriesLate", "WsdRecordsLost")
}

// nativeHistogram asks a Prometheus that takes native histograms for a quantile.
func (a *alerting) nativeHistogram() {
	a.t.Helper()
	native := startPrometheus(a.t, a.server.AdminAddress(), "--enable-feature=native-histograms")
	expr := "histogram_quantile(0.99, sum by (topic) (rate(wsd_delivery_latency_seconds[" + window + "])))"
	native.eventually("the native histogram has a quantile", func() bool {
		n, err := native.series(expr)
		require.NoError(a.t, err)
		return n == 1 && native.value(expr) > 0
	})
}

func newAlerting(t *testing.T) *alerting {
	t.Helper()
	k := kafkatest.Apache(t, 1)
	a := &alerting{stalling: &stalling{open: make(chan struct{})}, kafka: k, tree: newMemoryTree(t)}
	topic := k.Topic(t, 1)
	a.rig = &rig{t: t, log: &testutil.Buffer{}, hooks: hooks{positions: gated(a.open)}}
	a.start(configure(t, map[string]any{
		"kafka.brokers": k.Addrs(), "kafka.topics": []string{topic}, "shards": "2", "client.outbound_max": "600000",
		"bus.stall_max": "100s", "bus.ring_batches": "8", "admission.mode": "on", "admission.cgroup_root": a.tree.dir, "admission.ramp": "300ms",
		"admission.cpu_high": "100", "admission.lag_max": "1m", // CPU time is also the clients' here.
	}))
	t.Cleanup(a.release)
	a.ready()
	load, stop := context.WithCancel(t.Context())
	var conns []net.Conn
	for range alertClients {
		c := a.dial("/ws?channel=" + topic)
		conns = append(conns, c.conn)
		require.NoError(t, c.conn.SetDeadline(time.Time{})) // A shard is stalled for longer than clients of tests wait.
		a.running.Go(func() {
			for _, _, err := wsutil.ReadServerData(c.rw); err == nil; _, _, err = wsutil.ReadServerData(c.rw) {
			}
		})
	}
	producer := k.Client(t, kgo.MaxBufferedRecords(100), kgo.RecordDeliveryTimeout(time.Second))
	a.running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; load.Err() == nil; n++ {
			if !a.paused.Load() {
				producer.TryProduce(load, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n":%d}`, n)}, nil)
			}
			<-tick.C
		}
	})
	t.Cleanup(func() {
		stop()
		for _, c := range conns {
			c.Close()
		}
		a.running.Wait()
	})
	a.prometheus = startPrometheus(t, a.server.AdminAddress())
	a.topic = topic
	return a
}

// slowClients lets some clients read nothing while large records come.
func (a *alerting) slowClients() func() {
	var conns []net.Conn
	for range 5 {
		c := a.join(a.topic)
		raw, err := c.conn.(*net.TCPConn).SyscallConn()
		require.NoError(a.t, err)
		require.NoError(a.t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
		}))
		require.NoError(a.t, err)
		conns = append(conns, c.conn)
	}
	producer, value := a.kafka.Client(a.t), `"`+strings.Repeat("x", 100_000)+`"`
	a.prometheus.eventually("clients are closed as slow", func() bool {
		require.NoError(a.t, producer.ProduceSync(a.t.Context(), &kgo.Record{Topic: a.topic, Value: []byte(value)}).FirstErr())
		return a.metric(`wsd_closed_total{reason="slow",shard="0"}`)+a.metric(`wsd_closed_total{reason="slow",shard="1"}`) >= len(conns)
	})
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// clockAhead produces records whose timestamps have not come yet.
func (a *alerting) clockAhead() func() {
	producer := a.kafka.Client(a.t)
	return repeat(func() {
		record := &kgo.Record{Topic: a.topic, Value: []byte(`"early"`), Timestamp: time.Now().Add(10 * time.Minute)}
		if err := producer.ProduceSync(a.t.Context(), record).FirstErr(); err != nil {
			a.t.Error(err)
		}
	})
}

// backlog stalls a shard and produces more than the bus holds. In the end it deletes what the source has not read, and
// lets the shard go on. Records that come one by one would not do: the source is behind what its last response told it.
func (a *alerting) backlog() func() {
	a.paused.Store(true)
	a.stall()
	producer, value := a.kafka.Client(a.t), `"`+strings.Repeat("x", 1000)+`"`
	var burst []*kgo.Record
	for range 8000 {
		burst = append(burst, &kgo.Record{Topic: a.topic, Value: []byte(value)})
	}
	require.NoError(a.t, producer.ProduceSync(a.t.Context(), burst...).FirstErr())
	return func() {
		_, next := a.kafka.Range(a.t, a.topic, 0)
		a.kafka.DeleteRecords(a.t, a.topic, 0, next)
		a.paused.Store(false)
		a.release()
	}
}
