package metrics

import (
	"bufio"
	"bytes"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process returns the metrics of the whole process.
func process() []family {
	return []family{
		{
			name: "wsd_cpu_seconds_total", kind: counter, labels: []string{"component"},
			help: "CPU time of the process: in its own code (user) and in the kernel on its behalf (kernel).",
			values: func(emit func(float64, ...string)) {
				var u syscall.Rusage
				if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
					return // Does not happen: the arguments are valid.
				}
				emit(time.Duration(u.Utime.Nano()).Seconds(), "user")
				emit(time.Duration(u.Stime.Nano()).Seconds(), "kernel")
			},
		},
		{
			name: "wsd_goroutines", labels: []string{"component"},
			help: "Goroutines by their pprof label component. Empty: goroutines of the runtime and of libraries.",
			values: func(emit func(float64, ...string)) {
				for component, n := range goroutines() {
					emit(float64(n), component)
				}
			},
		},
	}
}

// goroutines counts goroutines by label. The profile is small, because connections have no goroutines.
func goroutines() map[string]int {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return nil // Does not happen: writing to a buffer does not fail.
	}
	return countByComponent(&b)
}

// countByComponent reads the text form of a goroutine profile. A line "N @ ADDRESSES" begins a group of N goroutines,
// and a line "# labels: {...}" may follow.
func countByComponent(profile *bytes.Buffer) map[string]int {
	counts := make(map[string]int)
	group := 0
	for lines := bufio.NewScanner(profile); lines.Scan(); {
		line := lines.Text()
		if n, _, ok := strings.Cut(line, " @"); ok {
			if v, err := strconv.Atoi(n); err == nil {
				group = v
				counts[""] += group
			}
			continue
		}
		if labels, ok := strings.CutPrefix(line, "# labels: "); ok {
			_, rest, _ := strings.Cut(labels, `"component":`)
			quoted, err := strconv.QuotedPrefix(strings.TrimSpace(rest))
			if err != nil {
				continue
			}
			if component, err := strconv.Unquote(quoted); err == nil {
				counts[""] -= group
				counts[component] += group
			}
		}
	}
	return counts
}
