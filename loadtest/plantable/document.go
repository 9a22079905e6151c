package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// document is results.md.
func (r *results) document() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The plan's table\n\n%s\n\n", r.sentence())
	if r.incomplete {
		b.WriteString("**Interrupted: these are the runs up to then. `--resume` makes the others.**\n\n")
	}
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
	return fmt.Sprintf("With a cap of %s CPUs, the bare baseline with 3 shards held %s of %s clients (%.0f %%), wsd "+
		"%s.", cap1(r.CPU), thousands(int64(three)), thousands(int64(r.Clients)), 100*three/float64(r.Clients),
		thousands(int64(ours)))
}

func cap1(cpus float64) string {
	if cpus == 0 {
		return "all"
	}
	return fmt.Sprintf("%.3g", cpus)
}

// tableHead has the columns of the table.
const tableHead = "| system | held | more than bare | the plan's estimate | µs per connection | µs per delivery " +
	"| KiB per connection | goroutines | p99 ms |\n" +
	"| --- | --: | --: | --- | --: | --: | --: | --: | --: |\n"

func (r *results) table(b *bytes.Buffer, shards int) {
	fmt.Fprintf(b, "## %d shards\n\n%s", shards, tableHead)
	for _, x := range r.shown() {
		if x.shards != shards && (x.system != "wsd" || x.shards != 64 || shards != 7) {
			continue
		}
		title, key := x.title(), x.key()
		if x.shards == 64 {
			title += ", 64 shards"
		}
		cells := []string{title, r.heldCell(key), r.gain(x), x.estimate(), r.cell(key, cpuConnection),
			r.cell(key, cpuDelivery), r.cell(key, memory), r.cell(key, goroutines), r.cell(key, p99)}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
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
	cells := []string{"held here, per CPU of the cap", thousands(int64(three / r.CPU)), thousands(int64(seven / r.CPU))}
	for _, key := range []string{"wsd at 3", "wsd at 7", "wsd at 64"} {
		text := "–"
		if mid, _, _, ok := r.median(key, held); ok {
			text = thousands(int64(mid / r.CPU))
		}
		cells = append(cells, text)
	}
	fmt.Fprintf(b, "## Per core\n\n| | 3 shards | 7 shards | wsd, 3 | wsd, 7 | wsd, 64 |\n"+
		"| --- | --: | --: | --: | --: | --: |\n| the plan's report | %s | %s | – | – | – |\n| %s |\n\n",
		thousands(planCore3), thousands(planCore7), strings.Join(cells, " | "))
	if share := 100 * seven / three; most7 < least3 {
		fmt.Fprintf(b, "As the plan reports, the baseline with 7 shards holds fewer per core than with 3: %.0f "+
			"%% of it.",
			share)
	} else {
		fmt.Fprintf(b, "Unlike the plan's report, the baseline with 7 shards does **not** hold fewer per core "+
			"than with 3 here: %.0f %% of it, within or above the spread of the rounds.", share)
	}
	b.WriteString(" The plan gave 7 shards a machine with more cores, which did not help; here both have one cap. " +
		"Where wsd holds all clients, its figure per core is a lower bound: the clients were at an end, not the " +
		"CPU.\n\n")
}

func (r *results) conditions(b *bytes.Buffer) {
	var name unix.Utsname
	_ = unix.Uname(&name) // Fails only for a bad address.
	list := []string{
		fmt.Sprintf("Command: `make plan-table ARGS='%s'`. It took %s and began at %s.", r.args(),
			r.took.Round(time.Second), r.begun.UTC().Format("2006-01-02 15:04 UTC")),
		fmt.Sprintf("Machine: %s; CPU %d for the server, CPU %d for clients and Kafka. Kernel %s. %s, wsd "+
			"%s.", cpuName(),
			r.CPUs[0], r.CPUs[1], unix.ByteSliceToString(name.Release[:]), goVersion(), r.version()),
		fmt.Sprintf("Cap: %s CPUs for all processes of the server together: a CFS quota of a cgroup (version 1) "+
			"with a period of %s. It is fixed before the run so that the bare baseline with 3 shards holds 35 to "+
			"55 %%.%s",
			cap1(r.CPU), quotaPeriod, r.outside()),
		fmt.Sprintf("Kafka: kfake (franz-go) in a process of its own, started anew for each run, with %d topics "+
			"of one partition.", broadcastTopics+1),
		fmt.Sprintf("Clients: %s, of which %.0f dial first in each second, in cohorts of half a second. Half of them "+
			"share %d channels; each other one has its own.", thousands(int64(r.Clients)), r.Rate, broadcastTopics),
		fmt.Sprintf("Records of %d bytes: %g a second on a shared channel, %g a second on an own one, %s a "+
			"second in all.",
			r.Size, r.Messages, r.Own, thousands(int64(r.Messages*broadcastTopics+r.Own*float64(r.Clients/2)))),
		fmt.Sprintf("Held: opened within %s of its first dial, open at the end, no record missing. A client that is "+
			"refused tries again after 0.1 s, doubled each time up to 6.4 s.", r.Window),
		"CPU and memory per connection: growth over the first eighth of the clients, which connect while no " +
			"record is produced. Memory is resident memory of all processes.",
		fmt.Sprintf("CPU per delivery: all CPU time of %s after the last window, divided by the deliveries in "+
			"it.", r.Hold),
		"p99: of all records that came, from before the produce request to after the client's read. A server at its " +
			"cap stops for milliseconds at a time.",
		fmt.Sprintf("Figures are the median of %d round(s), in parentheses the range. Rows run in turn, in each "+
			"round in the other order. All runs are in [runs.json](results/runs.json).", r.Rounds),
	}
	if mid, _, most, ok := r.median("none at 3", func(m measure) float64 { return m.Busy }); ok {
		list = append(list, fmt.Sprintf("Clients and Kafka used %.2f CPUs beside the bare baseline with 3 "+
			"shards, at most %.2f.", mid, most))
	}
	list = append(list, fmt.Sprintf("A produce request was late by at most %.0f ms in any run. Where that is seconds, "+
		"fewer records were produced than said above.", r.late()))
	b.WriteString("## How it was measured\n\n")
	for _, line := range append(list, r.failures()...) {
		fmt.Fprintf(b, "- %s\n", line)
	}
}

// args are the options of this run.
func (r *results) args() string {
	list := []string{fmt.Sprintf("--cpu %g --clients %d --rate %g --messages %g --own %g --size %d --window %s "+
		"--hold %s --rounds %d", r.CPU, r.Clients, r.Rate, r.Messages, r.Own, r.Size, r.Window, r.Hold, r.Rounds)}
	if r.Rows != "." {
		list = append(list, fmt.Sprintf("--rows %q", r.Rows))
	}
	return strings.Join(list, " ")
}

// outside says that the cap does not fit this machine.
func (r *results) outside() string {
	mid, _, _, ok := r.median("none at 3", held)
	if share := mid / float64(r.Clients); ok && (share < heldLow || share > heldHigh) {
		return fmt.Sprintf(" **In this run it held %.0f %%, so the cap does not fit: run `make plan-table "+
			"ARGS=--calibrate` and repeat.**", 100*share)
	}
	return ""
}

// late is the longest delay of a producer in any run.
func (r *results) late() (most float64) {
	for _, list := range r.values {
		for _, m := range list {
			most = max(most, m.Late)
		}
	}
	return most
}

// failures are the runs that failed.
func (r *results) failures() (list []string) {
	for _, x := range r.selected() {
		for i, m := range r.values[x.key()] {
			if m.Failure != "" {
				list = append(list, fmt.Sprintf("Run %d of %s failed: %s.", i+1, x.key(),
					strings.ReplaceAll(m.Failure, "\n", "; ")))
			}
		}
	}
	return list
}
