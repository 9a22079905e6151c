package metrics

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/stats"
)

// latency returns how late records were delivered, by topic.
func (o Options) latency() []family {
	topics := sync.OnceValue(o.deliveries) // One sum for all metrics of a scrape.
	by := func(name, help string, of func(*stats.DeliveryCounts) *stats.LatencyCounts) family {
		return family{name: name, help: help, kind: histogram, labels: []string{"topic"},
			latencies: func(emit func(*stats.LatencyCounts, ...string)) {
				for i := range topics() {
					t := &topics()[i]
					emit(of(&t.counts), t.topic)
				}
			}}
	}
	return []family{
		by("wsd_delivery_latency_seconds", "Time from a record's timestamp to its write to a client, for each "+
			"record and client. The timestamp is the producer's or the broker's (wsd_kafka_timestamps) and has "+
			"milliseconds. Also a native histogram.",
			func(c *stats.DeliveryCounts) *stats.LatencyCounts { return &c.Latency }),
		by("wsd_delivery_seconds", "The part of it in wsd: time from the fetch that brought a record to its write to "+
			"a client. Also a native histogram.",
			func(c *stats.DeliveryCounts) *stats.LatencyCounts { return &c.InWsd }),
		{name: "wsd_delivery_ahead_total", kind: counter, labels: []string{"topic"}, help: "Deliveries of records " +
			"whose timestamp is ahead of this machine's clock. They count as no latency.",
			values: func(emit func(float64, ...string)) {
				for _, t := range topics() {
					emit(float64(t.counts.Ahead), t.topic)
				}
			}},
		{name: "wsd_delivery_late_total", kind: counter, labels: []string{"shard", "stage"}, help: "Deliveries later " +
			"than health.delivery_max, by the stage that took longest (docs/metrics.md explains each).",
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					for at, stage := range shard.Stages() {
						emit(float64(s.Late[at].Load()), strconv.Itoa(i), stage)
					}
				}
			}},
	}
}

// topicDeliveries is what all shards have delivered of a topic.
type topicDeliveries struct {
	topic  string
	counts stats.DeliveryCounts
}

// deliveries returns the counts of each topic that is listed, and of all others together if there are any.
func (o Options) deliveries() (list []topicDeliveries) {
	for _, t := range o.Source.Topics() {
		if t.Listed {
			list = append(list, topicDeliveries{topic: t.Name})
			list[len(list)-1].counts.Add(t.Deliveries)
		}
	}
	if d := o.Source.UnlistedDeliveries(); d != nil {
		list = append(list, topicDeliveries{topic: unlisted})
		list[len(list)-1].counts.Add(d)
	}
	return list
}

// lagTimes returns the lag in time of each known partition of a topic that is listed, and the longest of the others'.
func lagTimes(partitions func() []source.PartitionStats) family {
	return family{name: "wsd_kafka_lag_seconds", labels: []string{"topic", "partition"}, help: "Age of the newest " +
		"record read, while there is more to read; how long records wait while the bus is full; 0 at the end of the " +
		"log; -1 until it is known. All topics that are not listed have their longest.",
		values: func(emit func(float64, ...string)) {
			longest, others := time.Duration(0), false
			for _, p := range partitions() {
				if !p.Listed {
					longest, others = max(longest, p.LagTime), true
					continue
				}
				emit(seconds(p.LagTime), p.Topic, strconv.Itoa(int(p.Partition)))
			}
			if others {
				emit(longest.Seconds(), unlisted, "")
			}
		}}
}

// seconds returns d in seconds, or -1 if it is negative.
func seconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return d.Seconds()
}

// timestamps returns whose clock the timestamps of each listed topic are of.
func timestamps(topics func() []*source.TopicStats) family {
	return family{name: "wsd_kafka_timestamps", labels: []string{"topic", "clock"}, help: "1 for whose clock the " +
		"timestamps of the topic's records are of: the producers' (create), the brokers' (append, LogAppendTime), or " +
		"unknown before there is a record.",
		values: func(emit func(float64, ...string)) {
			for _, t := range topics() {
				if t.Listed {
					emit(1, t.Name, source.Times(t.Times.Load()).String())
				}
			}
		}}
}

// latencyMetric is a histogram in both forms: with the bounds of stats.LatencyBounds for a scrape in text, and with the
// buckets of a native histogram for one in Protobuf.
type latencyMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	counts *stats.LatencyCounts
}

func newLatencyMetric(desc *prometheus.Desc, names, values []string, c *stats.LatencyCounts) *latencyMetric {
	m := &latencyMetric{desc: desc, counts: c}
	for i := range names {
		m.labels = append(m.labels, &dto.LabelPair{Name: &names[i], Value: &values[i]})
	}
	slices.SortFunc(m.labels, func(a, b *dto.LabelPair) int { // The registry wants them sorted.
		if a.GetName() < b.GetName() {
			return -1
		}
		return 1
	})
	return m
}

// Desc implements prometheus.Metric.
func (m *latencyMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *latencyMetric) Write(out *dto.Metric) error {
	c := m.counts
	schema, threshold := int32(stats.LatencySchema), stats.LatencyZero
	h := &dto.Histogram{
		SampleCount: &c.Count, SampleSum: &c.Sum, Schema: &schema, ZeroThreshold: &threshold, ZeroCount: &c.Zero,
	}
	for i := range c.Bounds {
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &c.Bounds[i], CumulativeCount: &c.Cumulative[i]})
	}
	// Spans are runs of buckets that are not empty; each bucket is the difference to the one before.
	next, before := int32(0), int64(0) // The index after the last span, and the count of its last bucket.
	for i, n := range c.Buckets {
		if n == 0 {
			continue
		}
		index := int32(stats.LatencyFirst + i)
		if last := len(h.PositiveSpan) - 1; last >= 0 && index == next {
			*h.PositiveSpan[last].Length++
		} else {
			offset, length := index-next, uint32(1)
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: &offset, Length: &length})
		}
		h.PositiveDelta = append(h.PositiveDelta, int64(n)-before) //nolint:gosec // Deliveries.
		next, before = index+1, int64(n)                           //nolint:gosec // Deliveries.
	}
	if len(h.PositiveSpan) == 0 { // So that Prometheus knows it from a classic one, also while it is empty.
		offset, length := int32(0), uint32(0)
		h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: &offset, Length: &length})
	}
	out.Label, out.Histogram = m.labels, h
	return nil
}
