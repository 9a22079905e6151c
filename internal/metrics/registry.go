package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"wsd/internal/admission"
	"wsd/internal/api"
	"wsd/internal/auth"
	"wsd/internal/bus"
	"wsd/internal/commands"
	"wsd/internal/deflate"
	"wsd/internal/produce"
	"wsd/internal/proxy"
	"wsd/internal/recovery"
	"wsd/internal/shard"
	"wsd/internal/source"
	"wsd/internal/stats"
	"wsd/internal/steering"
	"wsd/internal/tlshandshake"
)

// Options is the sources of the figures.
type Options struct {
	Version   string             // Version of wsd.
	Commit    string             // Commit that wsd was built from.
	Shards    []*shard.Stats     // Counters of the shards, by id.
	Ring      *bus.Stats         // Counters of the bus.
	Source    *source.Stats      // Counters of the Kafka source.
	Produce   *produce.Stats     // Counters of the producer; nil if nothing is written, and all its figures are 0.
	Recovery  *recovery.Stats    // Counters of recovery; nil if it is disabled, and all its figures are 0.
	Deflate   *deflate.Pool      // Compression workers; nil if compression is off, and all their figures are 0.
	Steering  *steering.Steering // Slots and counters of the steering program.
	Memory    *shard.Memory      // What connections hold.
	Auth      *auth.Stats        // Counters of tokens; nil if auth.mode is none, and all figures are 0.
	Proxy     *proxy.Stats       // Counters of calls of the backend; nil without one, and all figures are 0.
	Admission *admission.Sampler // Nil if admission is off, and all its figures are 0.
	Files     *shard.Descriptors // How many connections there may be; counted with admission and without.
	Channels  func() int         // Returns the number of channels with a subscriber.
	Ready     func() bool        // Returns whether new clients should be sent here, like /ready.
	Drain     func() Drain       // Returns the state of the drain.

	API          *api.Stats      // Counters of the server API; nil without it, and all its figures are 0.
	Commands     *commands.Stats // Counters of commands.topic; nil without one, and all figures are 0.
	CommandsLate func() bool     // Returns whether commands of other machines come late; nil without commands.topic.

	TLS                *tlshandshake.Stats // Counters of TLS handshakes; nil without TLS, and all its figures are 0.
	CertificateExpires func() time.Time    // Returns when the first certificate expires; nil without TLS.
}

// Drain is the state of a drain, in which clients are closed at an even pace.
type Drain struct {
	Since  time.Time // When it began; zero while none is on.
	Until  time.Time // When the last client is to be closed; zero while none is on.
	Closed uint64    // Clients that drains have closed since the start.
}

// Handler returns the handler of /metrics. It serves wsd's metrics, and those of the Go runtime and the process under
// their usual names. A scrape costs a few hundred atomic loads per shard, and one system call for the steering
// program's counters.
func Handler(o Options) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newCollector(o))
	return buffered(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
}

// scrapesMax bounds the scrapes that wait to be gathered, or are. A further one gets status 503.
const scrapesMax = 4

// buffered sends the response of next once it is complete. A client that reads slowly, or never, does not count as a
// scrape meanwhile. One is gathered at a time: Go runs goroutines in turn, and each that computes is one more that a
// shard waits for.
func buffered(next http.Handler) http.Handler {
	waiting, gathering := make(chan struct{}, scrapesMax), make(chan struct{}, 1)
	gather := func(b *buffer, r *http.Request) {
		gathering <- struct{}{}
		defer func() { <-gathering }()
		next.ServeHTTP(b, r)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &buffer{header: w.Header(), code: http.StatusOK}
		select {
		case waiting <- struct{}{}:
			func() {
				defer func() { <-waiting }()
				gather(b, r)
			}()
		default:
			http.Error(b, fmt.Sprintf("%d scrapes wait for their turn already", scrapesMax),
				http.StatusServiceUnavailable)
		}
		w.WriteHeader(b.code)
		_, _ = w.Write(b.body.Bytes()) // Fails only if the client has closed the connection.
	})
}

// buffer is an http.ResponseWriter that keeps the response.
type buffer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header         { return b.header }
func (b *buffer) WriteHeader(code int)        { b.code = code }
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

// kind is the type of a metric.
type kind int

const (
	gauge kind = iota
	counter
	histogram
)

func (k kind) String() string { return [...]string{"gauge", "counter", "histogram"}[k] }

// family is one metric with all its values.
type family struct {
	name   string
	help   string
	kind   kind
	labels []string // Names of the labels.
	// Calls emit for each value, with the values of the labels; nil for histograms.
	values func(emit func(v float64, labels ...string))
	// Returns the histogram, if it has no labels; nil for other metrics.
	histogram func() stats.HistogramSnapshot
	// Calls emit for each histogram of latencies, with the values of the labels; nil for other metrics.
	latencies func(emit func(c *stats.LatencyCounts, labels ...string))
	// Calls emit for each histogram, with the values of the labels; nil for other metrics.
	histograms func(emit func(s stats.HistogramSnapshot, labels ...string))
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
		if f.latencies != nil {
			f.latencies(func(c *stats.LatencyCounts, labels ...string) {
				out <- newLatencyMetric(desc, f.labels, labels, c)
			})
			continue
		}
		if f.kind == histogram {
			emit := func(s stats.HistogramSnapshot, labels ...string) {
				buckets := make(map[float64]uint64, len(s.Bounds))
				for j, bound := range s.Bounds {
					buckets[bound] = s.Cumulative[j]
				}
				out <- prometheus.MustNewConstHistogram(desc, s.Count, s.Sum, buckets, labels...)
			}
			if f.histograms != nil {
				f.histograms(emit)
			} else {
				emit(f.histogram())
			}
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
