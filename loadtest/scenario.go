package main

import (
	"fmt"
	"slices"
	"time"
)

// scenario describes one run.
type scenario struct {
	name     string
	size     int     // Bytes of a record.
	batch    int     // Records per produce request; 0: none are produced.
	rate     float64 // Produce requests per second.
	share    float64 // Rate as a share of the rate that the floor sustains; 0: rate applies.
	targeted bool    // Whether each client has its own channel, so that a record goes to one client.
	chained  bool    // Whether the floor gets its records through its chain.
	// Whether records contain text and wsd offers compression. The floor's contain none and are sent uncompressed.
	text    bool
	deflate bool // Whether clients ask for compression.
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

// The load of runs that measure CPU time. It is so low that the floor and wsd wait most of the time, and each message
// is delivered before the next one arrives.
const (
	deliveriesPerSecond = 60_000 // Deliveries per second of small messages.
	largePerSecond      = 15_000 // Deliveries per second of 16 KiB messages.
	groupsPerSecondMax  = 500    // Maximum produce requests per second.
	spreadPerSecond     = 20_000 // Records per second of spread.
	spreadBatch         = 20     // Records per produce request of spread.
	chainPerSecond      = 500    // Records per second of chain.
)

// interval returns the time between two produce requests. sustained is the rate of single records that the floor
// sustains.
func (s *scenario) interval(sustained float64) time.Duration {
	rate := s.rate
	if s.share > 0 {
		rate = s.share * sustained
	}
	return time.Duration(float64(time.Second) / rate)
}

// clients returns the number of clients.
func (s *scenario) clients(c *compare) int {
	if s.targeted {
		return c.Channels
	}
	return c.Clients
}

// scenarios returns the runs of a round.
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
		{[]string{"compress"}, scenario{name: nameSmall, size: 1 << 10, batch: 1, rate: small, text: true,
			deflate: true}},
		{[]string{"connect", "memory"}, scenario{name: nameIdle, size: 128}},
		{[]string{"latency"}, scenario{name: nameHalf, size: 128, batch: 1, share: 0.5}},
		{[]string{"latency"}, scenario{name: nameHigh, size: 128, batch: 1, share: 0.9}},
		{[]string{"spread"}, scenario{name: nameSpread, size: 128, batch: spreadBatch,
			rate: spreadPerSecond / spreadBatch, targeted: true}},
		{[]string{"chain"}, scenario{name: nameChain, size: 128, batch: 1, rate: chainPerSecond, targeted: true,
			chained: true}},
	} {
		if slices.ContainsFunc(e.wanted, func(name string) bool { return slices.Contains(c.Cases, name) }) {
			list = append(list, e.scenario)
		}
	}
	return list
}

// yardsticks returns the runs of the floor alone that other figures are compared with.
func (c *compare) yardsticks() []scenario {
	needed := slices.Contains(c.Cases, "batch") || slices.Contains(c.Cases, "spread")
	if !needed || slices.Contains(c.Cases, "single") {
		return nil
	}
	other := compare{Cases: []string{"single"}, Clients: c.Clients}
	return other.scenarios()
}

// figure describes a row of the report.
type figure struct {
	kind     string                 // Case of --cases.
	scenario string                 // Name of the scenario that is measured.
	name     string                 // Name of the figure.
	unit     string                 // Unit of the figure.
	value    func(*measure) float64 // Returns the figure.
	floor    string                 // Scenario of the floor to compare with; empty: the same.
	target   string                 // Value that the developers aim for.
}

// label returns the name of the scenario in the report.
func (f *figure) label() string {
	if f.scenario == nameIdle {
		return f.kind
	}
	return f.scenario
}

// figures returns all figures, in order.
func (c *compare) figures() []figure {
	const perDelivery = "CPU per delivery"
	delivery := func(m *measure) float64 { return m.cpuDelivery }
	memory := "wsd ≤ 600 B"
	if c.Protocol != "raw" {
		memory = "wsd ≤ 1,024 B"
	}
	list := []figure{
		{kind: "single", scenario: nameSingle, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.15"},
		{kind: "batch", scenario: nameBatch, name: perDelivery, unit: "µs", value: delivery},
		{kind: "batch", scenario: nameBatch, name: "to the floor's single", unit: "µs", value: delivery,
			floor:  nameSingle,
			target: "≤ 0.14"},
		{kind: "1k", scenario: "1k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "16k", scenario: "16k", name: perDelivery, unit: "µs", value: delivery},
		{kind: "connect", scenario: nameIdle, name: "CPU per connection", unit: "µs",
			value: func(m *measure) float64 { return m.cpuConnection }, target: "≤ 1.50"},
		{kind: "memory", scenario: nameIdle, name: "user space", unit: "B",
			value:  func(m *measure) float64 { return m.rss },
			target: memory},
		{kind: "memory", scenario: nameIdle, name: "kernel, both ends", unit: "B",
			value: func(m *measure) float64 { return m.kernel }},
	}
	for _, name := range []string{nameHalf, nameHigh} {
		for i, quantile := range []string{"p50", "p99", "p99.9"} {
			list = append(list, figure{kind: "latency", scenario: name, name: quantile, unit: "ms",
				value: func(m *measure) float64 { return m.latency[i] }})
		}
	}
	for _, name := range []string{namePlain, nameSmall} {
		list = append(list,
			figure{kind: "compress", scenario: name, name: perDelivery, unit: "µs", value: delivery},
			figure{kind: "compress", scenario: name, name: "bytes per delivery", unit: "B",
				value: func(m *measure) float64 { return m.wire }})
	}
	list = append(list,
		figure{kind: "spread", scenario: nameSpread, name: perDelivery, unit: "µs", value: delivery},
		figure{kind: "spread", scenario: nameSpread, name: "to the floor's single", unit: "µs", value: delivery,
			floor: nameSingle, target: "≤ 1.50"},
		figure{kind: "chain", scenario: nameChain, name: perDelivery, unit: "µs", value: delivery, target: "≤ 1.50"})
	return slices.DeleteFunc(list, func(f figure) bool { return !slices.Contains(c.Cases, f.kind) })
}

// contender returns the name of a server; 0 shards mean the floor.
func contender(shards int) string {
	if shards == 0 {
		return "floor"
	}
	return fmt.Sprintf("wsd --shards %d", shards)
}
