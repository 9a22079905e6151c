package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// run runs the whole test. An error means that nothing was measured.
func (t *test) run(ctx context.Context) (*report.Report, error) {
	defer func() {
		for _, p := range t.producers {
			p.Close()
		}
	}()
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	var s [3]sample // Before the ramp, after it, after the hold.
	s[0] = t.meter.read()
	t.connect(ctx)
	s[1] = t.meter.read()
	t.readShards(ctx)
	if t.held > 0 && ctx.Err() == nil {
		t.deliver(ctx)
	} else {
		t.drain()
	}
	s[2] = t.meter.read()
	n, connect, latency := t.engine.Close(closeGrace)
	r := t.report(&n, connect, latency)
	t.costs(r, s)
	r.Interrupted = ctx.Err() != nil
	t.judge(r, &n)
	return r, nil
}

// report returns a report with the figures of the clients.
func (t *test) report(n *client.Counters, connect, latency *hdrhistogram.Histogram) *report.Report {
	produced := t.produced()
	var late float64
	for _, p := range t.producers {
		late = max(late, p.LateMax().Seconds()*1000)
	}
	r := &report.Report{
		Run: report.Run{
			Mode: t.mode, Protocol: t.Protocol, Server: t.URL, Clients: t.clients, RatePerSecond: t.rate,
			RecordBytes: t.Size,
			Batch:       t.Batch, DurationSeconds: t.duration.Seconds(), RampSeconds: t.ramp.Seconds(),
			HoldSeconds: t.hold.Seconds(),
		},
		Clients: report.Clients{
			Attempts: n.Attempts, Refused: n.Refused, Failed: n.Failed, GivenUp: n.GivenUp, Held: n.Held,
			OpenAtEnd: n.Open,
			Closed:    n.Closed, Closes: filled(n.Closes), Refusals: filled(n.Refusals), Failures: filled(n.Failures),
			ConnectTime: report.Distribution(connect),
		},
		Records: report.Records{
			Produced: produced, LateMaxMillis: late, Deliveries: n.Deliveries, DeliveryBytes: n.DeliveryBytes,
			Gaps: n.Gaps, Lost: n.Lost,
			LostClosed: n.LostClosed, Duplicates: n.Duplicates, Reordered: n.Reordered, Corrupt: n.Corrupt,
			Foreign:    n.Foreign,
			Unexpected: n.Unexpected, Pings: n.Pings,
		},
		Latency: report.Distribution(latency),
	}
	if seconds := t.hold.Seconds(); seconds > 0 {
		r.Records.PerSecond = float64(produced-t.before) / seconds
		r.Records.DeliveriesPS = float64(n.Deliveries-t.early) / seconds
	}
	if h := t.health; h != nil {
		lowest, highest := h.ConnectionsPerShard()
		r.Run.Version = strings.TrimSpace(h.Version + " " + h.Commit)
		r.Shards = &report.Shards{Count: len(h.Shards), ConnectionsMin: lowest, ConnectionsMax: highest,
			Steering: h.Steering.Mode}
	}
	return r
}

func filled(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

// costs adds the resources that the server, the kernel and the load generator used. s is the samples before the ramp,
// after it, and after the hold.
func (t *test) costs(r *report.Report, s [3]sample) {
	held, deliveries := r.Clients.Held, r.Records.Deliveries-t.early
	r.Loadtest = report.Loadtest{
		RampCPUSeconds: (s[1].ownCPU - s[0].ownCPU).Seconds(), HoldCPUSeconds: (s[2].ownCPU - s[1].ownCPU).Seconds(),
	}
	if s[0].kernel && s[1].kernel && s[2].kernel {
		r.Kernel = &report.Kernel{
			TCPBefore: s[0].tcp, TCPAfterRamp: s[1].tcp, TCPAfterHold: s[2].tcp,
			TCPConnection: report.Per(float64(s[2].tcp-s[0].tcp), held),
			SlabBefore:    s[0].slab, SlabAfterRamp: s[1].slab, SlabAfterHold: s[2].slab,
			SlabConnection: report.Per(float64(s[1].slab-s[0].slab), held),
		}
	}
	if !s[0].present || !s[1].present || !s[2].present {
		r.ServerNote = t.meter.note
		return
	}
	ramp, hold := s[1].server.CPU-s[0].server.CPU, s[2].server.CPU-s[1].server.CPU
	r.Server = &report.Server{
		PID: t.meter.pid, CPUSeconds: (ramp + hold).Seconds(), RampCPUSeconds: ramp.Seconds(),
		HoldCPUSeconds:      hold.Seconds(),
		CPUMicrosConnection: report.Per(float64(ramp.Microseconds()), held),
		CPUMicrosDelivery:   report.Per(float64(hold.Microseconds()), deliveries),
		RSSBefore:           s[0].server.RSS, RSSAfterRamp: s[1].server.RSS, RSSAfterHold: s[2].server.RSS,
		RSSConnection:     report.Per(float64(s[1].server.RSS-s[0].server.RSS), held),
		RSSConnectionHold: report.Per(float64(s[2].server.RSS-s[0].server.RSS), held),
	}
}

// judge sets whether the test has passed, and why not.
func (t *test) judge(r *report.Report, n *client.Counters) {
	if r.Interrupted {
		t.problem("interrupted by a signal")
	}
	if n.Held < int64(t.clients) {
		t.problem("held %d of %d clients: %s", n.Held, t.clients, reasons(n.Refusals, n.Failures))
	}
	if n.Closed > 0 {
		t.problem("%d clients were disconnected: %s", n.Closed, reasons(n.Closes))
	}
	if made := r.Records.Produced - t.before; made < t.planned && !r.Interrupted {
		t.problem("produced %d of %d records in time", made, t.planned)
	}
	for _, c := range []struct {
		n    int64
		what string
	}{
		{n.Lost, "records were lost"}, {n.LostClosed, "records did not reach clients that were disconnected"},
		{n.Duplicates, "records arrived again"}, {n.Reordered, "records arrived after a later one"},
		{n.Corrupt, "records had other bytes than were produced"},
		{n.Unexpected, "messages were neither a record nor a ping"},
	} {
		if c.n > 0 {
			t.problem("%d %s", c.n, c.what)
		}
	}
	r.Passed = len(t.problems) == 0
	r.Reasons = append([]string{}, t.problems...) // Not null in JSON.
}

// reasons lists counted reasons, the most frequent first.
func reasons(counts ...map[string]int64) string {
	all := map[string]int64{}
	for _, m := range counts {
		for reason, n := range m {
			all[reason] += n
		}
	}
	if len(all) == 0 {
		return "not enough time, see --timeout"
	}
	list := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if all[a] != all[b] {
			return int(all[b] - all[a])
		}
		return strings.Compare(a, b)
	})
	for i, reason := range list {
		list[i] = fmt.Sprintf("%s (%d)", reason, all[reason])
	}
	return strings.Join(list, ", ")
}
