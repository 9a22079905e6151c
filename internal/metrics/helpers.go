package metrics

import (
	"strconv"
	"sync/atomic"

	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/stats"
)

// shards returns a metric with a value for each shard.
func (o Options) shards(name, help string, k kind, value func(*shard.Stats) float64) family {
	return family{name: name, help: help, kind: k, labels: []string{"shard"},
		values: func(emit func(float64, ...string)) {
			for i, s := range o.Shards {
				emit(value(s), strconv.Itoa(i))
			}
		}}
}

func (o Options) gauge(name, help string, field func(*shard.Stats) *atomic.Int64) family {
	return o.shards(name, help, gauge, func(s *shard.Stats) float64 { return float64(field(s).Load()) })
}

func (o Options) counter(name, help string, field func(*shard.Stats) *atomic.Uint64) family {
	return o.shards(name, help, counter, func(s *shard.Stats) float64 { return float64(field(s).Load()) })
}

// topic returns a counter with a value for each topic that is read.
func (o Options) topic(name, help string, value func(*source.TopicStats) uint64) family {
	return family{name: name, help: help, kind: counter, labels: []string{"topic"},
		values: func(emit func(float64, ...string)) {
			for _, t := range o.Source.Topics() {
				emit(float64(value(t)), t.Name)
			}
		}}
}

// partition returns a gauge with a value for each known partition.
func (o Options) partition(name, help string, value func(source.PartitionStats) int64) family {
	return family{name: name, help: help, kind: gauge, labels: []string{"topic", "partition"},
		values: func(emit func(float64, ...string)) {
			for _, p := range o.Source.Partitions() {
				emit(float64(value(p)), p.Topic, strconv.Itoa(int(p.Partition)))
			}
		}}
}

// single returns a metric without labels.
func single[T int64 | uint64](name, help string, k kind, load func() T) family {
	return family{name: name, help: help, kind: k, values: func(emit func(float64,
		...string)) {
		emit(float64(load()))
	}}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// sum adds up histograms with the same bounds. It changes the first one.
func sum(list []stats.HistogramSnapshot) stats.HistogramSnapshot {
	total := list[0]
	for _, s := range list[1:] {
		for i, n := range s.Cumulative {
			total.Cumulative[i] += n
		}
		total.Count += s.Count
		total.Sum += s.Sum
	}
	return total
}
