package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results are all runs.
type results struct {
	*config
	begun  time.Time
	took   time.Duration
	values map[string][]measure // By row.
}

// good are the runs of a row that did not fail.
func (r *results) good(key string) (list []measure) {
	for _, m := range r.values[key] {
		if m.Failure == "" {
			list = append(list, m)
		}
	}
	return list
}

// median of a figure over the rounds, with its least and most. ok is false where there is none.
func (r *results) median(key string, of func(measure) float64) (mid, least, most float64, ok bool) {
	var list []float64
	for _, m := range r.good(key) {
		list = append(list, of(m))
	}
	if len(list) == 0 {
		return 0, 0, 0, false
	}
	slices.Sort(list)
	mid = (list[(len(list)-1)/2] + list[len(list)/2]) / 2
	return mid, list[0], list[len(list)-1], true
}

func held(m measure) float64          { return float64(m.Held) }
func cpuConnection(m measure) float64 { return m.CPUConnection }
func cpuDelivery(m measure) float64   { return m.CPUDelivery }
func memory(m measure) float64        { return m.Memory / 1024 }
func goroutines(m measure) float64    { return m.Goroutines }
func p99(m measure) float64           { return m.P99 }

// format writes a figure with at most three digits that mean something.
func format(v float64) string {
	switch {
	case v == 0:
		return "n/a"
	case v < 10:
		return fmt.Sprintf("%.2g", v)
	case v < 100:
		return fmt.Sprintf("%.0f", v)
	default:
		return thousands(int64(v + 0.5))
	}
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// cell is a figure of a row.
func (r *results) cell(key string, of func(measure) float64) string {
	mid, _, _, ok := r.median(key, of)
	if !ok {
		return "failed"
	}
	return format(mid)
}

// heldCell is the number held, with its range when rounds differ.
func (r *results) heldCell(key string) string {
	mid, least, most, ok := r.median(key, held)
	switch {
	case !ok:
		return "failed"
	case least == most:
		return thousands(int64(mid))
	default:
		return fmt.Sprintf("%s (%s–%s)", thousands(int64(mid)), thousands(int64(least)), thousands(int64(most)))
	}
}

// gain is how many more connections than the bare baseline with as many shards.
func (r *results) gain(x row) string {
	base, _, _, ok := r.median(row{"baseline", 0, x.shards}.key(), held)
	mid, _, _, ok2 := r.median(x.key(), held)
	if !ok || !ok2 || base == 0 || x.opt == 0 {
		return "–"
	}
	return fmt.Sprintf("%+.0f (%+.0f %%)", mid-base, 100*(mid-base)/base)
}

// write writes results.md, its plots and the figures of all runs.
func (r *results) write(dir string) error {
	plots := filepath.Join(dir, "results")
	if err := os.MkdirAll(plots, 0o755); err != nil { //nolint:gosec // Documents for everybody.
		return fmt.Errorf("make the directory of results: %w", err)
	}
	figures, err := json.MarshalIndent(r.values, "", " ")
	if err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	files := map[string][]byte{
		"results.md": r.document(), "results/runs.json": append(figures, '\n'),
		"results/held.svg":     r.plot("Connections held of "+thousands(int64(r.Clients)), held),
		"results/cpu.svg":      r.plot("CPU per delivery, µs", cpuDelivery),
		"results/connect.svg":  r.plot("CPU per connection, µs", cpuConnection),
		"results/memory.svg":   r.plot("Memory per connection, KiB", memory),
		"results/routines.svg": r.plot("Goroutines", goroutines),
		"results/p99.svg":      r.plot("Latency of records, p99, ms", p99),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { //nolint:gosec // As above.
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}

// document is results.md.
func (r *results) document() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The plan's table\n\n%s\n\n", r.sentence())
	if r.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", r.Note)
	}
	b.WriteString("The plan is that of the system before wsd; `bin/baseline` is that system in small, with the plan's " +
		"optimisations as switches ([baseline.md](baseline.md)). The plan's estimates are for 12,000 clients on " +
		"other machines, so compare its percentages, not its numbers.\n\n")
	for _, shards := range []int{3, 7} {
		r.table(&b, shards)
	}
	r.perCore(&b)
	b.WriteString("## Plots\n\n")
	for _, p := range [][2]string{{"held", "Connections held"}, {"cpu", "CPU per delivery"},
		{"connect", "CPU per connection"}, {"memory", "Memory per connection"}, {"routines", "Goroutines"},
		{"p99", "Latency"}} {
		fmt.Fprintf(&b, "![%s](results/%s.svg)\n\n", p[1], p[0])
	}
	r.conditions(&b)
	return b.Bytes()
}

// sentence says it all.
func (r *results) sentence() string {
	three, _, _, ok := r.median("none at 3", held)
	ours, _, _, ok2 := r.median("wsd at 3", held)
	if !ok || !ok2 {
		return "Not all rows were run."
	}
	return fmt.Sprintf("With a cap of %s CPUs, the bare baseline with 3 shards held %s of %s clients (%.0f %%), wsd %s.",
		cap1(r.CPU), thousands(int64(three)), thousands(int64(r.Clients)), 100*three/float64(r.Clients),
		thousands(int64(ours)))
}

func cap1(cpus float64) string {
	if cpus == 0 {
		return "all"
	}
	return fmt.Sprintf("%.3g", cpus)
}

func (r *results) table(b *bytes.Buffer, shards int) {
	fmt.Fprintf(b, "## %d shards\n\n| system | held | more than bare | the plan's estimate | µs per connection | µs per "+
		"delivery | KiB per connection | goroutines | p99 ms |\n| --- | --: | --: | --- | --: | --: | --: | --: | --: |\n",
		shards)
	for _, x := range r.selected() {
		if x.shards != shards && (x.system != "wsd" || x.shards != 64 || shards != 7) {
			continue
		}
		title, key := x.title(), x.key()
		if x.shards == 64 {
			title += ", 64 shards"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", title, r.heldCell(key), r.gain(x), x.estimate(),
			r.cell(key, cpuConnection), r.cell(key, cpuDelivery), r.cell(key, memory), r.cell(key, goroutines),
			r.cell(key, p99))
	}
	b.WriteString("\n")
}

// perCore compares the fall from 3 to 7 shards.
func (r *results) perCore(b *bytes.Buffer) {
	three, least3, _, ok := r.median("none at 3", held)
	seven, _, most7, ok2 := r.median("none at 7", held)
	if !ok || !ok2 || r.CPU == 0 {
		return
	}
	fmt.Fprintf(b, "## Per core\n\n| | 3 shards | 7 shards | wsd, 3 | wsd, 7 | wsd, 64 |\n| --- | --: | --: | --: | "+
		"--: | --: |\n| the plan's report | %s | %s | | | |\n| held here, per CPU of the cap | %s | %s", thousands(planCore3),
		thousands(planCore7), thousands(int64(three/r.CPU)), thousands(int64(seven/r.CPU)))
	for _, key := range []string{"wsd at 3", "wsd at 7", "wsd at 64"} {
		mid, _, _, ok := r.median(key, held)
		if !ok {
			b.WriteString(" | ")
			continue
		}
		fmt.Fprintf(b, " | %s", thousands(int64(mid/r.CPU)))
	}
	b.WriteString(" |\n\n")
	switch {
	case most7 < least3:
		fmt.Fprintf(b, "As the plan reports, the baseline with 7 shards holds fewer per core than with 3: %.0f %% of it. ",
			100*seven/three)
	default:
		fmt.Fprintf(b, "Unlike the plan's report, the baseline with 7 shards does **not** hold fewer per core than with 3 "+
			"here: %.0f %% of it, within or above the spread of the rounds. ", 100*seven/three)
	}
	b.WriteString("The plan gave 7 shards a machine with more cores, which did not help; here both have one cap. Where " +
		"wsd holds all clients, its figure per core is a lower bound: the clients were at an end, not the CPU.\n\n")
}

func (r *results) conditions(b *bytes.Buffer) {
	var name unix.Utsname
	_ = unix.Uname(&name) // Fails only for a bad address.
	var b2 strings.Builder
	for i, f := range []string{"clients", "rate", "messages", "own", "size", "window", "hold", "rounds", "cpu"} {
		v := []any{r.Clients, r.Rate, r.Messages, r.Own, r.Size, r.Window, r.Hold,
			r.Rounds, r.CPU}[i]
		fmt.Fprintf(&b2, " --%s %v", f, v)
	}
	fmt.Fprintf(b, "## How it was measured\n\n"+
		"- Command: `make plan-table ARGS='%s'`. It took %s and began at %s.\n"+
		"- Machine: %s, %d CPUs of it used: CPU %d for the server, CPU %d for clients and Kafka. Kernel %s. %s, wsd %s.\n"+
		"- Cap: %s CPUs for all processes of the server together, a CFS quota of a cgroup (version 1) with a period of "+
		"%s. It was fixed before the run so that the bare baseline with 3 shards holds 35 to 55 %%.\n"+
		"- Kafka: kfake (franz-go) in a process of its own, %d topics of one partition, started anew for every run.\n"+
		"- Clients: %s, %.0f new ones a second in cohorts of half a second. Half of them share %d channels; each other one "+
		"has its own. Records of %d bytes: %g a second on a shared channel, %g a second on an own one, so Kafka gets %.0f "+
		"a second.\n"+
		"- Held: opened within %s of its first dial, open at the end, no record missing. A refused client tries again "+
		"after 0.1 s, doubled each time up to 6.4 s.\n"+
		"- CPU per connection and memory per connection: growth over the first eighth of the clients, which connect "+
		"while no record is produced. CPU per delivery: all CPU time of %s after the last window, divided by the "+
		"deliveries in it. p99: of all records that came, ramp included, from before the produce request to after the "+
		"client's read.\n"+
		"- Median of %d round(s), in parentheses the range. Rows run in turn, in each round in the other order. All runs: "+
		"[runs.json](results/runs.json).\n",
		strings.TrimSpace(b2.String()), r.took.Round(time.Second), r.begun.UTC().Format("2006-01-02 15:04 UTC"),
		cpuName(), 2, r.CPUs[0], r.CPUs[1], unix.ByteSliceToString(name.Release[:]), goVersion(), r.version(),
		cap1(r.CPU), quotaPeriod, broadcastTopics+1, thousands(int64(r.Clients)), r.Rate, broadcastTopics, r.Size,
		r.Messages, r.Own, r.Messages*broadcastTopics+r.Own*float64(r.Clients/2), r.Window, r.Hold, r.Rounds)
	if mid, _, most, ok := r.median("none at 3", func(m measure) float64 { return m.Busy }); ok {
		fmt.Fprintf(b, "- Clients and Kafka used %.2f CPUs beside the bare baseline with 3 shards (at most %.2f). ", mid, most)
	}
	var late float64
	for _, list := range r.values {
		for _, m := range list {
			late = max(late, m.Late)
		}
	}
	fmt.Fprintf(b, "A produce request was late by at most %.0f ms in any run: where that is seconds, fewer records were "+
		"produced than said above, because the machine was busy with something else.\n", late)
	r.failures(b)
}

func (r *results) failures(b *bytes.Buffer) {
	for _, x := range r.selected() {
		for i, m := range r.values[x.key()] {
			if m.Failure != "" {
				fmt.Fprintf(b, "- Run %d of %s failed: %s.\n", i+1, x.key(), strings.ReplaceAll(m.Failure, "\n", "; "))
			}
		}
	}
}

func cpuName() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // Without it, the name is unknown.
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown Go"
}

// version is what wsd says.
func (r *results) version() string {
	out, err := exec.Command(filepath.Join(r.Bin, "wsd"), "version").Output() //nolint:noctx,gosec // It ends at once.
	if err != nil {
		return "of unknown version"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(first, "wsd ")
}
