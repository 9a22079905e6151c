package main

import (
	"fmt"
	"slices"
	"time"
)

// scenario is what one run does.
type scenario struct {
	name     string
	size     int     // Bytes of a record.
	batch    int     // Records of a produce request; 0: none are produced.
	rate     float64 // Produce requests a second.
	share    float64 // Instead of rate: that share of what the floor sustains.
	targeted bool    // Every client has a channel of its own, and a record goes to one of them.
	chained  bool    // The floor takes its records by its chain.
	text     bool    // Records hold text, and wsd offers compression; the floor's do not, and it sends them as they are.
	deflate  bool    // Clients ask for it.
}

// The names of scenarios that figures refer to.
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

// The load of the runs that measure CPU time: so low that the floor and wsd wait most of the time, each message being delivered before
// the next one comes.
const (
	deliveriesPerSecond = 60_000 // Writes of small messages.
	largePerSecond      = 15_000 // Of 16 KiB.
	groupsPerSecondMax  = 500
	spreadPerSecond     = 20_000 // Records.
	spreadBatch         = 20
	chainPerSecond      = 500
)

// interval is the time between two produce requests; sustained is how many of one record a second the floor sustains.
func (s *scenario) interval(sustained float64) time.Duration {
	rate := s.rate
	if s.share > 0 {
		rate = s.share * sustained
	}
	return time.Duration(float64(time.Second) / rate)
}

// clients is how many the scenario has.
func (s *scenario) clients(c *compare) int {
	if s.targeted {
		return c.Channels
	}
	return c.Clients
}

// scenarios are the runs of a round.
func (c *compare) scenarios() []scenario {
	small := min(deliveriesPerSecond/float64(c.Clients), groupsPerSecondMax)
	large := min(largePerSecond/float64(c.Clients), groupsPerSecondMax)
	var list []scenario
	for _, e := range []struct {
		wanted []string
		scenario
	}{
		{[]string{"single"}, scenario{name: nameSingle, size: 128, batch: 1, rate: small}},
		{[]string{"batch"}, scenario{name: nameBatch, size: 128, batch: 10, rate: small}},
		{[]string{"1k"}, scenario{name: "1k", size: 1 << 10, batch: 1, rate: small}},
		{[]string{"16k"}, scenario{name: "16k", size: 16 << 10, batch: 1, rate: large}},
		{[]string{"compress"}, scenario{name: namePlain, size: 1 << 10, batch: 1, rate: small, text: true}},
		{[]string{"compress"}, scenario{name: nameSmall, size: 1 << 10, batch: 1, rate: small, text: true, deflate: true}},
		{[]string{"connect", "memory"}, scenario{name: nameIdle, size: 128}},
		{[]string{"latency"}, scenario{name: nameHalf, size: 128, batch: 1, share: 0.5}},
		{[]string{"latency"}, scenario{name: nameHigh, size: 128, batch: 1, share: 0.9}},
		{[]string{"spread"}, scenario{name: nameSpread, size: 128, batch: spreadBatch, rate: spreadPerSecond / spreadBatch, targeted: true}},
		{[]string{"chain"}, scenario{name: nameChain, size: 128, batch: 1, rate: chainPerSecond, targeted: true, chained: true}},
	} {
		if slices.ContainsFunc(e.wanted, func(name string) bool { return slices.Contains(c.Cases, name) }) {
			list = append(list, e.scenario)
		}
	}
	return list
}

// yardsticks are the runs that only the floor does, for the figures of others.
func (c *compare) yardsticks() []scenario {
	needed := slices.Contains(c.Cases, "batch") || slices.Contains(c.Cases, "spread")
	if !needed || slices.Contains(c.Cases, "single") {
		return nil
	}
	other := compare{Cases: []string{"single"}, Clients: c.Clients}
	return other.scenarios()
}

// figure is a line of the report.
type figure struct {
	kind   string // Of --cases.
	of     string // The scenario.
	name   string
	unit   string
	value  func(*measure) float64
	floor  string // The floor's scenario to compare with; empty: the same.
	target string
}

// label is what the report calls the figure's run.
func (f *figure) label() string {
	if f.of == nameIdle {
		return f.kind
	}
	return f.of
}

// figures are all lines, in order.
func (c *compare) figures() []figure {
	const perDelivery = "CPU per delivery"
	delivery := func(m *measure) float64 { return m.cpuDelivery }
	memory := "wsd ≤ 600 B"
	if c.Protocol != "raw" {
		memory = "wsd ≤ 1,024 B"
	}
	list := []figure{
		{kind: "single", of: nameSingle, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.15"},
		{kind: "batch", of: nameBatch, name: perDelivery, unit: "µs", value: delivery},
		{kind: "batch", of: nameBatch, name: "to the floor's single", unit: "µs", value: delivery, floor: nameSingle, target: "≤ 0.14"},
		{kind: "1k", of: "1k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "16k", of: "16k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "connect", of: nameIdle, name: "CPU per connection", unit: "µs", value: func(m *measure) float64 { return m.cpuConnection }, target: "≤ 1.50"},
		{kind: "memory", of: nameIdle, name: "user space", unit: "B", value: func(m *measure) float64 { return m.rss }, target: memory},
		{kind: "memory", of: nameIdle, name: "kernel, both ends", unit: "B", value: func(m *measure) float64 { return m.kernel }},
	}
	for _, name := range []string{nameHalf, nameHigh} {
		for i, quantile := range []string{"p50", "p99", "p99.9"} {
			list = append(list, figure{kind: "latency", of: name, name: quantile, unit: "ms", value: func(m *measure) float64 { return m.latency[i] }})
		}
	}
	for _, name := range []string{namePlain, nameSmall} {
		list = append(list,
			figure{kind: "compress", of: name, name: perDelivery, unit: "µs", value: delivery},
			figure{kind: "compress", of: name, name: "bytes per delivery", unit: "B", value: func(m *measure) float64 { return m.wire }})
	}
	list = append(list,
		figure{kind: "spread", of: nameSpread, name: perDelivery, unit: "µs", value: delivery},
		figure{kind: "spread", of: nameSpread, name: "to the floor's single", unit: "µs", value: delivery, floor: nameSingle, target: "≤ 1.50"},
		figure{kind: "chain", of: nameChain, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.50"})
	return slices.DeleteFunc(list, func(f figure) bool { return !slices.Contains(c.Cases, f.kind) })
}

// contender names a server: the floor has 0 shards.
func contender(shards int) string {
	if shards == 0 {
		return "floor"
	}
	return fmt.Sprintf("wsd --shards %d", shards)
}
