package main

import (
	"slices"
	"time"

	"wsd/loadtest/report"
)

// load describes what is done in one run of a comparison.
type load struct {
	name     string
	size     int     // Bytes of a record.
	batch    int     // Records per burst; 0: none are produced.
	rate     float64 // Bursts per second.
	share    float64 // Rate as a share of the rate that the yardstick sustains; 0: rate applies.
	targeted bool    // Whether each client has its own channel, so that a record goes to one client.
	chained  bool    // Whether the floor gets its records through its chain.
	// Whether records contain text and wsd offers compression. The floor's contain none and are sent uncompressed.
	text    bool
	deflate bool // Whether clients ask for compression.
}

// The names of loads that figures refer to.
const (
	nameSingle = "single"
	nameBatch  = "batch"
	nameIdle   = "idle"
	nameSpread = "spread"
	nameChain  = "chain"
	namePlain  = "text"
	nameSmall  = "compressed"
	nameHalf   = "latency 50 %"
	nameHigh   = "latency 90 %"
)

// The load of runs that measure CPU time. It is so low that the floor and wsd wait most of the time, and each message
// is delivered before the next one arrives.
const (
	deliveriesPerSecond = 60_000 // Deliveries per second of small messages.
	largePerSecond      = 15_000 // Deliveries per second of 16 KiB messages.
	groupsPerSecondMax  = 500    // Maximum bursts per second.
	spreadPerSecond     = 20_000 // Records per second of spread.
	spreadBatch         = 20     // Records per burst of spread.
	chainPerSecond      = 500    // Records per second of chain.
)

// interval returns the time between two bursts. sustained is the rate of single records that the yardstick sustains.
func (s *load) interval(sustained float64) time.Duration {
	rate := s.rate
	if s.share > 0 {
		rate = s.share * sustained
	}
	return time.Duration(float64(time.Second) / rate)
}

// loads returns the runs of a round.
func (c *compare) loads() []load {
	small := min(deliveriesPerSecond/float64(c.Clients), groupsPerSecondMax)
	large := min(largePerSecond/float64(c.Clients), groupsPerSecondMax)
	var list []load
	for _, e := range []struct {
		wanted []string
		load
	}{
		{[]string{"single"}, load{name: nameSingle, size: 128, batch: 1, rate: small}},
		{[]string{"batch"}, load{name: nameBatch, size: 128, batch: 10, rate: small}},
		{[]string{"1k"}, load{name: "1k", size: 1 << 10, batch: 1, rate: small}},
		{[]string{"16k"}, load{name: "16k", size: 16 << 10, batch: 1, rate: large}},
		{[]string{"compress"}, load{name: namePlain, size: 1 << 10, batch: 1, rate: small, text: true}},
		{[]string{"compress"}, load{name: nameSmall, size: 1 << 10, batch: 1, rate: small, text: true, deflate: true}},
		{[]string{"connect", "memory"}, load{name: nameIdle, size: 128}},
		{[]string{"latency"}, load{name: nameHalf, size: 128, batch: 1, share: 0.5}},
		{[]string{"latency"}, load{name: nameHigh, size: 128, batch: 1, share: 0.9}},
		{[]string{"spread"}, load{name: nameSpread, size: 128, batch: spreadBatch, rate: spreadPerSecond / spreadBatch,
			targeted: true}},
		{[]string{"chain"}, load{name: nameChain, size: 128, batch: 1, rate: chainPerSecond, targeted: true,
			chained: true}},
	} {
		if slices.ContainsFunc(e.wanted, func(name string) bool { return slices.Contains(c.Cases, name) }) {
			list = append(list, e.load)
		}
	}
	return list
}

// yardsticks returns the runs of the yardstick alone that other figures are compared with.
func (c *compare) yardsticks() []load {
	needed := slices.Contains(c.Cases, "batch") || slices.Contains(c.Cases, "spread")
	if !needed || slices.Contains(c.Cases, "single") {
		return nil
	}
	other := compare{Cases: []string{"single"}, Clients: c.Clients}
	return other.loads()
}

// figure describes a row of the comparison.
type figure struct {
	kind   string                             // Case of --cases.
	load   string                             // Name of the load that is measured.
	name   string                             // Name of the figure.
	unit   string                             // Unit of the figure.
	value  func(*report.Result) report.Figure // Returns the figure.
	other  string                             // Load of the yardstick to compare with; empty: the same.
	target string                             // Value that the developers aim for, of wsd to the floor.
}

// targetsTLS are the values that the developers aim for of wsd with TLS beside the same wsd without, by case and name
// of the figure.
var targetsTLS = map[string]string{
	"single CPU per delivery": "≤ 1.25",
	"batch CPU per delivery":  "≤ 1.35",
	"memory user space":       "≤ 4,096 B",
}

// label returns the name of the load in the report.
func (f *figure) label() string {
	if f.load == nameIdle {
		return f.kind
	}
	return f.load
}

// figures returns all figures, in order.
func (c *compare) figures() []figure {
	const perDelivery = "CPU per delivery"
	delivery := figuresOf["cpu/delivery"]
	memory := "wsd ≤ 600 B"
	if c.Protocol != "raw" {
		memory = "wsd ≤ 1,024 B"
	}
	list := []figure{
		{kind: "single", load: nameSingle, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.15"},
		{kind: "batch", load: nameBatch, name: perDelivery, unit: "µs", value: delivery},
		{kind: "batch", load: nameBatch, name: "to single", unit: "µs", value: delivery, other: nameSingle,
			target: "≤ 0.14"},
		{kind: "1k", load: "1k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "16k", load: "16k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "connect", load: nameIdle, name: "CPU per connection", unit: "µs", value: figuresOf["cpu/connection"],
			target: "≤ 1.50"},
		{kind: "memory", load: nameIdle, name: "user space", unit: "B", value: figuresOf["rss/connection"],
			target: memory},
		{kind: "memory", load: nameIdle, name: "kernel, both ends", unit: "B",
			value: func(r *report.Result) report.Figure {
				if r.Kernel == nil {
					return report.NA
				}
				return r.Kernel.Connection
			}},
	}
	for _, name := range []string{nameHalf, nameHigh} {
		for _, quantile := range []string{"p50", "p99", "p99.9"} {
			list = append(list, figure{kind: "latency", load: name, name: quantile, unit: "ms",
				value: func(r *report.Result) report.Figure { return figuresOf[quantile](r) / 1000 }})
		}
	}
	for _, name := range []string{namePlain, nameSmall} {
		list = append(list,
			figure{kind: "compress", load: name, name: perDelivery, unit: "µs", value: delivery},
			figure{kind: "compress", load: name, name: "bytes per delivery", unit: "B",
				value: func(r *report.Result) report.Figure { return r.Records.WirePer }})
	}
	list = append(list,
		figure{kind: "spread", load: nameSpread, name: perDelivery, unit: "µs", value: delivery},
		figure{kind: "spread", load: nameSpread, name: "to single", unit: "µs", value: delivery, other: nameSingle,
			target: "≤ 1.50"},
		figure{kind: "chain", load: nameChain, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.50"})
	return slices.DeleteFunc(list, func(f figure) bool { return !slices.Contains(c.Cases, f.kind) })
}
