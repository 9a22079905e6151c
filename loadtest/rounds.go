package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

const (
	calibrations  = 3   // How often the rate that the yardstick sustains is measured. The median counts.
	busyMax       = 0.9 // The share of its CPU above which the load generator may be the limit.
	channelPrefix = "c."
	dialsCompare  = 256
	warmUpBursts  = 5
	// settleTime is how long connections are idle before their memory is read. Meanwhile garbage is collected, and the
	// kernel frees memory that waits for an RCU grace period.
	settleTime = time.Second
	// sustainedPerSecond is about how many deliveries a second a machine does.
	sustainedPerSecond = 150_000
)

// rounds is a running comparison.
type rounds struct {
	*compare
	contenders []contender
	live       *live
	clock      clock
	// Records per second to all clients that the yardstick sustains; 0: not measured.
	sustained float64
	values    map[string]map[string]map[int]*report.Result // Results by load, contender and round.
	faults    []string                                     // Faults of runs.
	steering  map[string]bool                              // Versions and steering modes of wsd.
	steps     int                                          // Number of runs.
	done      int                                          // Number of completed runs.
}

// run runs the whole comparison. An error means that there is nothing to report.
func (r *rounds) run(ctx context.Context) (*report.Comparison, error) {
	loads, extra := r.loads(), r.yardsticks()
	latency := slices.ContainsFunc(loads, func(s load) bool { return s.share > 0 })
	r.steps, r.steering = r.Rounds*(len(loads)*len(r.contenders)+len(extra)), map[string]bool{}
	if latency {
		r.steps += calibrations
		if err := r.calibrate(ctx); err != nil {
			return nil, err
		}
	}
	for round := range r.Rounds {
		for _, s := range extra {
			r.one(ctx, round, r.contenders[0], s)
		}
		for _, s := range loads {
			list := slices.Clone(r.contenders)
			// Reverse the order, so that drift over time does not always affect the same server.
			if round%2 == 1 {
				slices.Reverse(list)
			}
			for _, server := range list {
				r.one(ctx, round, server, s)
			}
		}
	}
	return r.report(ctx), nil
}

func (r *rounds) show(what string) {
	r.live.show(fmt.Sprintf("compare: %d of %d, %s", r.done, r.steps, what), r.done == r.steps)
}

// calibrate measures the rate that the yardstick sustains: that of records sent without a pause, until the last one is
// read.
func (r *rounds) calibrate(ctx context.Context) error {
	var rates []float64
	for range calibrations {
		r.show("the rate that the yardstick sustains")
		result, err := r.trial(ctx, r.contenders[0], load{name: nameSingle, size: 128, batch: 1}, 0)
		if err != nil {
			return fmt.Errorf("measure the rate that the yardstick sustains: %w", err)
		}
		rates = append(rates, float64(result.Records.AcceptedPS))
		r.done++
	}
	r.sustained = report.Of(rates).Median
	return nil
}

// one makes one run and keeps its result.
func (r *rounds) one(ctx context.Context, round int, server contender, s load) {
	if ctx.Err() != nil {
		return
	}
	what := fmt.Sprintf("round %d, %s, %s", round+1, s.name, server.name)
	r.show(what)
	every := time.Duration(0)
	if s.batch > 0 {
		every = s.interval(r.sustained)
	}
	result, err := r.trial(ctx, server, s, every)
	r.done++
	switch {
	case ctx.Err() != nil: // An error after an interruption is not a fault.
	case err != nil:
		r.faults = append(r.faults, fmt.Sprintf("%s: %v", what, err))
	default:
		if r.values[s.name] == nil {
			r.values[s.name] = map[string]map[int]*report.Result{}
		}
		if r.values[s.name][server.name] == nil {
			r.values[s.name][server.name] = map[int]*report.Result{}
		}
		r.values[s.name][server.name][round] = result
	}
	r.show(what)
}

// trial makes one run of one server. An error means that its figures do not count, because a client missed a record or
// a step took too long.
func (r *rounds) trial(ctx context.Context, server contender, s load, every time.Duration) (result *report.Result,
	err error) {
	t := &run{name: s.name, clients: r.Clients, clock: r.clock, stay: true, warm: warmUpBursts, text: s.text,
		sustained: report.NA}
	if t.Topic, t.Source, t.Timeout, t.Size, t.Batch, t.Channel = []string{compareTopic}, "auto", r.Timeout, s.size,
		max(s.batch, 1),
		channelPrefix+"{key}"; s.targeted {
		t.clients = r.Channels
	}
	t.rate, t.duration = float64(t.Batch)/max(every, 1).Seconds(), r.Duration
	switch {
	case s.batch == 0:
		t.duration, t.settle = 0, settleTime
	case every == 0:
		// A burst per ns.
		t.duration = time.Duration(max(10, int(sustainedPerSecond*r.Duration.Seconds()/float64(t.clients))))
	case t.duration < every:
		t.duration = every
	}
	newFormat, id := client.NewFormat, rand.Uint32()
	if s.text && server.name != "floor" {
		newFormat = client.NewTextFormat // The floor itself produces its records, of the same length.
	}
	format, err := newFormat(id, s.size)
	if err != nil {
		return nil, err
	}
	f := &feed{order: numbering{format: format, now: t.clock.now}}
	if s.targeted {
		f.order.channels = t.clients
	}
	starting, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	started, err := r.start(starting, server, &s, &f.order, id)
	defer func() { err = errors.Join(err, started.stop()) }()
	if err != nil {
		return nil, err
	}
	if started.version != "" {
		r.steering[started.version+", steering "+started.steering] = true
	}
	f.source, t.feeds = started.source, []*feed{f}
	t.target = target{pid: started.pid, connect: client.Options{
		Server: started.address, Host: started.address.String(), Protocol: client.Protocol(r.Protocol),
		Deflate: s.deflate, Loops: 1, Dials: dialsCompare, AttemptTimeout: r.Timeout,
	}}
	if server.name == "floor" {
		t.target.connect.Protocol, t.target.connect.Deflate = client.Raw, false
	}
	if server.tls {
		// The certificate is this program's own, and checking it is no work of the server.
		t.target.connect.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	if server.command != nil {
		t.target.connect.Path = r.Path
	}
	if r.CPUs[1] == r.CPUs[2] {
		t.target.others = started.others
	}
	result, err = t.measure(ctx)
	if err == nil && !result.Passed {
		err = errors.New(strings.Join(result.Reasons, ", "))
	}
	return result, err
}

// report returns what was measured.
func (r *rounds) report(ctx context.Context) *report.Comparison {
	c := &report.Comparison{Setup: r.setup(), Notes: r.notes(), Faults: append([]string{}, r.faults...),
		Interrupted: ctx.Err() != nil, Yardstick: r.contenders[0].name}
	c.Passed = len(r.faults) == 0 && !c.Interrupted
	for _, f := range r.figures() {
		name := f.load
		if f.other != "" {
			name = f.other
		}
		yardstick := r.rounds(name, r.contenders[0].name, f.value)
		for _, server := range r.contenders[1:] {
			values := r.rounds(f.load, server.name, f.value)
			row := report.Ratio{
				Case: f.label(), Figure: f.name, Unit: f.unit, Server: server.name,
				Yardstick: report.Of(slices.Collect(maps.Values(yardstick))),
				Value:     report.Of(slices.Collect(maps.Values(values))),
				Ratio:     report.Of(report.Pairs(values, yardstick)),
			}
			switch {
			case server.shards > 0 && !server.tls && c.Yardstick == "floor":
				row.Target = f.target
			case server.tls && server.shards > 0 && r.contenders[0].shards == server.shards:
				row.Target = targetsTLS[f.kind+" "+f.name]
			}
			c.Rows = append(c.Rows, row)
		}
	}
	verdict := map[bool]string{true: "passed", false: "not passed"}[c.Passed]
	c.Summary = fmt.Sprintf("%s: %d of %d runs of %d servers delivered every record", verdict, r.done-len(r.faults),
		r.steps, len(r.contenders))
	return c
}

// rounds returns a figure of one server, by round.
func (r *rounds) rounds(name, server string, value func(*report.Result) report.Figure) map[int]float64 {
	list := map[int]float64{}
	for round, result := range r.values[name][server] {
		list[round] = float64(value(result))
	}
	return list
}

// setup returns what was the same in all rounds.
func (r *rounds) setup() []report.Fact {
	var name unix.Utsname
	// Fails only for an address that does not exist.
	_ = unix.Uname(&name)
	list := []report.Fact{
		{Name: "kernel", Value: unix.ByteSliceToString(name.Release[:])},
		{Name: "CPUs", Value: fmt.Sprintf("server %d, load generator %d, Kafka %d", r.CPUs[0], r.CPUs[1], r.CPUs[2])},
		{Name: "clients", Value: fmt.Sprintf("%d of one channel; spread and chain: %d, a channel each", r.Clients,
			r.Channels)},
		{Name: "rounds", Value: fmt.Sprintf("%d, producing for %s in each run", r.Rounds, r.Duration)},
		{Name: "protocol", Value: r.Protocol + "; of the floor raw"},
	}
	if len(r.steering) > 0 {
		list = append(list, report.Fact{Name: "wsd", Value: strings.Join(slices.Sorted(maps.Keys(r.steering)), "; ")})
	}
	if len(r.WSDArg) > 0 {
		list = append(list, report.Fact{Name: "options of wsd", Value: strings.Join(r.WSDArg, " ")})
	}
	for _, s := range r.contenders {
		if s.command != nil {
			list = append(list, report.Fact{Name: s.name, Value: strings.Join(s.command, " ")})
		}
	}
	if r.sustained > 0 {
		list = append(list, report.Fact{Name: "sustained by " + r.contenders[0].name,
			Value: fmt.Sprintf("%.1f records/s to %d clients, %.0f deliveries/s",
				r.sustained, r.Clients, r.sustained*float64(r.Clients))})
	}
	return list
}

// notes returns what a reader of the figures must know: where the load generator may have been the limit.
func (r *rounds) notes() []string {
	list := []string{}
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		for _, server := range slices.Sorted(maps.Keys(r.values[name])) {
			var busy, late float64
			for _, m := range r.values[name][server] {
				if m.Loadtest.CPUShare.Known() && m.Records.Accepted > 0 {
					busy = math.Max(busy, float64(m.Loadtest.CPUShare))
				}
				late = math.Max(late, m.Records.LateMaxMillis/1000/r.Duration.Seconds())
			}
			if busy > busyMax {
				list = append(list, fmt.Sprintf("%s, %s: the load generator used up to %.0f %% of its CPU, so "+
					"latencies are its own", name, server, 100*busy))
			}
			if late > lateMaxShare {
				list = append(list, fmt.Sprintf("%s, %s: records were up to %.0f %% of a run late", name, server,
					100*late))
			}
		}
	}
	return list
}
