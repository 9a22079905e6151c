package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// results are all runs.
type results struct {
	*config
	begun  time.Time
	took   time.Duration        // Of all runs.
	before time.Duration        // Of it, before --resume.
	values map[string][]measure // By row.

	incomplete bool // Whether not all rows were run.
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
	case v < 0.1:
		return "< 0.1" // A page or two over a thousand connections say no more.
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
		return r.missing(key)
	}
	return format(mid)
}

// missing says why a row has no figures.
func (r *results) missing(key string) string {
	if len(r.values[key]) == 0 {
		return "not run"
	}
	return "failed"
}

// heldCell is the number held, with its range when rounds differ.
func (r *results) heldCell(key string) string {
	mid, least, most, ok := r.median(key, held)
	switch {
	case !ok:
		return r.missing(key)
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
	if err := os.MkdirAll(plots, 0o755); err != nil {
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
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
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
	out, err := exec.Command(filepath.Join(r.Bin, "wsd"), "version").Output() //nolint:noctx // It ends at once.
	if err != nil {
		return "of unknown version"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(first, "wsd ")
}
