package main

import (
	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// rateKeptMin is the share of the rate that a soak of a minute or more must reach on average.
const rateKeptMin = 0.9

// soakReport adds what only a soak reports, and its problems.
func (s *soakTest) soakReport(r *report.Report, n *client.Counters, before, after reading) {
	d := &s.disturbed
	r.Run.RatePerSecond = s.rate
	r.Soak = &report.Soak{
		Seed: s.soak.Seed, Sustained: s.sustained, Disturbers: s.soak.disturbers(), Connections: d.Connected,
		Upgraded: d.Upgraded,
		Slows:    d.Slows, Stops: d.Stops, Recovered: d.Recovered, ResetUpgrade: d.ResetUpgrade,
		ResetClear:  d.ResetClear,
		ResetBehind: d.ResetBehind,
		HalfFrames:  d.HalfFrames, Left: d.Left, Cut: d.Cut, ClosedByServer: filled(d.Frames),
		NotUpgraded: filled(d.NotUpgraded),
		NotDialed:   filled(d.NotDialed), Deliveries: d.Deliveries,
		Unread: d.Unread, UnreadMax: d.UnreadMax, InKernel: d.InKernel, InKernelMax: d.InKernelMax,
	}
	if s.memory != nil {
		r.Memory = new(s.memory.report(s.hold))
		if r.Memory.Judged && !r.Memory.Flat {
			s.problem("the server's memory was not flat: %d MB in the second quarter, %d MB in the last, more than "+
				"the %d MB allowed",
				r.Memory.RSSSecondQuarter>>20, r.Memory.RSSLastQuarter>>20, r.Memory.RSSAllowed>>20)
		}
	}
	if kept := r.Records.PerSecond / s.rate; s.hold >= flatJudged && kept < rateKeptMin && !r.Interrupted {
		s.problem("%.1f of %.1f records a second were produced: Kafka or the machine did not keep the rate",
			r.Records.PerSecond, s.rate)
	}
	for _, c := range []struct {
		n    int64
		what string
	}{
		{int64(d.Lost), "records did not arrive on disturbed connections"},
		{d.Duplicates, "records arrived again on disturbed connections"},
		{d.Corrupt, "messages of disturbed connections had other bytes than were produced"},
		{d.Stuck, "disturbed connections did not get records although they read"},
		{d.TooEarly, "disturbed connections were closed as slow with less than the limit waiting: is --outbound-max " +
			"the server's?"},
		{d.TooLate, "disturbed connections were not closed with more than the limit waiting: is --outbound-max the " +
			"server's?"},
		{d.Unexplained, "disturbed connections were cut by the server without a reason"},
	} {
		if c.n > 0 {
			s.problem("%d %s", c.n, c.what)
		}
	}
	for _, what := range d.Faults {
		s.problem("disturbed connection %s", what)
	}
	if after.metrics == nil {
		return // The problem has been added before.
	}
	b := books{
		counted: grown(before.metrics, after.metrics), health: after.health,
		healthBy: after.health.Deliveries() - before.health.Deliveries(),
		topic:    s.Topic[0], produced: s.produced(), good: n, bad: d,
	}
	r.Accounts = b.accounts()
	for _, a := range r.Accounts {
		if !a.Matches() {
			s.problem("the server's counters do not match: %s", a)
		}
	}
}
