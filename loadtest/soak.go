package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// soak disturbs the server for a long time.
type soak struct {
	common
	Clients     int           `default:"5000" help:"Number of clients, including disturbing ones (${default})."`
	Disturbed   float64       `default:"0.05" help:"Share of the clients that are slow, stopped or reset at random (${default})."`
	Duration    time.Duration `default:"10m" help:"How long to produce (${default})."`
	Load        float64       `default:"0.8" help:"Share of the highest rate at which good clients keep up, which is measured first (${default})."`
	Rate        float64       `default:"0" help:"Records per second, at least 1, instead of measuring the highest rate."`
	Seed        uint64        `default:"0" help:"Random seed of the disturbing clients; 0: choose one and print it."`
	OutboundMax int           `default:"1048576" help:"The server's client.outbound_max in bytes (${default})."`
	StopMax     time.Duration `default:"20s" help:"Maximum time for which a client does not read, or reads slowly (${default})."`

	kinds    []string // What disturbing clients do; nil: everything.
	scenario string   // Name of the scenario; empty: soak, which also checks the server's counters.
}

// disturbers returns the number of disturbing clients.
func (s *soak) disturbers() int { return int(math.Round(float64(s.Clients) * s.Disturbed)) }

func (s *soak) plan() (*run, error) {
	switch {
	case s.Disturbed < 0 || s.Disturbed > 0.5:
		return nil, fmt.Errorf("the share of disturbed clients, %g, must be between 0 and 0.5", s.Disturbed)
	case s.Load <= 0 || s.Load > 1:
		return nil, fmt.Errorf("--load %g must be above 0 and at most 1", s.Load)
	case s.Rate != 0 && s.Rate < 1:
		return nil, fmt.Errorf("--rate %g must be at least 1", s.Rate)
	case s.OutboundMax < 64<<10:
		return nil, fmt.Errorf("--outbound-max %d must be at least %d", s.OutboundMax, 64<<10)
	case s.StopMax < time.Second:
		return nil, fmt.Errorf("--stop-max %s must be at least a second", s.StopMax)
	case len(s.Topic) != 1 || s.Channels > 0:
		return nil, fmt.Errorf("%d topics, %d channels: there must be one topic, which is the channel", len(s.Topic),
			s.Channels)
	case s.scenario == "" && s.RampRate != 0:
		return nil, fmt.Errorf("--ramp-rate %g: a soak produces nothing while connecting", s.RampRate)
	case s.scenario == "" && s.Admin == "none":
		return nil, errors.New("--admin none: a soak needs the admin port, to check the server's counters")
	}
	if s.Seed == 0 {
		s.Seed = uint64(rand.Uint32()) + 1
	}
	if s.kinds == nil {
		s.kinds = []string{"slow", "stop", "reset"}
	}
	r := &run{common: s.common, name: "soak", clients: s.Clients - s.disturbers(), rate: max(s.Rate, 1),
		duration: s.Duration,
		stay:     true, sustained: report.NA, disturb: disturbing(s.disturbers(), s.kinds, s.Seed, s.OutboundMax,
			s.StopMax)}
	r.during = func(ctx context.Context, r *run) {
		r.engine.Disturb(true)
		begin := len(r.series.snapshot())
		sleep(ctx, r.duration)
		if points := r.series.snapshot(); begin < len(points) {
			r.memory = memoryOf(points[begin:], r.duration)
		}
		r.engine.Disturb(false)
		waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), disturbedEnd)
		defer cancel()
		poll(waiting, func() bool { var active int64; r.disturbed, active = r.engine.Disturbed(); return active == 0 })
	}
	if s.scenario != "" {
		r.name = s.scenario
	} else {
		r.hold = func(ctx context.Context) error { return s.begin(ctx, r) }
	}
	return r, nil
}

// disturbedEnd is how long disturbing clients may take to read the rest and to leave.
const disturbedEnd = time.Minute

// begin measures the rate.
func (s *soak) begin(ctx context.Context, r *run) error {
	if s.Rate == 0 {
		best, err := r.calibrate(ctx, s.OutboundMax)
		if err != nil {
			return fmt.Errorf("measure the highest rate: %w", err)
		}
		r.sustained, r.rate = report.Figure(best), max(1, s.Load*best)
	}
	_, _ = fmt.Fprintf(r.log, "soak: %.1f records per second for %s, %d good and %d disturbing clients, seed %d\n",
		r.rate, r.duration, r.clients, r.disturb.Count, s.Seed)
	return nil
}

// rateKeptMin is the share of the rate that a run of a minute or more with disturbing clients must reach on average.
const rateKeptMin = 0.9

// reportDisturbed adds what the disturbing clients did and saw, and their problems.
func (r *run) reportDisturbed(res *report.Result) {
	if r.disturb.Count == 0 {
		return
	}
	d := &r.disturbed
	res.Disturbed = &report.Disturbed{Seed: r.disturb.Seed, Sustained: r.sustained, Clients: r.disturb.Count}
	client.Add(res.Disturbed, d)
	if m := r.memory; m != nil && m.Judged && !m.Flat {
		r.problem("the server's memory was not flat: %d MB in the second quarter, %d MB in the last, more than the "+
			"%d MB allowed",
			m.RSSSecondQuarter>>20, m.RSSLastQuarter>>20, m.RSSAllowed>>20)
	}
	if kept := float64(res.Records.AcceptedPS) / r.rate; r.holdTime >= flatJudged && kept < rateKeptMin &&
		!res.Interrupted {
		r.problem("Kafka accepted %.1f of %.1f records a second: it or the machine did not keep the rate",
			res.Records.AcceptedPS, r.rate)
	}
	for _, c := range []struct {
		n    int64
		what string
	}{
		{d.Records.Lost, "records did not arrive on disturbed connections"},
		{d.Records.Duplicates, "records arrived again on disturbed connections"},
		{d.Corrupt + d.Records.Corrupt, "messages of disturbed connections had other bytes than were produced"},
		{d.Stuck, "disturbed connections did not get records although they read"},
		{d.TooEarly, "disturbed connections were closed as slow with less than the limit waiting: is --outbound-max " +
			"the server's?"},
		{d.TooLate, "disturbed connections were not closed with more than the limit waiting: is --outbound-max the " +
			"server's?"},
		{d.Unexplained, "disturbed connections were cut by the server without a reason"},
	} {
		if c.n > 0 {
			r.problem("%d %s", c.n, c.what)
		}
	}
	for _, what := range d.Faults {
		r.problem("disturbed connection: %s", what)
	}
}

// audit runs a soak: a run whose counters are compared with the server's.
func (s *soak) audit(ctx context.Context, r *run) (*report.Result, error) {
	before, err := r.readAdmin(ctx)
	if err != nil {
		return nil, err
	}
	if n := before.metrics["wsd_connections"]; n != 0 {
		return nil, fmt.Errorf("the server already has %g connections, which would also change its counters", n)
	}
	r.audited = func(n *client.Counters) {
		after, err := r.settled(ctx)
		if err != nil {
			r.problem("%v", err)
			return
		}
		b := books{
			counted: grown(before.metrics, after.metrics), health: after.health,
			healthBy: after.health.Deliveries() - before.health.Deliveries(),
			topic:    r.Topic[0], produced: r.produced(), good: n, bad: &r.disturbed,
		}
		r.accounts = b.accounts()
		for _, a := range r.accounts {
			if !a.Matches() {
				r.problem("the server's counters do not match: %s", a)
			}
		}
	}
	return r.do(ctx)
}

// Limits of waiting after a soak.
const (
	// endedMax is how long the server may take to close connections whose clients are gone. It is longer than wsd's own
	// limit.
	endedMax     = 30 * time.Second
	endedSettled = 200 * time.Millisecond // Two readings of its counters at this interval must be equal.
)

// reading is one reading of the admin port.
type reading struct {
	metrics serverstat.Metrics
	health  serverstat.Health
}

func (r *run) readAdmin(ctx context.Context) (l reading, err error) {
	if l.metrics, err = serverstat.ReadMetrics(ctx, r.Admin); err != nil {
		return reading{}, err
	}
	l.health, err = serverstat.ReadHealth(ctx, r.Admin)
	return l, err
}

// settled waits until the server has closed all connections and its counters no longer change.
func (r *run) settled(ctx context.Context) (reading, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endedMax)
	defer cancel()
	var last reading
	for {
		now, err := r.readAdmin(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return last, fmt.Errorf("the server still has %g connections %s after all clients have gone",
				last.metrics["wsd_connections"], endedMax)
		case err != nil:
			return last, err
		case now.metrics["wsd_connections"] == 0 && last.metrics != nil && now.same(&last):
			return now, nil
		}
		last = now
		sleep(ctx, endedSettled)
	}
}

// same reports whether the counters that change last are equal.
func (l *reading) same(before *reading) bool {
	for _, name := range []string{"wsd_connections", "wsd_accepted_total", "wsd_closed_total", "wsd_deliveries_total",
		"wsd_dropped_total", "wsd_slow_total"} {
		if l.metrics[name] != before.metrics[name] {
			return false
		}
	}
	return true
}
