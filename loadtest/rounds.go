package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/progress"
	"wsd/loadtest/ratio"
)

// calibrations is how often the rate that the floor sustains is measured. The median counts.
const calibrations = 3

// busyMax is the share of its CPU above which the load generator may be the limit.
const busyMax = 0.9

// lateMaxShare is the longest delay of a produce request without a note, as a share of the run.
const lateMaxShare = 0.05

// rounds is a running comparison.
type rounds struct {
	*compare
	display *progress.Display
	clock   clock
	// Records per second to all clients that the floor sustains; 0: not measured.
	sustained float64
	values    map[string]map[int]map[int]measure // Results by scenario, shards (0: the floor) and round.
	faults    []string                           // Faults of runs.

	steps int64        // Number of runs.
	done  atomic.Int64 // Number of completed runs.
	doing atomic.Value // Description of the current run, a string.
}

// run runs the whole comparison. An error means that there is nothing to report.
func (r *rounds) run(ctx context.Context) (*ratio.Report, error) {
	scenarios, extra := r.scenarios(), r.yardsticks()
	latency := slices.ContainsFunc(scenarios, func(s scenario) bool { return s.share > 0 })
	r.steps = int64(r.Rounds * (len(scenarios)*(1+len(r.Shards)) + len(extra)))
	if latency {
		r.steps += calibrations
	}
	r.doing.Store("")
	shown := r.display.Start("compare", func() progress.State {
		doing, _ := r.doing.Load().(string)
		return progress.State{Done: r.done.Load(), Total: r.steps, Note: doing}
	})
	defer shown()
	if latency {
		if err := r.calibrate(ctx); err != nil {
			return nil, err
		}
	}
	for round := range r.Rounds {
		for _, s := range extra {
			r.one(ctx, round, 0, s)
		}
		for _, s := range scenarios {
			contenders := append([]int{0}, r.Shards...)
			// Reverse the order, so that drift over time does not always affect the same server.
			if round%2 == 1 {
				slices.Reverse(contenders)
			}
			for _, shards := range contenders {
				r.one(ctx, round, shards, s)
			}
		}
	}
	return r.report(ctx), nil
}

// calibrate measures the rate that the floor sustains: that of records sent without a pause, until the last one is
// read.
func (r *rounds) calibrate(ctx context.Context) error {
	var rates []float64
	for range calibrations {
		r.doing.Store("the rate that the floor sustains")
		t := &trial{compare: r.compare, scenario: scenario{name: nameSingle, size: 128, batch: 1}, clock: r.clock}
		m, err := t.run(ctx, 0)
		if err != nil {
			return fmt.Errorf("measure the rate that the floor sustains: %w", err)
		}
		rates = append(rates, m.perSecond)
		r.done.Add(1)
	}
	r.sustained = ratio.Of(rates).Median
	return nil
}

// one runs one trial and keeps its figures.
func (r *rounds) one(ctx context.Context, round, shards int, s scenario) {
	if ctx.Err() != nil {
		return
	}
	what := fmt.Sprintf("round %d, %s, %s", round+1, s.name, contender(shards))
	r.doing.Store(what)
	interval := time.Duration(0)
	if s.batch > 0 {
		interval = s.interval(r.sustained)
	}
	t := &trial{compare: r.compare, scenario: s, clock: r.clock, shards: shards}
	m, err := t.run(ctx, interval)
	r.done.Add(1)
	switch {
	case ctx.Err() != nil: // An error after an interruption is not a fault.
	case err != nil:
		r.faults = append(r.faults, fmt.Sprintf("%s: %v", what, err))
	default:
		if r.values[s.name] == nil {
			r.values[s.name] = map[int]map[int]measure{}
		}
		if r.values[s.name][shards] == nil {
			r.values[s.name][shards] = map[int]measure{}
		}
		r.values[s.name][shards][round] = m
	}
}

// report returns the report of what was measured.
func (r *rounds) report(ctx context.Context) *ratio.Report {
	report := &ratio.Report{Setup: r.setup(), Notes: r.notes(), Faults: append([]string{}, r.faults...),
		Interrupted: ctx.Err() != nil}
	report.Passed = len(r.faults) == 0 && !report.Interrupted
	for _, f := range r.figures() {
		yardstick := f.scenario
		if f.floor != "" {
			yardstick = f.floor
		}
		floor := r.series(yardstick, 0, f.value)
		for _, shards := range r.Shards {
			wsd := r.series(f.scenario, shards, f.value)
			report.Rows = append(report.Rows, ratio.Row{
				Case: f.label(), Figure: f.name, Unit: f.unit, Shards: shards, Target: f.target,
				Floor: ratio.Of(ratio.Values(floor)),
				WSD:   ratio.Of(ratio.Values(wsd)), Ratio: ratio.Of(ratio.Pairs(wsd, floor)),
			})
		}
	}
	return report
}

// series returns a figure of one server, by round.
func (r *rounds) series(name string, shards int, value func(*measure) float64) map[int]float64 {
	list := map[int]float64{}
	for round, m := range r.values[name][shards] {
		list[round] = value(&m)
	}
	return list
}

// setup returns what was the same in all rounds.
func (r *rounds) setup() []ratio.Fact {
	var name unix.Utsname
	// Fails only for an address that does not exist.
	_ = unix.Uname(&name)
	list := []ratio.Fact{
		{Name: "kernel", Value: unix.ByteSliceToString(name.Release[:])},
		{Name: "CPUs", Value: fmt.Sprintf("server %d, load generator %d, Kafka %d", r.CPUs[0], r.CPUs[1], r.CPUs[2])},
		{Name: "clients", Value: fmt.Sprintf("%d of one channel; spread and chain: %d, a channel each", r.Clients,
			r.Channels)},
		{Name: "rounds", Value: fmt.Sprintf("%d, producing for %s in each run", r.Rounds, r.Duration)},
		{Name: "protocol of wsd's clients", Value: r.Protocol},
	}
	steering, versions := map[string]bool{}, map[string]bool{}
	for _, byShards := range r.values {
		for shards, byRound := range byShards {
			for _, m := range byRound {
				if shards > 0 {
					steering[m.steering], versions[m.version] = true, true
				}
			}
		}
	}
	if len(versions) > 0 {
		list = append(list, ratio.Fact{Name: "wsd", Value: strings.Join(slices.Sorted(maps.Keys(versions)),
			", ") + ", steering " +
			strings.Join(slices.Sorted(maps.Keys(steering)), ", ")})
	}
	if len(r.WSDArg) > 0 {
		list = append(list, ratio.Fact{Name: "options of wsd", Value: strings.Join(r.WSDArg, " ")})
	}
	if r.sustained > 0 {
		list = append(list, ratio.Fact{Name: "sustained by the floor",
			Value: fmt.Sprintf("%.1f records/s to %d clients, %.0f deliveries/s",
				r.sustained, r.Clients, r.sustained*float64(r.Clients))})
	}
	return list
}

// notes returns what a reader of the figures must know: where the load generator may have been the limit.
func (r *rounds) notes() []string {
	list := []string{}
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		for _, shards := range slices.Sorted(maps.Keys(r.values[name])) {
			var busy, late float64
			for _, m := range r.values[name][shards] {
				busy, late = math.Max(busy, m.busy), math.Max(late, m.late.Seconds()/r.Duration.Seconds())
			}
			if busy > busyMax {
				list = append(list, fmt.Sprintf("%s, %s: the load generator used up to %.0f %% of its CPU, so "+
					"latencies are its own", name, contender(shards), 100*busy))
			}
			if late > lateMaxShare {
				list = append(list, fmt.Sprintf("%s, %s: records were up to %.0f %% of a run late", name,
					contender(shards), 100*late))
			}
		}
	}
	return list
}
