package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/child"
)

// The table starts itself as its Kafka and to enter cgroups, and keeps its process to one CPU: it runs in this program,
// but in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == kafkaCommand || os.Args[1] == enterCommand || os.Args[1] == "--short") {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The short form runs the whole way: Kafka, cgroup, both systems, clients, document and plots.
func TestShort(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	group, err := newGroup("test", 1)
	if err != nil && os.Getenv("WSD_REQUIRE_ROOT") == "" || len(cpus) < 2 {
		t.Skip("needs root, a cgroup of version 1 and two CPUs:", err)
	}
	require.NoError(t, err)
	require.NoError(t, group.remove())
	bin, out := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "wsd/cmd/wsd", "wsd/loadtest/baseline")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	table := exec.CommandContext(t.Context(), os.Args[0], "--short", "--bin", bin, "--out", out)
	text, err = table.CombinedOutput()
	require.NoError(t, err, "%s", text)

	var runs map[string][]measure
	file, err := os.ReadFile(filepath.Join(out, "results/runs.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(file, &runs))
	require.Len(t, runs, 4)
	for key, list := range runs {
		require.Len(t, list, 1)
		m := list[0]
		require.Empty(t, m.Failure, key)
		// A busy machine may refuse some.
		require.Positive(t, m.Held, key)
		require.Positive(t, m.CPUDelivery, key)
		require.Positive(t, m.CPUConnection, key)
		require.Positive(t, m.Goroutines, key)
		require.Positive(t, m.P99, key)
	}
	document, err := os.ReadFile(filepath.Join(out, "results.md"))
	require.NoError(t, err)
	require.Contains(t, string(document), "| bare |")
	require.Contains(t, string(document), "| **wsd** |")
	require.Contains(t, string(document), "+3846 to +5446 (+81 to +115 %)")
	left, err := filepath.Glob("/sys/fs/cgroup/cpu*/plantable-*")
	require.NoError(t, err)
	for _, dir := range left {
		require.NotContains(t, dir, "plantable-"+strconv.Itoa(table.Process.Pid), "the cgroup is removed")
	}
}

// The rows are those that the plan names, each with its estimate.
func TestRows(t *testing.T) {
	rows := allRows()
	require.Len(t, rows, 2*13+3)
	keys := map[string]bool{}
	for _, r := range rows {
		keys[r.key()] = true
		require.NotEmpty(t, r.title())
		require.NotEmpty(t, r.estimate())
	}
	require.Len(t, keys, len(rows), "no key twice")
	for _, key := range []string{"none at 3", "none at 7", "all at 3", "all at 7", "1 at 3", "11 at 7", "wsd at 3", "wsd at 7",
		"wsd at 64"} {
		require.True(t, keys[key], key)
	}
	require.Equal(t, "+800 to +1200 (+17 to +25 %)", row{"baseline", 5, 7}.estimate())
	require.Equal(t, []string{"--shards", "7", "--all"}, row{"baseline", optAll, 7}.args())
	require.Equal(t, []string{"--shards", "3", "--opt", "9"}, row{"baseline", 9, 3}.args())
}

// A document has medians, ranges, gains over the bare system of as many shards, what is missing and what failed.
func TestDocument(t *testing.T) {
	c := &config{Clients: 8000, CPU: 0.5, Rounds: 2, Rows: ".", CPUs: []int{0, 1}, Hold: time.Second, Window: time.Second}
	require.NoError(t, c.checkRows())
	r := &results{config: c, values: map[string][]measure{
		"none at 3": {{Held: 3000, P99: 12.34}, {Held: 4000, P99: 12.34}},
		"none at 7": {{Held: 2000}, {Held: 2000}},
		"3 at 7":    {{Held: 2500}, {Failure: "broken"}},
		"wsd at 3":  {{Held: 8000, CPUDelivery: 8.25}, {Held: 8000, CPUDelivery: 8.35}},
		"8 at 3":    {{Failure: "a\nb"}},
	}}
	text := string(r.document())
	for _, want := range []string{
		"With a cap of 0.5 CPUs, the bare baseline with 3 shards held 3,500 of 8,000 clients (44 %), wsd 8,000.",
		"| bare | 3,500 (3,000–4,000) | – | 5180 of 12000 held (43 %), 1762 per core | n/a | n/a | n/a | n/a | 12 |",
		"| 3 Kafka batches | 2,500 | +500 (+25 %) | +300 to +400 (+6 to +8 %) |",
		"| 8 goroutine pool | failed | – |",
		"| **wsd** | 8,000 | – | – | n/a | 8.3 |",
		"| held here, per CPU of the cap | 7,000 | 4,000 | 16,000 |",
		"fewer per core than with 3: 57 % of it",
		"Run 1 of 8 at 3 failed: a; b.", "Run 2 of 3 at 7 failed: broken.",
	} {
		require.Contains(t, text, want)
	}
	r.values["none at 7"] = []measure{{Held: 3600}}
	require.Contains(t, string(r.document()), "does **not** hold fewer per core")
	plot := r.plot("a & b", held)
	d := xml.NewDecoder(bytes.NewReader(plot))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.Contains(t, string(plot), "a &amp; b")
	require.Contains(t, string(plot), "failed")
}

// A table that was interrupted goes on with the runs that are missing, and with those that failed.
func TestResume(t *testing.T) {
	c := &config{Clients: 8000, CPU: 0.5, Rate: 400, Rounds: 2, Rows: "^(none|all|wsd) at 3$", Hold: 5 * time.Second, Window: 10 * time.Second, Out: t.TempDir(), CPUs: []int{0, 1}}
	require.NoError(t, c.checkRows())
	require.Equal(t, 41*time.Second, c.runTime())
	keys := func(rows []row) (list []string) {
		for _, r := range rows {
			list = append(list, r.key())
		}
		return list
	}
	first := &results{config: c, begun: time.Now().Round(0), values: map[string][]measure{}}
	require.ErrorContains(t, first.resume(), "--resume: open")
	require.Equal(t, []string{"none at 3", "wsd at 3", "all at 3", "all at 3", "wsd at 3", "none at 3"}, keys(first.turns()))
	first.values = map[string][]measure{"none at 3": {{Held: 1}}, "wsd at 3": {{Failure: "broken"}}, "all at 3": {{Held: 2}, {Held: 3}}}
	first.took = time.Minute
	require.NoError(t, first.save())
	first.incomplete = true
	require.NoError(t, first.write(c.Out))
	document, err := os.ReadFile(filepath.Join(c.Out, "results.md"))
	require.NoError(t, err)
	require.Contains(t, string(document), "**Interrupted")

	second := &results{config: c, values: map[string][]measure{}}
	require.NoError(t, second.resume())
	require.Equal(t, []string{"wsd at 3", "wsd at 3", "none at 3"}, keys(second.turns()))
	require.Equal(t, time.Minute, second.before)
	require.True(t, first.begun.Equal(second.begun))
	c.Clients = 4000
	require.ErrorContains(t, second.resume(), "other options: --cpu 0.5 --clients 8000")
}

// A row that fails is a line of the table. An end in between leaves the runs so far, and writes them.
func TestFailingRow(t *testing.T) {
	cpus, err := child.CPUs()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &config{Clients: 80, CPU: 0.5, Rate: 400, Rounds: 1, Rows: "^(none|all) at 3$", Hold: time.Second, Window: time.Second, Out: t.TempDir(),
		Bin: t.TempDir(), CPUs: []int{cpus[0], cpus[len(cpus)-1]}}
	require.NoError(t, c.checkRows())
	var log bytes.Buffer
	require.NoError(t, c.table(ctx, &log))
	require.Regexp(t, `^2 runs of about 8s: 16s, until .*\nrun 1 of 2, none at 3 +failed: .*\nrun 2 of 2, all at 3 +failed: `, log.String())
	require.NoFileExists(t, filepath.Join(c.Out, "results/partial.json"), "the table is complete")
	document, err := os.ReadFile(filepath.Join(c.Out, "results.md"))
	require.NoError(t, err)
	require.Contains(t, string(document), "Run 1 of all at 3 failed: ")
	cancel()
	require.ErrorContains(t, c.table(ctx, &log), "repeat with --resume")
}

// The cap is found also where a step of 1.2 jumps over it.
func TestNextCap(t *testing.T) {
	for _, fits := range []float64{0.1, 0.39, 0.395, 0.41, 0.8} {
		cpu, low, high, tries := 0.36, 0.0, 0.0, 0
		for ; math.Abs(cpu-fits) > 0.01*fits; tries++ {
			require.Less(t, tries, 15, "%g: %g", fits, cpu)
			cpu, low, high = nextCap(cpu, low, high, cpu < fits)
		}
	}
	cpu, _, _ := nextCap(0.4, 0.5, 0, false)
	require.InDelta(t, 0.4/capStep, cpu, 1e-9, "bounds that contradict each other, by other work of the machine, do not count")
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--clients 1", "--clients 1 must be between 80 and"},
		{"--clients 99999999", "two descriptors for each"},
		{"--rounds 0", "--rounds 0 must be between"},
		{"--cpu 0.01", "--cpu 0.01 must be 0 or between"},
		{"--cpu 0 --calibrate", "--calibrate needs a --cpu"},
		{"--rate 1", "--rate 1 must be between"},
		{"--messages 0", "--messages 0 must be between"},
		{"--own 1000", "--own 1000"},
		{"--size 1", "--size 1 must be between"},
		{"--window 1ms", "--window must be between"},
		{"--rows (", "--rows: error parsing regexp"},
		{"--rows zzz", `fits no row`},
		{"--bin /nowhere", "program baseline is not in /nowhere"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, command.Usage, run(context.Background(), strings.Fields(c.args), &out, &errs), c.args)
		require.Contains(t, errs.String(), c.want, c.args)
	}
}
