package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/report"
)

// Resolutions: what is below is n/a. Go's heap and the kernel's memory grow in steps and are used by others too.
const (
	resolutionMemory = 1 << 20   // Bytes, of the whole machine.
	resolutionRSS    = 256 << 10 // Bytes, of the server.
	resolutionCPU    = 100       // Microseconds.
)

// lagShare is the part of a latency that may be the load generator's own without a warning.
const lagShare = 0.05

// result returns the result of the run.
func (r *run) result(ctx context.Context, n *client.Counters, times *client.Times) (*report.Result, error) {
	criteria, err := parseCriteria(r.FailIf)
	if err != nil {
		return nil, err
	}
	produced, channels := r.produced(), 0
	var begun uint64
	for _, f := range r.feeds {
		begun += f.begun()
		channels += max(1, f.order.channels)
	}
	res := &report.Result{
		Run: report.Run{
			Scenario: r.name, Protocol: r.Protocol, Server: r.URL, Clients: r.clients, RatePerSecond: r.rate,
			Channels: channels, RecordBytes: r.Size, Batch: r.Batch, DurationSeconds: r.duration.Seconds(),
			RampSeconds: r.ramp.Seconds(), HoldSeconds: r.holdTime.Seconds(),
		},
		Clients: report.Clients{ConnectTime: report.Distribution(times.Connect),
			RejoinTime: report.Distribution(times.Rejoin)},
		Records: report.Records{Produced: begun, Accepted: produced, LateMaxMillis: r.late.Seconds() * 1000,
			Expected: r.expected(), Written: report.NA, WrittenPS: report.NA},
		Latency: report.Distribution(times.Latency), Rounds: r.rounds, Memory: r.memory, Accounts: r.accounts,
	}
	client.Add(&res.Clients, n)
	client.Add(&res.Records, n)
	seconds, records := r.holdTime.Seconds(), &res.Records
	perSecond := func(n float64) report.Figure {
		return report.Per(n/max(seconds, 1e-9), 0, min(1, int64(seconds*1e9)))
	}
	records.ProducedPS, records.AcceptedPS = perSecond(float64(begun-r.before)), perSecond(float64(produced-r.before))
	records.DeliveriesPS = perSecond(float64(n.Deliveries - r.early.Deliveries))
	records.WirePer = report.Per(float64(n.WireBytes-r.early.WireBytes), 1, n.Deliveries-r.early.Deliveries)
	if a, b := &r.marks[atBegin], &r.marks[atEnd]; b.counted && r.marks[atStart].counted {
		records.Written = report.Figure(b.written - r.marks[atStart].written)
		records.WrittenPS = perSecond(float64(b.written - a.written))
	}
	if h := r.target.health; h != nil {
		lowest, highest := h.ConnectionsPerShard()
		res.Run.Version = strings.TrimSpace(h.Version + " " + h.Commit)
		res.Shards = &report.Shards{Count: len(h.Shards), ConnectionsMin: lowest, ConnectionsMax: highest,
			Steering: h.Steering.Mode}
		for _, s := range h.Shards {
			res.Shards.Connections = append(res.Shards.Connections, s.Connections)
		}
	}
	if r.series != nil {
		res.Series = r.series.points
	}
	r.costs(res, times)
	r.reportDisturbed(res)
	res.Interrupted = ctx.Err() != nil
	r.judge(res, n, criteria)
	return res, nil
}

// costs adds the resources that the server, the kernel and the load generator used.
func (r *run) costs(res *report.Result, times *client.Times) {
	start, ramped, settled, begin, end := &r.marks[atStart], &r.marks[atRamped], &r.marks[atSettled],
		&r.marks[atBegin], &r.marks[atEnd]
	held, deliveries := res.Clients.Held, res.Records.Deliveries-r.early.Deliveries
	took := end.at.Sub(begin.at).Seconds()
	res.Loadtest = report.Loadtest{
		RampCPUSeconds: (ramped.own - start.own).Seconds(), HoldCPUSeconds: (end.own - begin.own).Seconds(),
		CPUShare: report.NA, Lag: report.Distribution(times.Lag),
	}
	if took > 0.1 {
		res.Loadtest.CPUShare = report.Figure((end.own - begin.own).Seconds() / took)
	}
	if start.kernel && settled.kernel && end.kernel {
		res.Kernel = &report.Kernel{
			TCPBefore: start.tcp, TCPAfterHold: end.tcp, SlabBefore: start.slab, SlabAfterRamp: settled.slab,
			TCPConnection:  report.Per(float64(end.tcp-start.tcp), resolutionMemory, held),
			SlabConnection: report.Per(float64(settled.slab-start.slab), resolutionMemory, held),
			Connection:     report.Per(float64(settled.slab+settled.tcp-start.slab-start.tcp), resolutionMemory, held),
		}
	}
	if !start.present || !settled.present || !end.present {
		res.ServerNote = r.target.note
		return
	}
	ramp, hold := ramped.cpu-start.cpu, end.cpu-begin.cpu
	res.Server = &report.Server{
		PID: r.target.pid, RampCPUSeconds: ramp.Seconds(), HoldCPUSeconds: hold.Seconds(), CPUPercent: report.NA,
		CPUMicrosConnection: report.Per(micros(ramp), resolutionCPU, held),
		CPUMicrosDelivery:   report.Per(micros(hold), resolutionCPU, deliveries),
		RSSBefore:           start.server.RSS, RSSAfterRamp: settled.server.RSS, RSSAfterHold: end.server.RSS,
		RSSConnection:     report.Per(float64(settled.server.RSS-start.server.RSS), resolutionRSS, held),
		RSSConnectionHold: report.Per(float64(end.server.RSS-start.server.RSS), resolutionRSS, held),
	}
	if took > 0.1 {
		res.Server.CPUPercent = report.Figure(100 * hold.Seconds() / took)
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// judge sets whether the run has passed, and why not.
func (r *run) judge(res *report.Result, n *client.Counters, criteria []criterion) {
	if res.Interrupted {
		r.problem("interrupted by a signal")
	}
	if n.Held < int64(r.clients) {
		r.problem("held %d of %d clients: %s", n.Held, r.clients, reasons(n.Refusals, n.Failures))
	}
	if n.Closed > 0 {
		r.problem("%d clients were disconnected: %s", n.Closed, reasons(n.Closes))
	}
	if away := n.Held - n.Closed - n.Open; away > 0 {
		r.problem("%d clients did not come back: %s", away, reasons(n.Refusals, n.Failures))
	}
	if r.recover && n.Recovered < n.Rejoined {
		r.problem("%d of %d clients that came back did not recover what they missed", n.Rejoined-n.Recovered,
			n.Rejoined)
	}
	if made := res.Records.Accepted - r.before; made < r.planned && !res.Interrupted {
		r.problem("Kafka accepted %d of %d records in time", made, r.planned)
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
			r.problem("%d %s", c.n, c.what)
		}
	}
	for _, c := range criteria {
		if failure := c.failure(res); failure != "" {
			r.problem("%s", failure)
		}
	}
	res.Passed = len(r.problems) == 0
	res.Reasons = append([]string{}, r.problems...) // Not null in JSON.
	res.Warnings = warnings(res)
	verdict := map[bool]string{true: "passed", false: "not passed"}[res.Passed]
	res.Summary = fmt.Sprintf("%s: %s of %s clients held %s, %s of %s records, p99 %s", verdict,
		report.Group(n.Open), report.Group(r.clients), r.holdTime.Round(100*time.Millisecond),
		report.Group(n.Deliveries-r.early.Deliveries), report.Group(res.Records.Expected), show(res.Latency.P99, 1000,
			" ms"))
	if res.Passed {
		res.Summary = strings.Replace(res.Summary, fmt.Sprintf(" of %s clients", report.Group(r.clients)), " clients",
			1)
	}
}

// warnings returns what makes figures doubtful: where the load generator, not the server, may have been the limit.
func warnings(res *report.Result) []string {
	list := []string{}
	l := &res.Loadtest
	for _, q := range []struct {
		name         string
		lag, latency report.Figure
	}{{"p50", l.Lag.P50, res.Latency.P50}, {"p99", l.Lag.P99, res.Latency.P99}} {
		if q.lag.Known() && q.latency.Known() && q.lag > lagShare*q.latency {
			list = append(list, fmt.Sprintf("the load generator's own loops were %s late (%s), which "+
				"is %.0f %% of the latency's %s, %s: "+
				"the latency is partly its own", show(q.lag, 1000, " ms"), q.name, 100*q.lag/q.latency, q.name,
				show(q.latency, 1000, " ms")))
		}
	}
	if late, planned := res.Records.LateMaxMillis, res.Run.DurationSeconds*1000; late > lateMaxShare*planned {
		list = append(list, fmt.Sprintf("records were produced up to %.0f ms late: Kafka or the load generator "+
			"did not keep the rate; "+
			"that is in the latency", late))
	}
	return list
}

// lateMaxShare is the longest delay of a burst without a warning, as a share of the run.
const lateMaxShare = 0.05

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
