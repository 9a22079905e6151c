package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/child"
	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// A comparison starts itself as its Kafka, and keeps its process to one CPU: it runs in this program, but in a process of its own.
func TestMain(m *testing.M) {
	own := []string{"compare", "kafka", "workers", "proc", "reference", "shapes"}
	if len(os.Args) > 1 && slices.Contains(own, os.Args[1]) {
		os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr, false))
	}
	os.Exit(m.Run())
}

func TestCompareUsage(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	limit, err := clientsMax()
	require.NoError(t, err)
	one := strconv.Itoa(cpus[0])
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--cases", "other"}, "other"},
		{[]string{"--cpus", one}, "two or three"},
		{[]string{"--cpus", one + "," + one}, "must not share its CPU"},
		{[]string{"--cpus", "1023,1022"}, "may not use CPU 1023"},
		{[]string{"--rounds", "0"}, "--rounds 0"},
		{[]string{"--clients", "0"}, "--clients 0"},
		{[]string{"--channels", strconv.Itoa(limit + 1)}, "the limit of one process"},
		{[]string{"--shards", "1,2,1"}, "1 is a duplicate"},
		{[]string{"--shards", "257"}, "257"},
		{[]string{"--duration", "1ms"}, "--duration 1ms"},
		{[]string{"--timeout", "0s"}, "--timeout"},
		{[]string{"--protocol", "x"}, "raw"},
		{[]string{"--bin", t.TempDir()}, "program floor is not in"},
		{[]string{"--servers", "wsd,other"}, "other is neither floor"},
		{[]string{"--servers", "floor"}, "needs two"},
		{[]string{"--servers", "floor", "--tls"}, "needs two"},
		{[]string{"--server", "x"}, "NAME=COMMAND"},
	} {
		args := append([]string{"compare"}, tc.args...)
		if len(cpus) == 1 && tc.args[0] != "--cases" && tc.args[0] != "--protocol" && tc.args[0] != "--cpus" {
			continue // Two CPUs are needed before anything else.
		}
		status, out, errs := loadtest(context.Background(), args...)
		require.Equal(t, command.Usage, status, "%q", args)
		require.Empty(t, out)
		require.Contains(t, errs, tc.want, "%q", args)
	}
}

// programs builds the floor and wsd.
func programs(t *testing.T) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no C compiler gcc to build the floor with")
	}
	dir := t.TempDir()
	sources, err := filepath.Glob("floor/*.c")
	require.NoError(t, err)
	build := func(name string, args ...string) {
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	build(gcc, append([]string{"-O2", "-pthread", "-o", filepath.Join(dir, "floor")}, sources...)...)
	build("go", "build", "-o", filepath.Join(dir, "wsd"), "wsd/cmd/wsd")
	return dir
}

func TestCompare(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	if len(cpus) < 2 {
		t.Skip("a comparison needs two CPUs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "compare", "--bin", programs(t), "--rounds", "1", "--clients", "40", "--channels", "20",
		"--duration", "200ms", "--shards", "2", "--cases", "batch,compress,connect,latency,spread,chain", "--wsd-arg=--steering.mode=off", "--json")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s%s", &out, &errs)
	var r report.Comparison
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	require.True(t, r.Passed)
	require.Empty(t, r.Faults)
	cases := map[string]int{}
	for _, row := range r.Rows {
		cases[row.Case]++
		require.Equal(t, "wsd --shards 2", row.Server)
		require.Equal(t, 1, row.Ratio.Count, "%+v", row)
		require.Positive(t, row.Yardstick.Median, "%+v", row)
		require.Positive(t, row.Value.Median, "%+v", row)
	}
	require.Equal(t, map[string]int{"batch": 2, "compressed": 2, "text": 2, "connect": 1, "latency 50 %": 3, "latency 90 %": 3, "spread": 2, "chain": 1}, cases)
	require.Contains(t, errs.String(), "compare: 20 of 20")
}

// wsd and the reference, each with and without TLS. The reference needs no C compiler.
func TestCompareTLS(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	if len(cpus) < 2 {
		t.Skip("a comparison needs two CPUs")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "wsd"), "wsd/cmd/wsd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "compare", "--bin", dir, "--rounds", "1", "--clients", "20", "--channels", "10", "--duration", "200ms",
		"--servers", "wsd,reference", "--tls", "--shards", "1", "--cases", "single,spread", "--wsd-arg=--steering.mode=off", "--json")
	var stdout, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &errs
	require.NoError(t, cmd.Run(), "%s%s", &stdout, &errs)
	var r report.Comparison
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
	require.True(t, r.Passed, r.Faults)
	require.Equal(t, "wsd --shards 1", r.Yardstick)
	seen := map[string]string{}
	for _, row := range r.Rows {
		require.Positive(t, row.Value.Median, "%+v", row)
		if row.Case == "single" {
			seen[row.Server] = row.Target
		}
	}
	require.Equal(t, map[string]string{"wsd --shards 1, TLS": "≤ 1.25", "reference": "", "reference, TLS": ""}, seen)
}

// Connections from a shared accept queue, and by the kernel's hash. Steering needs privileges.
func TestSkew(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "wsd"), "wsd/cmd/wsd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, text, errs := loadtest(t.Context(), "skew", "--clients", "60", "--shards", "3", "--bin", dir, "--json")
	var r spreads
	require.NoError(t, json.Unmarshal([]byte(text), &r), errs)
	require.Len(t, r.Ways, 3)
	for i, way := range r.Ways {
		if i == 2 && way.Note != "" {
			require.Contains(t, way.Note, "wsd doctor")
			continue
		}
		require.Empty(t, way.Note, way.Name)
		require.Len(t, way.Connections, 3)
		require.Equal(t, int64(60), way.Connections[0]+way.Connections[1]+way.Connections[2])
		require.GreaterOrEqual(t, way.Share, report.Figure(1))
	}
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b))
	require.Contains(t, b.String(), "█")
	require.NoError(t, r.Page().Write(&b))
}

func TestNumbering(t *testing.T) {
	format, err := client.NewFormat(1, 128)
	require.NoError(t, err)
	o := numbering{channels: 3, format: format, now: func() int64 { return 1_790_000_000_000_000_000 }}
	var counts [3]uint64
	for n := uint64(1); n <= 8; n++ {
		i := o.channel(n)
		counts[i]++
		require.Equal(t, string(format.Append(nil, counts[i], o.now())), string(o.value(nil, n, 0)))
		for j, count := range counts {
			require.Equal(t, count, o.last(j, n), "record %d, channel %d", n, j)
		}
	}
	o.channels = 0
	require.Equal(t, uint64(8), o.last(0, 8))
	require.Equal(t, string(format.Append(nil, 8, o.now())), string(o.value(nil, 8, 0)))
}

func TestInterval(t *testing.T) {
	s := load{rate: 20}
	require.Equal(t, 50*time.Millisecond, s.interval(7))
	s.share = 0.5
	require.Equal(t, 100*time.Millisecond, s.interval(20))
}

// Each case that can be asked for has figures, and each figure a run that measures it.
func TestLoadsAndFigures(t *testing.T) {
	for _, name := range []string{"single", "batch", "1k", "16k", "compress", "connect", "memory", "latency", "spread", "chain"} {
		c := compare{Cases: []string{name}, Clients: 5000, Channels: 10_000, Protocol: "raw"}
		runs := map[string]bool{}
		for _, s := range c.loads() {
			runs[s.name] = true
		}
		yardsticks := map[string]bool{}
		for _, s := range c.yardsticks() {
			yardsticks[s.name] = true
		}
		require.NotEmpty(t, c.figures(), name)
		for _, f := range c.figures() {
			require.True(t, runs[f.load], "%s: %s", name, f.load)
			require.True(t, f.other == "" || runs[f.other] || yardsticks[f.other], "%s: %s", name, f.other)
		}
	}
}
