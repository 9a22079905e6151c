package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/report"
)

// loadtest runs the command.
func loadtest(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = execute(ctx, args, &out, &errs, false)
	return status, out.String(), errs.String()
}

func mustReport(t *testing.T, text string) (r report.Result) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	return r
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"capacity", "--help"}, {"fanout", "--help"}, {"compare", "--help"}, {"soak", "--help"},
		{"storm", "--help"}, {"churn", "--help"}, {"slow", "--help"}, {"skew", "--help"}, {"shapes", "--help"}} {
		status, out, _ := loadtest(context.Background(), args...)
		require.Equal(t, command.OK, status)
		require.Contains(t, out, "Usage: loadtest")
		require.NotContains(t, out, "${", "every default is shown")
	}
}

func TestUsage(t *testing.T) {
	limit, err := clientsMax()
	require.NoError(t, err)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "expected one of"},
		{[]string{"other"}, "other"},
		{[]string{"capacity"}, "--target"},
		{[]string{"capacity", "--target", "0"}, "at least one"},
		{[]string{"capacity", "--target", strconv.Itoa(limit + 1)}, "one process may have"},
		{[]string{"capacity", "--target", "1", "--rate", "0.5"}, "less than 1"},
		{[]string{"fanout", "--clients", "1", "--rate", "0"}, "rate"},
		{[]string{"fanout", "--clients", "1", "--duration", "0s"}, "durations"},
		{[]string{"fanout", "--clients", "1", "--size", "10"}, "--size 10"},
		{[]string{"fanout", "--clients", "1", "--batch", "0"}, "--batch 0"},
		{[]string{"fanout", "--clients", "1", "--loops", "2"}, "--loops 2"},
		{[]string{"fanout", "--clients", "1", "--connect-rate=-1"}, "connect-rate"},
		{[]string{"fanout", "--clients", "1", "--protocol", "x"}, "raw"},
		{[]string{"fanout", "--clients", "1", "--source", "x"}, "neither auto nor none"},
		{[]string{"fanout", "--clients", "1", "--url", "http://127.0.0.1:1"}, "must be like"},
		{[]string{"fanout", "--clients", "1", "--insecure"}, "wss://"},
		{[]string{"fanout", "--clients", "1", "--url", "wss://127.0.0.1:1", "--ca", "/nothing"}, "--ca"},
		{[]string{"fanout", "--clients", "1", "--token-file", "/dev/null"}, "is empty"},
		{[]string{"fanout", "--clients", "1", "--channels", "2"}, "--channels 2"},
		{[]string{"fanout", "--clients", "1", "--fail-if", "p99"}, "must be like"},
		{[]string{"fanout", "--clients", "1", "--fail-if", "p98>1ms"}, "no figure p98"},
		{[]string{"fanout", "--clients", "1", "--fail-if", "p99>1h"}, "unit h"},
		{[]string{"storm", "--recover"}, "raw clients cannot recover"},
		{[]string{"storm", "--storms", "0"}, "--storms 0"},
		{[]string{"churn", "--per-second", "0"}, "--per-second 0"},
		{[]string{"slow", "--kinds", "x"}, "x"},
		{[]string{"skew", "--shards", "0"}, "--shards 0"},
		{[]string{"skew", "--bin", "/nothing"}, "program wsd is not in"},
	} {
		status, out, errs := loadtest(context.Background(), tc.args...)
		require.Equal(t, command.Usage, status, "%q", tc.args)
		require.Empty(t, out)
		require.Contains(t, errs, tc.want, "%q", tc.args)
	}
}

func TestCapacityPasses(t *testing.T) {
	f := newFake(t)
	status, out, errs := loadtest(context.Background(), f.args("capacity", "--target", "20", "--hold", "300ms", "--rate", "20", "--json")...)
	r := mustReport(t, out)
	require.Equal(t, command.OK, status, "%v %s", r.Reasons, errs)
	require.True(t, r.Passed)
	require.Equal(t, []uint64{6, 6}, []uint64{r.Records.Produced, r.Records.Accepted})
	require.Equal(t, int64(6*20), r.Records.Deliveries)
	require.Equal(t, int64(6*20), r.Latency.Count)
	require.Equal(t, int64(20), r.Clients.Held)
	require.Equal(t, int64(20), r.Clients.Open)
	require.Equal(t, &report.Shards{Count: 2, ConnectionsMax: 20, Connections: []int64{20, 0}, Steering: "hash"}, r.Shards)
	require.Nil(t, r.Server, "its CPU time is not that of a process here")
	require.Contains(t, r.ServerNote, "another machine")
	require.Regexp(t, `^passed: 20 clients held \S+, 120 of 120 records, p99 [0-9.]+ ms$`, r.Summary)
	require.Contains(t, errs, "connect: 20 of 20 connected")
	require.Contains(t, errs, "capacity: 20 of 20 connected, 120 records received")
}

func TestServerCosts(t *testing.T) {
	f := newFake(t)
	pid := strconv.Itoa(os.Getpid())
	status, out, _ := loadtest(context.Background(), f.args("fanout", "--clients", "4", "--duration", "50ms", "--pid", pid, "--json")...)
	r := mustReport(t, out)
	require.Equal(t, command.OK, status, "%v", r.Reasons)
	require.Positive(t, r.Server.RSSBefore)
	require.Equal(t, pid, strconv.Itoa(r.Server.PID))
	require.Empty(t, r.ServerNote)
}

// Two topics, records during the ramp, several records a request, text.
func TestFanoutPasses(t *testing.T) {
	f := newFake(t)
	status, out, errs := loadtest(context.Background(), f.args("fanout", "--clients", "7", "--duration", "200ms", "--rate", "100", "--batch", "4",
		"--ramp-rate", "200", "--connect-rate", "100", "--topic", "loadtest,other", "--loops", "2")...)
	require.Equal(t, command.OK, status, "%s %s", out, errs)
	require.True(t, strings.HasPrefix(out, "passed: 7 clients held"), out)
}

// Clients in several processes count as one run, also while records are produced during the ramp.
func TestProcs(t *testing.T) {
	f := newFake(t)
	status, out, errs := loadtest(t.Context(), f.args("storm", "--clients", "11", "--procs", "3", "--topic", "loadtest,other", "--every", "300ms",
		"--rate", "50", "--ramp-rate", "100", "--connect-rate", "100", "--json")...)
	require.NotEmpty(t, out, errs)
	r := mustReport(t, out)
	require.Equal(t, command.OK, status, "%v %s", r.Reasons, errs)
	require.Equal(t, []int64{11, 11, 11, 11}, []int64{r.Clients.Held, r.Clients.Open, r.Clients.Rejoined, r.Clients.ConnectTime.Count})
	require.Equal(t, r.Records.Deliveries, r.Latency.Count)
	require.Positive(t, r.Loadtest.Lag.Count)
}

// A server that does something wrong is caught, whatever it is.
func TestFaultyServer(t *testing.T) {
	var kept []byte
	third := func(do func(f *fake, value []byte) [][]byte) func(*fake, int, []byte) [][]byte {
		return func(f *fake, n int, value []byte) [][]byte {
			if n == 3 {
				return do(f, value)
			}
			return [][]byte{value}
		}
	}
	for _, tc := range []struct {
		name  string
		fault func(f *fake, n int, value []byte) [][]byte
		want  []string // Reasons.
	}{
		{"loses", third(func(*fake, []byte) [][]byte { return nil }), []string{"5 records were lost"}},
		{"loses the last", func(_ *fake, n int, value []byte) [][]byte {
			if n == 10 {
				return nil
			}
			return [][]byte{value}
		}, []string{"5 records were lost"}},
		{"duplicates", third(func(_ *fake, value []byte) [][]byte { return [][]byte{value, value} }), []string{"5 records arrived again"}},
		{"reorders", func(_ *fake, n int, value []byte) [][]byte {
			switch n {
			case 3:
				kept = value
				return nil
			case 4:
				return [][]byte{value, kept}
			default:
				return [][]byte{value}
			}
		}, []string{"5 records arrived after a later one"}},
		{"changes", third(func(_ *fake, value []byte) [][]byte { return [][]byte{append(value, ' ')} }),
			[]string{"5 records were lost", "5 records had other bytes than were produced"}},
		{"adds", third(func(_ *fake, value []byte) [][]byte { return [][]byte{value, []byte("hello")} }),
			[]string{"5 records had other bytes than were produced"}},
		{"delays", third(func(_ *fake, value []byte) [][]byte { time.Sleep(300 * time.Millisecond); return [][]byte{value} }),
			[]string{"criterion max > 250ms: max is"}},
		{"closes", third(func(f *fake, value []byte) [][]byte {
			f.say(ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "try later")))
			return [][]byte{value}
		}), []string{"5 clients were disconnected: 1013 try later (5)", "40 records did not reach clients that were disconnected"}},
		{"cuts", third(func(f *fake, value []byte) [][]byte { f.cut(); return [][]byte{value} }),
			[]string{"5 clients were disconnected: 1006 ", "40 records did not reach clients that were disconnected"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, func(f *fake) { f.fault = tc.fault })
			status, out, _ := loadtest(t.Context(), f.args("fanout", "--clients", "5", "--duration", "100ms", "--rate", "100", "--json",
				"--fail-if", "max > 250ms")...)
			require.Equal(t, command.Failed, status)
			r := mustReport(t, out)
			require.False(t, r.Passed)
			require.Regexp(t, "^not passed: ", r.Summary)
			if tc.name != "delays" && len(r.Reasons) > 0 && strings.Contains(r.Reasons[len(r.Reasons)-1], "criterion") {
				r.Reasons = r.Reasons[:len(r.Reasons)-1] // A busy machine delays too.
			}
			require.Len(t, r.Reasons, len(tc.want), "%q", r.Reasons)
			for i, want := range tc.want {
				require.Contains(t, r.Reasons[i], want)
			}
		})
	}
}

// The load generator says when a latency is partly its own.
func TestWarnings(t *testing.T) {
	at := func(lag report.Figure) *report.Result {
		r := &report.Result{Run: report.Run{DurationSeconds: 1}, Latency: report.Micros{P50: 1000, P99: 10_000}}
		r.Loadtest.Lag = report.Micros{P50: 1, P99: lag}
		return r
	}
	require.Empty(t, warnings(at(500)))
	require.Empty(t, warnings(at(report.NA)))
	require.Contains(t, strings.Join(warnings(at(600)), ""), "loops were 0.60 ms late (p99), which is 6 % of the latency's p99, 10 ms")
	r := at(1)
	r.Records.LateMaxMillis = 60
	require.Contains(t, strings.Join(warnings(r), ""), "60 ms late")
}

func TestCriteria(t *testing.T) {
	r := &report.Result{Latency: report.Micros{P99: 50_000, P50: report.NA}, Server: &report.Server{CPUPercent: 80}}
	for text, want := range map[string]string{
		"p99>50ms": "", "p99>=50ms": "criterion p99>=50ms: p99 is 50000", "p99 < 1s": "criterion p99 < 1s: p99 is 50000", "p99<50000us": "",
		"cpu>75%": "criterion cpu>75%: cpu is 80", "p50>1s": "criterion p50>1s: p50 is n/a", "connections-per-shard>1": "criterion connections-per-shard>1: connections-per-shard is n/a",
	} {
		list, err := parseCriteria([]string{text})
		require.NoError(t, err)
		require.Equal(t, want, list[0].failure(r))
	}
}

// A search ends at the highest number of clients that passes.
func TestSearch(t *testing.T) {
	for _, highest := range []int{0, 1, 37, 1000} {
		c := capacity{Target: 1000}
		best, err := c.search(t.Context(), func(clients int) (*report.Result, error) {
			require.Positive(t, clients)
			return &report.Result{Passed: clients <= highest, Run: report.Run{Clients: clients}}, nil
		})
		require.NoError(t, err)
		require.Equal(t, highest > 0 && highest >= 10, best.Passed && best.Run.Clients > highest-10, "%+v", best)
		require.LessOrEqual(t, len(best.Rounds), roundsMax)
	}
}

func TestStormAndChurn(t *testing.T) {
	f := newFake(t)
	status, out, errs := loadtest(t.Context(), f.args("storm", "--clients", "20", "--every", "200ms", "--storms", "2", "--rate", "50", "--json")...)
	r := mustReport(t, out)
	require.Equal(t, command.OK, status, "%v %s", r.Reasons, errs)
	require.Equal(t, []int64{40, 40, 20}, []int64{r.Clients.Moved, r.Clients.Rejoined, r.Clients.Open})
	require.Len(t, r.Rounds, 2)
	status, out, errs = loadtest(t.Context(), f.args("churn", "--clients", "20", "--duration", "500ms", "--per-second", "100", "--json")...)
	r = mustReport(t, out)
	require.Equal(t, command.OK, status, "%v %s", r.Reasons, errs)
	require.Greater(t, r.Clients.Rejoined, int64(10))
}

func TestSlow(t *testing.T) {
	for _, procs := range []string{"1", "3"} {
		f := newFake(t)
		status, out, errs := loadtest(t.Context(), f.args("slow", "--clients", "20", "--share", "0.5", "--duration", "3s", "--stop-max", "1s", "--procs", procs,
			"--json")...)
		require.NotEmpty(t, out, errs)
		r := mustReport(t, out)
		require.Equal(t, command.OK, status, "%v %s", r.Reasons, errs)
		// One that resets its connection before the upgrade does so after a second at most, and is back after another one.
		require.GreaterOrEqual(t, r.Disturbed.Connected, int64(10), "the disturbing clients connect, and come back")
		require.Equal(t, int64(10*60), r.Records.Deliveries)
	}
}

// Profiles are saved during the hold. A server that serves none fails the run, which says how to get them.
func TestProfileAndHTML(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, func(f *fake) { f.pprof = true })
	status, out, errs := loadtest(t.Context(), f.args("fanout", "--clients", "2", "--duration", "100ms", "--profile", dir, "--html", dir+"/report.html")...)
	require.Equal(t, command.OK, status, "%s %s", out, errs)
	for file, want := range map[string]string{"cpu.pprof": "/debug/pprof/profile", "heap.pprof": "/debug/pprof/heap", "goroutine.pprof": "/debug/pprof/goroutine",
		"report.html": "passed: 2 clients held"} {
		text, err := os.ReadFile(dir + "/" + file)
		require.NoError(t, err)
		require.Contains(t, string(text), want)
	}
	f = newFake(t)
	status, _, errs = loadtest(t.Context(), f.args("fanout", "--clients", "2", "--duration", "100ms", "--profile", dir)...)
	require.Equal(t, command.Failed, status)
	require.Regexp(t, "(?s)--profile: .* answers HTTP 404.*ENABLE_PPROF=true", errs)
}

func TestDisconnect(t *testing.T) {
	f := newFake(t, func(f *fake) {
		f.after = func(n int) {
			if n == 2 {
				f.cut()
			}
		}
	})
	status, out, _ := loadtest(context.Background(), f.args("fanout", "--clients", "3", "--duration", "200ms", "--rate", "20")...)
	require.Equal(t, command.Failed, status)
	require.Regexp(t, `^not passed: 0 of 3 clients held`, out)
	require.Contains(t, out, "\n  3 clients were disconnected: 1006 end of the stream (3)\n"+
		"  6 records did not reach clients that were disconnected\n")
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := newFake(t, func(f *fake) {
		f.after = func(n int) {
			if n == 2 {
				cancel()
			}
		}
	})
	status, out, _ := loadtest(ctx, f.args("capacity", "--target", "3", "--hold", "1h", "--rate", "50", "--json")...)
	require.Equal(t, command.Failed, status)
	r := mustReport(t, out)
	require.True(t, r.Interrupted)
	require.Equal(t, []string{"interrupted by a signal"}, r.Reasons, "what was produced was delivered")
	require.Equal(t, int64(3*r.Records.Produced), r.Records.Deliveries)
}

func TestCannotBegin(t *testing.T) {
	f := newFake(t, func(f *fake) { f.topics = `{"name":"a","state":"present"}` })
	status, _, errs := loadtest(context.Background(), f.args("fanout", "--clients", "1")...)
	require.Equal(t, command.Failed, status)
	require.Contains(t, errs, "does not serve topic loadtest")
	require.NotContains(t, errs, "created topic")
}

func TestRampTimeout(t *testing.T) {
	f := newFake(t)
	status, out, _ := loadtest(context.Background(), append(f.args("fanout", "--clients", "50", "--connect-rate", "10", "--duration", "50ms", "--json"),
		"--timeout", "450ms")...)
	require.Equal(t, command.Failed, status)
	r := mustReport(t, out)
	require.Less(t, r.Clients.Held, int64(50))
	require.Positive(t, r.Clients.Held, "those that were held are tested")
	require.Equal(t, r.Clients.Held, r.Records.Deliveries)
	require.Contains(t, r.Reasons[0], "of 50 clients: not enough time")
}

func TestSources(t *testing.T) {
	for _, tc := range []struct {
		source, server string
		clients        int
		want           []string
	}{
		{"auto", "127.0.0.1", 12_000, []string{"127.0.0.1", "127.0.0.2"}},
		{"auto", "127.0.0.1", 10_000, []string{"127.0.0.1"}},
		{"auto", "192.0.2.1", 12_000, nil},
		{"auto", "::1", 12_000, nil},
		{"none", "127.0.0.1", 12_000, nil},
		{"127.0.0.9, 127.0.0.8", "127.0.0.1", 1, []string{"127.0.0.9", "127.0.0.8"}},
	} {
		list, err := sources(tc.source, netip.MustParseAddr(tc.server), tc.clients)
		require.NoError(t, err)
		var got []string
		for _, a := range list {
			got = append(got, a.String())
		}
		require.Equal(t, tc.want, got)
	}
}

func TestReasons(t *testing.T) {
	require.Equal(t, "b (3), a (2), c (2)", reasons(map[string]int64{"a": 2, "b": 1}, map[string]int64{"b": 2, "c": 2}))
}

func TestClock(t *testing.T) {
	c := clock{wall: 1000, start: time.Now().Add(-time.Hour)}
	require.GreaterOrEqual(t, c.now(), 1000+time.Hour.Nanoseconds())
}
