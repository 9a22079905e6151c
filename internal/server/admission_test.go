package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/admin"
	"wsd/internal/shard"
	"wsd/internal/steering"
	"wsd/internal/testutil"
)

// memoryTree records a cgroup of version 2 with 1000 MB, whose use the test sets.
type memoryTree struct {
	t   testing.TB
	dir string
}

func newMemoryTree(t testing.TB) memoryTree {
	m := memoryTree{t, t.TempDir()}
	for name, text := range map[string]string{"cgroup.controllers": "cpu memory", "cpu.max": "max 100000", "memory.max": "1000000000", "memory.stat": "inactive_file 0"} {
		m.write(name, text)
	}
	m.use(0)
	return m
}

// write replaces a file as the kernel does: whoever reads it sees the old text or the new one.
func (m memoryTree) write(name, text string) {
	m.t.Helper()
	next := filepath.Join(m.dir, "next")
	require.NoError(m.t, os.WriteFile(next, []byte(text+"\n"), 0o600))
	require.NoError(m.t, os.Rename(next, filepath.Join(m.dir, name)))
}

func (m memoryTree) use(percent int) { m.write("memory.current", fmt.Sprint(percent*10_000_000)) }

func (r *rig) awaitAdmission(state string, percent int) admin.Admission {
	r.t.Helper()
	var a admin.Admission
	r.eventually(fmt.Sprintf("admission is %s at %d %%", state, percent), func() bool {
		a = r.server.Health().Admission
		return a.State == state && a.Percent == percent
	})
	return a
}

// metric returns the value of a metric.
func (r *rig) metric(name string) int {
	r.t.Helper()
	_, text := r.get("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	require.NotNil(r.t, m, name)
	v, err := strconv.ParseFloat(m[1], 64)
	require.NoError(r.t, err)
	return int(v)
}

// With memory short the kernel refuses by wsd's own entry, never by the operator's, and those who are connected notice
// nothing. /health, /ready, the log and metrics say so; afterwards everybody is welcome again.
func TestAdmissionInTheKernel(t *testing.T) {
	testutil.RequireBPF(t)
	tree := newMemoryTree(t)
	r := newRig(t, map[string]any{
		"steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t), "admission.mode": "on", "admission.cgroup_root": tree.dir, "admission.ramp": "300ms",
	})
	r.ready()
	connected := r.dial("/ws?channel=a")
	a := r.awaitAdmission(admin.AdmissionAccepting, 0)
	require.Equal(t, "reset", a.Answer)
	r.eventually("sampled", func() bool { return r.server.Health().Admission.MemoryLimitBytes == 1_000_000_000 })
	require.Empty(t, r.server.Health().Reasons)

	tree.use(80)
	a = r.awaitAdmission(admin.AdmissionRefusing, 100)
	require.Equal(t, "memory is scarce: 80 % of 953 MiB used (refused from 80 % on, until 75 %)", a.Reason)
	own, err := r.server.steering.Admission()
	require.NoError(t, err)
	require.EqualValues(t, 100, own)
	values, err := r.server.steering.Values()
	require.NoError(t, err)
	require.Equal(t, []uint32{0}, values["admission"], "the operator's entry is not wsd's to write")
	for range 20 {
		_, err := net.Dial("tcp", r.server.Addresses()[0].String())
		require.ErrorIs(t, err, unix.ECONNREFUSED)
	}
	h := r.server.Health()
	require.Equal(t, admin.StatusDegraded, h.Status)
	require.Equal(t, []string{"refusing 100 % of new clients: " + a.Reason}, h.Reasons)
	ready, reasons := r.server.Ready()
	require.False(t, ready)
	require.Equal(t, h.Reasons, reasons)
	require.Equal(t, 20, r.metric(`wsd_steering_refused_total{reason="admission"}`))
	require.Equal(t, 1, r.metric(`wsd_admission_refusing_ratio`))
	require.Equal(t, 1, r.metric(`wsd_admission_overloads_total{cause="memory"}`))
	r.produce("a", "", "one")
	require.Equal(t, "one", connected.message())

	tree.use(75)
	r.awaitAdmission(admin.AdmissionAccepting, 0)
	r.dial("/ws?channel=a")
	r.ready()
	require.Equal(t, admin.StatusOK, r.server.Health().Status)
	r.produce("a", "", "two")
	require.Equal(t, "two", connected.message())
	log := r.log.String()
	for _, text := range []string{"refusing a rising part of the new clients", "refusing all new clients", "accepting all new clients again"} {
		require.Equal(t, 1, strings.Count(log, text), text)
	}
}

// The answer http is a 503 that says when to come back. The kernel has nothing to do with it.
func TestAdmissionOverHTTP(t *testing.T) {
	tree := newMemoryTree(t)
	r := newRig(t, map[string]any{"admission.mode": "on", "admission.cgroup_root": tree.dir, "admission.answer": "http", "admission.retry_after": "7s"})
	r.ready()
	connected := r.dial("/ws?channel=a")
	tree.use(90)
	r.awaitAdmission(admin.AdmissionRefusing, 100)
	base := "http://" + r.server.Addresses()[0].String()
	get := func(path string, upgrade bool) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		require.NoError(t, err)
		if upgrade {
			for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
				req.Header.Set(name, value)
			}
		}
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp
	}
	for range 10 {
		resp := get("/ws?channel=a", true)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, seconds, 7)
		require.LessOrEqual(t, seconds, 14)
	}
	require.Equal(t, http.StatusOK, get("/healthz", false).StatusCode, "a load balancer keeps the connections that it has")
	r.produce("a", "", "one")
	require.Equal(t, "one", connected.message())
	_, text := r.get("/metrics")
	require.Regexp(t, `wsd_handshakes_rejected_total\{reason="admission",shard="\d"\} [1-9]`, text)
	tree.use(10)
	r.awaitAdmission(admin.AdmissionAccepting, 0)
	r.dial("/ws?channel=a")
}

// Where the kernel's hash chooses, shards reset. In a dry run nobody refuses, and it is counted who would have been.
func TestAdmissionWithoutTheKernel(t *testing.T) {
	for _, mode := range []string{"on", "dry-run"} {
		t.Run(mode, func(t *testing.T) {
			tree := newMemoryTree(t)
			r := newRig(t, map[string]any{"admission.cgroup_root": tree.dir, "admission.mode": mode})
			r.ready()
			tree.use(90)
			r.awaitAdmission(admin.AdmissionRefusing, 100)
			ready, _ := r.server.Ready()
			require.Equal(t, mode == "dry-run", ready)
			if mode == "dry-run" {
				r.dial("/ws?channel=a")
				require.Equal(t, admin.StatusOK, r.server.Health().Status)
				require.Contains(t, r.log.String(), "dry run: would refuse all new clients")
				sum := 0
				for i := range 3 {
					sum += r.metric(fmt.Sprintf(`wsd_admission_refused_total{answer="dry_run",shard="%d"}`, i))
				}
				require.Equal(t, 1, sum)
				return
			}
			d := ws.Dialer{Timeout: waitMax}
			_, _, _, err := d.Dial(t.Context(), "ws://"+r.server.Addresses()[0].String()+"/ws?channel=a")
			require.Error(t, err)
		})
	}
}

// With admission off nothing is measured, and /health says so.
// While only a part of the new clients is refused, load balancers go on to send some.
func TestAdmissionOfAPartIsReady(t *testing.T) {
	tree := newMemoryTree(t)
	r := newRig(t, map[string]any{"admission.mode": "on", "admission.cgroup_root": tree.dir, "admission.ramp": "1m"})
	r.ready()
	tree.use(80)
	r.eventually("refusing", func() bool { return r.server.Health().Admission.Percent > 0 })
	tree.use(77) // The level stays where it is.
	r.eventually("steady", func() bool { return r.server.Health().Admission.MemoryBytes == 770_000_000 })
	require.Less(t, r.server.Health().Admission.Percent, 100)
	ready, reasons := r.server.Ready()
	require.True(t, ready, reasons)
	require.Equal(t, admin.StatusDegraded, r.server.Health().Status)
}

// A dry run refuses nobody in the kernel either.
func TestAdmissionDryRunInTheKernel(t *testing.T) {
	testutil.RequireBPF(t)
	tree := newMemoryTree(t)
	r := newRig(t, map[string]any{
		"steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t), "admission.mode": "dry-run",
		"admission.cgroup_root": tree.dir, "admission.ramp": "300ms",
	})
	r.ready()
	tree.use(90)
	r.awaitAdmission(admin.AdmissionRefusing, 100)
	own, err := r.server.steering.Admission()
	require.NoError(t, err)
	require.Zero(t, own)
	for range 20 {
		r.dial("/ws?channel=a")
	}
	refused := uint64(0)
	for _, sh := range r.server.shards {
		refused += sh.Stats().AdmissionDryRun.Load()
	}
	require.EqualValues(t, 20, refused)
}

func TestAdmissionOff(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	got := r.server.Health().Admission
	require.Positive(t, got.DescriptorsLeft, "they are counted in every mode")
	got.DescriptorsLeft = 0
	require.Equal(t, admin.Admission{Mode: "off", Answer: "reset", State: admin.AdmissionOff}, got)
	r.dial("/ws?channel=a")
	require.Zero(t, r.metric("wsd_cpu_checks_total"))
}

func TestAdmissionCgroupRoot(t *testing.T) {
	cfg := configure(t, map[string]any{"admission.mode": "on", "admission.cgroup_root": t.TempDir()})
	_, err := newServer(cfg, Build{}, slog.New(slog.DiscardHandler), hooks{})
	require.ErrorContains(t, err, "is not a cgroup tree")
}

// 10,000 connects cause no read of the cgroup: what is read is read by the clock, at most 11 times a second.
func TestAdmissionChecks(t *testing.T) {
	r := newRig(t, map[string]any{"admission.mode": "on", "admission.lag_max": "1m", "client.defer_accept": "false"})
	r.ready()
	before := r.metric("wsd_cpu_checks_total") - r.metric("wsd_cpu_checks_cached_total")
	began := time.Now()
	var d net.Dialer
	for range 10_000 {
		c, err := d.DialContext(context.Background(), "tcp", r.server.Addresses()[0].String())
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).SetLinger(0)) // No port stays in TIME_WAIT.
		c.Close()
	}
	r.eventually("decided", func() bool { return r.metric("wsd_cpu_checks_cached_total") >= 10_000 })
	require.Equal(t, 10_000, r.metric("wsd_cpu_checks_cached_total"))
	reads := r.metric("wsd_cpu_checks_total") - r.metric("wsd_cpu_checks_cached_total") - before
	took := time.Since(began)
	require.LessOrEqual(t, reads, int(took/(100*time.Millisecond))+1, "in %v", took)
	t.Logf("%d reads of the cgroup in %v", reads, took)
}

// If the kernel cannot be told, shards refuse instead, and it is said once.
func TestShedderWithoutKernel(t *testing.T) {
	st, err := steering.New(steering.Options{Mode: steering.ModeOff, Shards: 1, Groups: 1, Values: steering.DefaultValues(1), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s := &shedder{shards: shard.NewAdmission(shard.AnswerReset, false, time.Second), steering: st, kernel: true, log: slog.New(slog.DiscardHandler)}
	s.Shed(40)
	require.Equal(t, 40, s.shards.Level())
	s.Shed(0)
	require.Zero(t, s.shards.Level())
}
