// Package report is the result of a run or of a comparison: as JSON, as a table of the same fields, and as a
// self-contained HTML page with plots.
//
// Thread rule: values without methods that change them; any goroutine may use them.
//
// It measures nothing and judges nothing.
package report

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Figure is a number that may not be available, because nothing was measured or because it is below the resolution of
// what measured it. It is then NaN here, null in JSON and n/a in text.
type Figure float64

// NA is a figure that is not available.
var NA = Figure(math.NaN())

// Known reports whether the figure is available.
func (f Figure) Known() bool { return !math.IsNaN(float64(f)) }

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Figure) UnmarshalJSON(b []byte) error {
	if *f = NA; string(b) == "null" {
		return nil
	}
	return json.Unmarshal(b, (*float64)(f))
}

// Per returns total/n. It is n/a if n is 0 or total is below its resolution.
func Per[N int | int64 | uint64](total, resolution float64, n N) Figure {
	if n == 0 || total < resolution {
		return NA
	}
	return Figure(total / float64(n))
}

// Result is the result of one run. The label tags are the names in the table, and the unit tags the units.
type Result struct {
	Summary     string     `json:"summary" label:"summary"`
	Passed      bool       `json:"passed" label:"passed"`
	Interrupted bool       `json:"interrupted" label:"interrupted"`
	Reasons     []string   `json:"reasons" label:"reasons"`   // Why Passed is false.
	Warnings    []string   `json:"warnings" label:"warnings"` // What makes figures doubtful.
	Run         Run        `json:"run" label:"Run"`
	Clients     Clients    `json:"clients" label:"Clients"`
	Records     Records    `json:"records" label:"Records"`
	Latency     Micros     `json:"latency" label:"Latency, from the intended time of a record to after the client's read"`
	Rounds      []Round    `json:"rounds,omitempty" label:"Rounds"`
	Disturbed   *Disturbed `json:"disturbed,omitempty" label:"Disturbing clients"`
	Memory      *Memory    `json:"memory,omitempty" label:"Memory while producing"`
	Accounts    []Account  `json:"accounts,omitempty" label:"The server's counters, compared with the clients'"`
	Server      *Server    `json:"server" label:"Server"` // Nil if its process is not visible.
	ServerNote  string     `json:"server_note,omitempty" label:"server not measured"`
	Shards      *Shards    `json:"shards" label:"Shards"` // Nil without an admin port.
	Kernel      *Kernel    `json:"kernel" label:"Kernel, whole machine"`
	Loadtest    Loadtest   `json:"loadtest" label:"Load generator"`
	Series      []Point    `json:"series" label:"series"` // One per second, from the start of the ramp.
}

// Run is the parameters of the run, and how long its parts took.
type Run struct {
	Scenario        string  `json:"scenario" label:"scenario"`
	Protocol        string  `json:"protocol" label:"protocol"`
	Server          string  `json:"server" label:"server"`
	Version         string  `json:"version,omitempty" label:"server version"`
	Clients         int     `json:"clients" label:"planned clients"`
	Channels        int     `json:"channels" label:"channels"`
	RatePerSecond   float64 `json:"rate_per_second" label:"planned rate per topic" unit:"/s"`
	RecordBytes     int     `json:"record_bytes" label:"record size" unit:"B"`
	Batch           int     `json:"batch" label:"records per burst"`
	DurationSeconds float64 `json:"duration_seconds" label:"planned duration" unit:"s"`
	RampSeconds     float64 `json:"ramp_seconds" label:"ramp took" unit:"s"`
	HoldSeconds     float64 `json:"hold_seconds" label:"producing and waiting for the last took" unit:"s"`
}

// Clients is the results of connecting.
type Clients struct {
	Attempts    int64            `json:"attempts" label:"attempts"`
	Refused     int64            `json:"refused" label:"refused"`
	Failed      int64            `json:"failed" label:"failed"`
	GivenUp     int64            `json:"given_up" label:"given up"`
	Held        int64            `json:"held" label:"held"`
	Open        int64            `json:"open_at_end" label:"open at the end"`
	Closed      int64            `json:"closed" label:"disconnected"`
	Moved       int64            `json:"moved" label:"left on purpose"`
	Rejoined    int64            `json:"rejoined" label:"came back"`
	Recovered   int64            `json:"recovered" label:"recovered what they missed"`
	Closes      map[string]int64 `json:"closes" label:"disconnected"`
	Refusals    map[string]int64 `json:"refusals" label:"refused"`
	Failures    map[string]int64 `json:"failures" label:"failed"`
	ConnectTime Micros           `json:"connect_time" label:"From connect to subscribed"`
	RejoinTime  Micros           `json:"rejoin_time" label:"From connect to subscribed, of clients that came back"`
}

// Records is how many records were made and delivered. Rates are those of the hold.
type Records struct {
	Produced      uint64  `json:"produced" label:"produced, by the load generator"`
	ProducedPS    Figure  `json:"produced_per_second" label:"produced" unit:"/s"`
	Accepted      uint64  `json:"accepted" label:"accepted by Kafka"`
	AcceptedPS    Figure  `json:"accepted_per_second" label:"accepted by Kafka" unit:"/s"`
	Written       Figure  `json:"written" label:"written to sockets, according to the server"`
	WrittenPS     Figure  `json:"written_per_second" label:"written to sockets" unit:"/s"`
	Deliveries    int64   `json:"received" label:"received by clients"`
	DeliveriesPS  Figure  `json:"received_per_second" label:"received" unit:"/s"`
	Expected      int64   `json:"expected" label:"expected by clients, in the hold"`
	DeliveryBytes int64   `json:"received_bytes" label:"bytes of received records" unit:"B"`
	WirePer       Figure  `json:"wire_bytes_per_record" label:"bytes read per received record" unit:"B"`
	LateMaxMillis float64 `json:"produce_late_max_ms" label:"max. producer delay" unit:"ms"`
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
	Count int64  `json:"count" label:"count"`
	P50   Figure `json:"p50_us" label:"p50" unit:"µs"`
	P90   Figure `json:"p90_us" label:"p90" unit:"µs"`
	P99   Figure `json:"p99_us" label:"p99" unit:"µs"`
	P999  Figure `json:"p999_us" label:"p99.9" unit:"µs"`
	Max   Figure `json:"max_us" label:"max" unit:"µs"`
}

// Round is one of several tries of a scenario, such as one number of clients of a search or one storm.
type Round struct {
	What   string `json:"what"`
	Passed bool   `json:"passed"`
	Result string `json:"result"`
}

// Server is the resources that the server's process used.
type Server struct {
	PID                 int     `json:"pid" label:"pid"`
	RampCPUSeconds      float64 `json:"ramp_cpu_seconds" label:"CPU, ramp" unit:"s"`
	HoldCPUSeconds      float64 `json:"hold_cpu_seconds" label:"CPU, hold" unit:"s"`
	CPUPercent          Figure  `json:"hold_cpu_percent" label:"CPU in the hold, of one core" unit:"%"`
	CPUMicrosConnection Figure  `json:"cpu_us_per_connection" label:"CPU per connection" unit:"µs"`
	CPUMicrosDelivery   Figure  `json:"cpu_us_per_delivery" label:"CPU per delivery" unit:"µs"`
	RSSBefore           int64   `json:"rss_before_bytes" label:"RSS before" unit:"B"`
	RSSAfterRamp        int64   `json:"rss_after_ramp_bytes" label:"RSS after the ramp" unit:"B"`
	RSSAfterHold        int64   `json:"rss_after_hold_bytes" label:"RSS after the hold" unit:"B"`
	RSSConnection       Figure  `json:"rss_per_connection_bytes" label:"RSS per connection, after the ramp" unit:"B"`
	RSSConnectionHold   Figure  `json:"rss_per_connection_after_hold_bytes" label:"RSS per connection, after the hold" unit:"B"`
}

// Shards is how the connections are distributed after the ramp.
type Shards struct {
	Count          int     `json:"count" label:"shards"`
	ConnectionsMin int64   `json:"connections_min" label:"connections, min."`
	ConnectionsMax int64   `json:"connections_max" label:"connections, max."`
	Connections    []int64 `json:"connections" label:"connections"`
	Steering       string  `json:"steering" label:"steering"`
}

// Kernel is the memory of TCP buffers and of the kernel's structures, for everything on the machine.
type Kernel struct {
	TCPBefore      int64  `json:"tcp_before_bytes" label:"TCP memory before" unit:"B"`
	TCPAfterHold   int64  `json:"tcp_after_hold_bytes" label:"TCP memory after the hold" unit:"B"`
	TCPConnection  Figure `json:"tcp_per_connection_bytes" label:"TCP memory per connection, after the hold" unit:"B"`
	SlabBefore     int64  `json:"slab_before_bytes" label:"slab memory before" unit:"B"`
	SlabAfterRamp  int64  `json:"slab_after_ramp_bytes" label:"slab memory after the ramp" unit:"B"`
	SlabConnection Figure `json:"slab_per_connection_bytes" label:"slab memory per connection, after the ramp" unit:"B"`
	// Both together, after the ramp.
	Connection Figure `json:"per_connection_bytes" label:"TCP and slab memory per connection, after the ramp" unit:"B"`
}

// Loadtest is what the load generator itself used, which shares the CPUs with a server on the same machine.
type Loadtest struct {
	RampCPUSeconds float64 `json:"ramp_cpu_seconds" label:"CPU, ramp" unit:"s"`
	HoldCPUSeconds float64 `json:"hold_cpu_seconds" label:"CPU, hold" unit:"s"`
	CPUShare       Figure  `json:"hold_cpu_share" label:"share of one CPU, hold"`
	Lag            Micros  `json:"lag" label:"How late its loops were"`
}

// Memory is the memory of a run: of the server's process, and of the buffers of all TCP sockets of the machine.
type Memory struct {
	Samples          int     `json:"samples" label:"samples, one per second"`
	RSSSecondQuarter int64   `json:"rss_second_quarter_bytes" label:"RSS, median of the second quarter" unit:"B"`
	RSSLastQuarter   int64   `json:"rss_last_quarter_bytes" label:"RSS, median of the last quarter" unit:"B"`
	RSSAllowed       int64   `json:"rss_allowed_bytes" label:"RSS, allowed in the last quarter" unit:"B"`
	RSSMax           int64   `json:"rss_max_bytes" label:"RSS, max." unit:"B"`
	SlopePerMinute   float64 `json:"rss_slope_bytes_per_minute" label:"RSS, slope after the first quarter" unit:"B/min"`
	TCPMax           int64   `json:"tcp_max_bytes" label:"TCP memory, max." unit:"B"`
	Judged           bool    `json:"judged" label:"long enough to judge"`
	Flat             bool    `json:"flat" label:"flat"`
}

// Disturbed is what the disturbing clients did and saw.
type Disturbed struct {
	Seed         uint64           `json:"seed" label:"seed"`
	Sustained    Figure           `json:"sustained_per_second" label:"highest rate measured" unit:"/s"`
	Clients      int              `json:"clients" label:"clients"`
	Connected    int64            `json:"connections" label:"connections"`
	Upgraded     int64            `json:"upgraded" label:"upgraded"`
	Slows        int64            `json:"slows" label:"times reading slowly"`
	Stops        int64            `json:"stops" label:"times not reading"`
	CaughtUp     int64            `json:"caught_up" label:"times all records came afterwards"`
	ResetUpgrade int64            `json:"reset_in_upgrade" label:"reset in the upgrade"`
	ResetClear   int64            `json:"reset_clear" label:"reset, without a reason for the server to close it"`
	ResetBehind  int64            `json:"reset_behind" label:"reset, with a reason for the server to close it"`
	HalfFrames   int64            `json:"half_frames" label:"reset with half a frame sent"`
	Left         int64            `json:"left" label:"closed with a close frame"`
	Cut          int64            `json:"cut" label:"cut by the server"`
	Frames       map[string]int64 `json:"closed_by_server" label:"closed by the server"`
	NotUpgraded  map[string]int64 `json:"not_upgraded" label:"not upgraded"`
	NotDialed    map[string]int64 `json:"not_dialed" label:"not connected"`
	Deliveries   int64            `json:"deliveries" label:"received"`
	Unread       int64            `json:"unread_connections" label:"connections that may have missed their last records"`
	UnreadMax    uint64           `json:"unread_max" label:"max. records they missed"`
	InKernel     int64            `json:"in_kernel_connections" label:"connections whose buffers were lost"`
	InKernelMax  uint64           `json:"in_kernel_max" label:"max. records in these buffers"`
}

// Account compares a figure of the server with what the clients know about it.
type Account struct {
	What   string `json:"what"`   // Name of the figure.
	Server int64  `json:"server"` // Figure of the server.
	Min    int64  `json:"least"`  // Lowest value that is possible according to the clients.
	Max    int64  `json:"most"`   // Highest value that is possible according to the clients.
}

// Matches reports whether the server's figure is possible according to the clients.
func (a Account) Matches() bool { return a.Min <= a.Server && a.Server <= a.Max }

// String returns the comparison as one line.
func (a Account) String() string {
	return fmt.Sprintf("%s: %s%s", a.What, group(a.Server), a.verdict())
}

// verdict returns what the server's figure should be.
func (a Account) verdict() string {
	switch {
	case a.Matches() && a.Min == a.Max:
		return "  exactly"
	case a.Matches():
		return "  of " + group(a.Min) + " to " + group(a.Max)
	case a.Min == a.Max:
		return "  NOT " + group(a.Min)
	default:
		return "  NOT in " + group(a.Min) + " to " + group(a.Max)
	}
}

// Point is one second of a run.
type Point struct {
	Seconds  float64 `json:"t"`                   // Since the start of the ramp.
	Open     int64   `json:"connections"`         // Clients that are subscribed.
	Received Figure  `json:"received_per_second"` // Records.
	P50      Figure  `json:"p50_us"`              // Latency of the records received in this second.
	P99      Figure  `json:"p99_us"`
	P999     Figure  `json:"p999_us"`
	CPU      Figure  `json:"cpu_percent"` // The server's CPU time, of one core.
	RSS      Figure  `json:"rss_bytes"`   // The server's resident memory.
	TCP      Figure  `json:"tcp_bytes"`   // TCP memory of the machine.
}

// Distribution summarises a histogram of microseconds.
func Distribution(h *hdrhistogram.Histogram) Micros {
	if h == nil || h.TotalCount() == 0 {
		return Micros{P50: NA, P90: NA, P99: NA, P999: NA, Max: NA}
	}
	at := func(q float64) Figure { return Figure(h.ValueAtQuantile(q)) }
	return Micros{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: Figure(h.Max())}
}
