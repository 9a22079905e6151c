// Package report is the result of a load test, as JSON and as a table of the same fields.
//
// Thread rule: values without methods that change them; any goroutine may use them.
//
// It measures nothing and judges nothing.
package report

import "github.com/HdrHistogram/hdrhistogram-go"

// Report is the result of one run. The label tags are the names in the table, and the unit tags the units.
type Report struct {
	Passed      bool      `json:"passed" label:"passed"`
	Interrupted bool      `json:"interrupted" label:"interrupted"`
	Reasons     []string  `json:"reasons" label:"reasons"` // Why Passed is false.
	Run         Run       `json:"run" label:"Run"`
	Clients     Clients   `json:"clients" label:"Clients"`
	Records     Records   `json:"records" label:"Records"`
	Latency     Micros    `json:"latency" label:"Latency, from before produce to after read"`
	Soak        *Soak     `json:"soak,omitempty" label:"Disturbing clients"` // Nil unless the test is a soak.
	Memory      *Memory   `json:"memory,omitempty" label:"Memory while producing"`
	Accounts    []Account `json:"accounts,omitempty" label:"The server's counters, compared with the clients'"`
	Server      *Server   `json:"server" label:"Server"` // Nil if its process is not visible.
	ServerNote  string    `json:"server_note,omitempty" label:"server not measured"`
	Shards      *Shards   `json:"shards" label:"Shards"` // Nil without an admin port.
	Kernel      *Kernel   `json:"kernel" label:"Kernel, whole machine"`
	Loadtest    Loadtest  `json:"loadtest" label:"Load generator"`
}

// Run is the parameters of the run, and how long its parts took.
type Run struct {
	Mode            string  `json:"mode" label:"mode"`
	Protocol        string  `json:"protocol" label:"protocol"`
	Server          string  `json:"server" label:"server"`
	Version         string  `json:"version,omitempty" label:"server version"`
	Clients         int     `json:"clients" label:"planned clients"`
	RatePerSecond   float64 `json:"rate_per_second" label:"target rate per channel" unit:"/s"`
	RecordBytes     int     `json:"record_bytes" label:"record size" unit:"B"`
	Batch           int     `json:"batch" label:"records per produce request"`
	DurationSeconds float64 `json:"duration_seconds" label:"planned duration" unit:"s"`
	RampSeconds     float64 `json:"ramp_seconds" label:"ramp took" unit:"s"`
	HoldSeconds     float64 `json:"hold_seconds" label:"producing and draining took" unit:"s"`
}

// Clients is the results of connecting.
type Clients struct {
	Attempts    int64            `json:"attempts" label:"attempts"`
	Refused     int64            `json:"refused" label:"refused"`
	Failed      int64            `json:"failed" label:"failed"`
	GivenUp     int64            `json:"given_up" label:"given up"`
	Held        int64            `json:"held" label:"held"`
	OpenAtEnd   int64            `json:"open_at_end" label:"open at the end"`
	Closed      int64            `json:"closed" label:"disconnected"`
	Closes      map[string]int64 `json:"closes" label:"disconnected"`
	Refusals    map[string]int64 `json:"refusals" label:"refused"`
	Failures    map[string]int64 `json:"failures" label:"failed"`
	ConnectTime Micros           `json:"connect_time" label:"From connect to subscribed"`
}

// Records is how many records were produced and delivered.
type Records struct {
	Produced      uint64  `json:"produced" label:"produced"`
	PerSecond     float64 `json:"produced_per_second" label:"produced" unit:"/s"`
	LateMaxMillis float64 `json:"produce_late_max_ms" label:"max. producer delay" unit:"ms"`
	Deliveries    int64   `json:"deliveries" label:"deliveries"`
	DeliveriesPS  float64 `json:"deliveries_per_second" label:"deliveries" unit:"/s"`
	DeliveryBytes int64   `json:"delivery_bytes" label:"bytes of delivered records" unit:"B"`
	Gaps          int64   `json:"gaps" label:"gaps"`
	Lost          int64   `json:"lost" label:"lost"`
	LostClosed    int64   `json:"lost_by_disconnected" label:"lost by disconnected clients"`
	Duplicates    int64   `json:"duplicates" label:"duplicates"`
	Reordered     int64   `json:"reordered" label:"reordered"`
	Corrupt       int64   `json:"corrupt" label:"corrupt"`
	Foreign       int64   `json:"foreign" label:"from other runs"`
	Unexpected    int64   `json:"unexpected" label:"unexpected messages"`
	Pings         int64   `json:"pings" label:"pings answered"`
}

// Micros is a distribution in microseconds.
type Micros struct {
	Count int64 `json:"count" label:"count"`
	P50   int64 `json:"p50_us" label:"p50" unit:"µs"`
	P90   int64 `json:"p90_us" label:"p90" unit:"µs"`
	P99   int64 `json:"p99_us" label:"p99" unit:"µs"`
	P999  int64 `json:"p999_us" label:"p99.9" unit:"µs"`
	Max   int64 `json:"max_us" label:"max" unit:"µs"`
}

// Server is the resources that the server's process used.
type Server struct {
	PID                 int     `json:"pid" label:"pid"`
	CPUSeconds          float64 `json:"cpu_seconds" label:"CPU, ramp and hold" unit:"s"`
	RampCPUSeconds      float64 `json:"ramp_cpu_seconds" label:"CPU, ramp" unit:"s"`
	HoldCPUSeconds      float64 `json:"hold_cpu_seconds" label:"CPU, hold" unit:"s"`
	CPUMicrosConnection float64 `json:"cpu_us_per_connection" label:"CPU per connection" unit:"µs"`
	CPUMicrosDelivery   float64 `json:"cpu_us_per_delivery" label:"CPU per delivery" unit:"µs"`
	RSSBefore           int64   `json:"rss_before_bytes" label:"RSS before" unit:"B"`
	RSSAfterRamp        int64   `json:"rss_after_ramp_bytes" label:"RSS after the ramp" unit:"B"`
	RSSAfterHold        int64   `json:"rss_after_hold_bytes" label:"RSS after the hold" unit:"B"`
	RSSConnection       float64 `json:"rss_per_connection_bytes" label:"RSS per connection, after the ramp" unit:"B"`
	RSSConnectionHold   float64 `json:"rss_per_connection_after_hold_bytes" label:"RSS per connection, after the hold" unit:"B"`
}

// Shards is how the connections are distributed after the ramp.
type Shards struct {
	Count          int    `json:"count" label:"shards"`
	ConnectionsMin int64  `json:"connections_min" label:"connections, min."`
	ConnectionsMax int64  `json:"connections_max" label:"connections, max."`
	Steering       string `json:"steering" label:"steering"`
}

// Kernel is the memory of TCP buffers and of the kernel's structures, for everything on the machine.
type Kernel struct {
	TCPBefore     int64   `json:"tcp_before_bytes" label:"TCP memory before" unit:"B"`
	TCPAfterRamp  int64   `json:"tcp_after_ramp_bytes" label:"TCP memory after the ramp" unit:"B"`
	TCPAfterHold  int64   `json:"tcp_after_hold_bytes" label:"TCP memory after the hold" unit:"B"`
	TCPConnection float64 `json:"tcp_per_connection_bytes" label:"TCP memory per connection, after the hold" unit:"B"`

	SlabBefore     int64   `json:"slab_before_bytes" label:"slab memory before" unit:"B"`
	SlabAfterRamp  int64   `json:"slab_after_ramp_bytes" label:"slab memory after the ramp" unit:"B"`
	SlabAfterHold  int64   `json:"slab_after_hold_bytes" label:"slab memory after the hold" unit:"B"`
	SlabConnection float64 `json:"slab_per_connection_bytes" label:"slab memory per connection, after the ramp" unit:"B"`
}

// Loadtest is the CPU time of the load generator itself, which shares the CPUs with a server on the same machine.
type Loadtest struct {
	RampCPUSeconds float64 `json:"ramp_cpu_seconds" label:"CPU, ramp" unit:"s"`
	HoldCPUSeconds float64 `json:"hold_cpu_seconds" label:"CPU, hold" unit:"s"`
}

// Distribution summarises a histogram of microseconds.
func Distribution(h *hdrhistogram.Histogram) Micros {
	if h == nil || h.TotalCount() == 0 {
		return Micros{}
	}
	return Micros{
		Count: h.TotalCount(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// Per returns a/n, or 0 if n is 0.
func Per[N int | int64 | uint64](a float64, n N) float64 {
	if n == 0 {
		return 0
	}
	return a / float64(n)
}
