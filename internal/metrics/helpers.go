package metrics

import (
	"strconv"
	"sync/atomic"

	"wsd/internal/shard"
	"wsd/internal/source"
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

// unlisted is the label topic of the sum of all topics that have no value of their own. No topic can have this name.
const unlisted = "(unlisted)"

// topics calls emit for each topic that is listed, and for the sum of the others if there are any.
func (o Options) topics(value func(*source.TopicStats) uint64, emit func(v float64, topic string)) {
	for _, t := range o.Source.Topics() {
		if t.Listed {
			emit(float64(value(t)), t.Name)
		}
	}
	if others := o.Source.Unlisted(); len(others) > 0 {
		sum := uint64(0)
		for _, t := range others {
			sum += value(t)
		}
		emit(float64(sum), unlisted)
	}
}

// topic returns a counter with a value for each topic that is listed.
func (o Options) topic(name, help string, value func(*source.TopicStats) uint64) family {
	return family{name: name, help: help, kind: counter, labels: []string{"topic"},
		values: func(emit func(float64, ...string)) {
			o.topics(value, func(v float64, topic string) { emit(v, topic) })
		}}
}

// partition returns a gauge with a value for each known partition of a topic that is listed, and the sum of the others'
// known values. Partitions returns all of them.
func partition(
	partitions func() []source.PartitionStats, name, help string, value func(source.PartitionStats) int64,
) family {
	return family{name: name, help: help, kind: gauge, labels: []string{"topic", "partition"},
		values: func(emit func(float64, ...string)) {
			sum, others := int64(0), false
			for _, p := range partitions() {
				if !p.Listed {
					sum, others = sum+max(0, value(p)), true
					continue
				}
				emit(float64(value(p)), p.Topic, strconv.Itoa(int(p.Partition)))
			}
			if others {
				emit(float64(sum), unlisted, "")
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
