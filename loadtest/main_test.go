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
		{"storm", "--help"}, {"churn", "--help"}, {"slow", "--help"}} {
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
	require.Equal(t, int64(20), r.Clients.OpenAtEnd)
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

func TestLoss(t *testing.T) {
	f := newFake(t, func(f *fake) { f.drop = []byte(`"000000000003"`) })
	status, out, _ := loadtest(context.Background(), f.args("fanout", "--clients", "5", "--duration", "100ms", "--rate", "100", "--json")...)
	require.Equal(t, command.Failed, status)
	r := mustReport(t, out)
	require.Equal(t, []string{"5 records were lost"}, r.Reasons)
	require.Equal(t, int64(5), r.Records.Gaps)
	require.Equal(t, int64(9*5), r.Records.Deliveries)
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
