package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// scenario is a command that makes runs.
type scenario interface {
	// plan returns the run. Its error is a mistake in the command line.
	plan() (*run, error)
}

// capacity holds many clients.
type capacity struct {
	common
	Target int           `required:"" help:"Number of clients to hold."`
	Hold   time.Duration `default:"30s" help:"How long to hold them after all are subscribed (${default})."`
	Rate   float64       `default:"1" help:"Records per second and topic while they are held, at least 1 (${default})."`
	Search bool          `help:"Find the highest number of clients, up to --target, that passes, in at most 12 rounds."`
}

func (c *capacity) plan() (*run, error) {
	if c.Rate < 1 {
		return nil, fmt.Errorf("--rate %g is less than 1: each client must get at least one record per second", c.Rate)
	}
	return &run{common: c.common, name: "capacity", clients: c.Target, rate: c.Rate, duration: c.Hold, stay: true}, nil
}

// roundsMax is the maximum number of rounds of a search, which ends earlier at searchStep, a share of the target.
const (
	roundsMax  = 12
	searchStep = 0.01
)

// search bisects the number of clients: the first round tries the target.
func (c *capacity) search(ctx context.Context, one func(clients int) (*report.Result, error)) (best *report.Result,
	err error) {
	var rounds []report.Round
	low, high := 0, c.Target+1
	for n := c.Target; len(rounds) < roundsMax && ctx.Err() == nil; n = (low + high) / 2 {
		result, err := one(n)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, report.Round{What: report.Group(n) + " clients", Passed: result.Passed,
			Result: result.Summary})
		if result.Passed {
			low = n
		} else {
			high = n
		}
		if best == nil || result.Passed || !best.Passed {
			best = result
		}
		if high-low <= max(1, int(searchStep*float64(c.Target))) {
			break
		}
	}
	if best.Rounds = rounds; best.Passed {
		best.Summary = fmt.Sprintf("%s; the highest number of clients that passed in %d rounds", best.Summary,
			len(rounds))
	}
	return best, nil
}

// fanout delivers many records.
type fanout struct {
	common
	Clients  int           `required:"" help:"Number of clients."`
	Rate     float64       `default:"20" help:"Records per second and topic (${default})."`
	Duration time.Duration `default:"10s" help:"How long to produce (${default})."`
}

func (f *fanout) plan() (*run, error) {
	return &run{common: f.common, name: "fanout", clients: f.Clients, rate: f.Rate, duration: f.Duration, stay: true},
		nil
}

// storm has everybody reconnect at once.
type storm struct {
	common
	Clients int           `default:"5000" help:"Number of clients (${default})."`
	Rate    float64       `default:"20" help:"Records per second and topic, also during the storms (${default})."`
	Storms  int           `default:"1" help:"Number of storms (${default})."`
	Every   time.Duration `default:"10s" help:"Time before each storm, and after the last one (${default})."`
	Recover bool          `help:"Clients recover what they missed, and must get all of it. Needs --protocol json or protobuf."`
	Abrupt  bool          `help:"Connections end by a RST instead of a close frame."`
}

func (s *storm) plan() (*run, error) {
	if s.Storms < 1 || s.Storms > 1000 || s.Every <= 0 {
		return nil, fmt.Errorf("--storms %d must be between 1 and 1000, and --every above 0", s.Storms)
	}
	if s.Recover && s.Protocol == "raw" {
		return nil, errors.New("--recover needs --protocol json or protobuf: raw clients cannot recover")
	}
	return &run{common: s.common, name: "storm", clients: s.Clients, rate: s.Rate, recover: s.Recover,
		duration: s.Every * time.Duration(s.Storms+1), during: s.during}, nil
}

func (s *storm) during(ctx context.Context, r *run) {
	for i := range s.Storms {
		if !sleep(ctx, s.Every) {
			return
		}
		before, _ := r.engine.Snapshot()
		begin := time.Now()
		r.engine.Reconnect(s.Abrupt)
		back := false
		waiting, cancel := context.WithTimeout(ctx, r.Timeout)
		poll(waiting, func() bool {
			n, _ := r.engine.Snapshot()
			back = n.Moved > before.Moved && n.Rejoined+n.GivenUp-before.GivenUp >= n.Moved
			return back
		})
		cancel()
		n, _ := r.engine.Snapshot()
		took := time.Since(begin)
		round := report.Round{What: fmt.Sprintf("storm %d", i+1), Passed: back, Result: fmt.Sprintf(
			"%s clients were back after %s, %s/s; %s attempts were refused", report.Group(n.Rejoined-before.Rejoined),
			took.Round(time.Millisecond), report.Group(int64(float64(n.Rejoined-before.Rejoined)/took.Seconds())),
			report.Group(n.Refused-before.Refused))}
		if !back && ctx.Err() == nil {
			r.problem("storm %d: not all clients were back after %s", i+1, r.Timeout)
		}
		r.rounds = append(r.rounds, round)
	}
}

// churn has clients leave and come back at a rate.
type churnCommand struct {
	common
	Clients  int           `default:"5000" help:"Number of clients (${default})."`
	Rate     float64       `default:"20" help:"Records per second and topic (${default})."`
	PerS     float64       `name:"per-second" default:"100" help:"Clients per second that leave, and come back at once (${default})."`
	Duration time.Duration `default:"30s" help:"How long to produce (${default})."`
}

func (c *churnCommand) plan() (*run, error) {
	if c.PerS <= 0 || c.PerS > 1e5 {
		return nil, fmt.Errorf("--per-second %g must be above 0 and at most 100,000", c.PerS)
	}
	return &run{common: c.common, name: "churn", clients: c.Clients, rate: c.Rate, duration: c.Duration,
		during: func(ctx context.Context, r *run) {
			r.engine.Churn(c.PerS)
			sleep(ctx, r.duration)
			r.engine.Churn(0)
			waiting, cancel := context.WithTimeout(ctx, r.Timeout)
			defer cancel()
			poll(waiting, func() bool { n, _ := r.engine.Snapshot(); return n.Open+n.Closed >= r.held })
		}}, nil
}

// slow has a share of the clients be slow, stopped or reset.
type slow struct {
	common
	Clients     int           `default:"5000" help:"Number of clients, including disturbing ones (${default})."`
	Share       float64       `default:"0.1" help:"Share of the clients that disturb (${default})."`
	Kinds       []string      `default:"slow,stop,reset" enum:"slow,stop,reset" help:"What they do: read slowly, do not read, or reset their connections (${default})."`
	Rate        float64       `default:"20" help:"Records per second (${default})."`
	Duration    time.Duration `default:"30s" help:"How long to produce (${default})."`
	Seed        uint64        `default:"0" help:"Random seed of the disturbing clients; 0: choose one and print it."`
	OutboundMax int           `default:"1048576" help:"The server's client.outbound_max in bytes (${default})."`
	StopMax     time.Duration `default:"20s" help:"Maximum time for which a client does not read, or reads slowly (${default})."`
}

func (s *slow) plan() (*run, error) {
	k := &soak{common: s.common, Clients: s.Clients, Disturbed: s.Share, Duration: s.Duration, Load: 1, Rate: s.Rate,
		Seed: s.Seed, OutboundMax: s.OutboundMax, StopMax: s.StopMax, kinds: s.Kinds, scenario: "slow"}
	return k.plan()
}

// disturbing returns what the disturbing clients of a run do.
func disturbing(count int, kinds []string, seed uint64, outboundMax int, stopMax time.Duration) client.Disturb {
	d := client.Disturb{Count: count, Seed: seed, OutboundMax: outboundMax, StopMax: stopMax}
	for _, kind := range kinds {
		d.Slow, d.Stop, d.Reset = d.Slow || kind == "slow", d.Stop || kind == "stop", d.Reset || kind == "reset"
	}
	return d
}
