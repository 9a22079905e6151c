package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wsd/internal/bus"
	"wsd/internal/deflate"
	"wsd/internal/recovery"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/stats"
	"wsd/internal/steering"
)

// Options is where the figures come from.
type Options struct {
	Version, Commit string
	Shards          []*shard.Stats // By shard id.
	Ring            *bus.Stats
	Source          *source.Stats
	Recovery        *recovery.Stats // Nil: nothing can be recovered, and its figures are 0.
	Deflate         *deflate.Pool   // Nil: compression is off, and its figures are 0.
	Steering        *steering.Steering
	Channels        func() int  // Channels with a subscriber.
	Ready           func() bool // As /ready has it.
}

// Handler returns what serves /metrics: wsd's metrics, and the Go runtime's and the process's under their usual names. A scrape
// costs a few hundred atomic loads a shard and one system call for the steering program's counters.
func Handler(o Options) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(o))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// kind is a metric's type.
type kind int

const (
	gauge kind = iota
	counter
	histogram
)

func (k kind) String() string { return [...]string{"gauge", "counter", "histogram"}[k] }

// family is one metric with all its labels' values.
type family struct {
	name, help string
	kind       kind
	labels     []string
	values     func(emit func(v float64, labels ...string))
	histogram  func() stats.HistogramSnapshot // Instead of values for a histogram, which has no labels.
}

// collector is a prometheus.Collector over families.
type collector struct {
	options Options
	descs   []*prometheus.Desc // In the order of families.
}

func newCollector(o Options) *collector {
	c := &collector{options: o}
	for _, f := range families(o) {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for i, f := range families(c.options) {
		desc := c.descs[i]
		if f.kind == histogram {
			s := f.histogram()
			buckets := make(map[float64]uint64, len(s.Bounds))
			for j, bound := range s.Bounds {
				buckets[bound] = s.Cumulative[j]
			}
			out <- prometheus.MustNewConstHistogram(desc, s.Count, s.Sum, buckets)
			continue
		}
		valueType := prometheus.GaugeValue
		if f.kind == counter {
			valueType = prometheus.CounterValue
		}
		f.values(func(v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(desc, valueType, v, labels...)
		})
	}
}
