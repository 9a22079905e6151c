package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Status summarises the health of a server in one word.
type Status string

// The states of a server.
const (
	StatusStarting Status = "starting" // Not serving all clients yet.
	StatusOK       Status = "ok"       // Serving clients.
	StatusDegraded Status = "degraded" // Serving clients, although something is wrong: Health.Reasons says what.
	StatusDraining Status = "draining" // Serving, but to be sent no new clients: `wsd drain`, or shutdown.delay.
	StatusStopping Status = "stopping" // About to exit, and accepting no new connections.
)

// Serving reports whether a server with this status serves clients. One that drains does: a supervisor that restarted
// it would cut them off.
func (s Status) Serving() bool { return s == StatusOK || s == StatusDegraded || s == StatusDraining }

// Health is the response to /health, also on the control socket, where `wsd health` requests it.
type Health struct {
	Status        Status   `json:"status"`         // Health in one word.
	Reasons       []string `json:"reasons"`        // Why Status is not ok, one sentence each.
	Version       string   `json:"version"`        // Version of wsd.
	Commit        string   `json:"commit"`         // Commit that wsd was built from.
	UptimeSeconds float64  `json:"uptime_seconds"` // Time since the start.
	ClientListen  []string `json:"client_listen"`  // Addresses that clients connect to without TLS.

	ClientTLSListen []string `json:"client_tls_listen"` // Addresses that clients connect to by TLS.

	Auth        string     `json:"auth"`        // How clients authenticate: none or token.
	Steering    Steering   `json:"steering"`    // How new connections are assigned to shards.
	Drain       Drain      `json:"drain"`       // Whether clients are being closed on purpose.
	Privileges  Privileges `json:"privileges"`  // What the process may do.
	Admission   Admission  `json:"admission"`   // Whether new clients are refused, and what decides that.
	Connections int64      `json:"connections"` // Connections of all shards.
	Shards      []Shard    `json:"shards"`      // What each shard carries, by id.
	Kafka       Kafka      `json:"kafka"`       // State of the topics.
	Process     Process    `json:"process"`     // Resources of the process; set by the handler.

	// Whether shards and kafka.topics were left out, because many requests were under way; set by the handler.
	Short bool `json:"short,omitempty"`
}

// Privileges is what the process may do, and a program that it started could.
type Privileges struct {
	Capabilities []string `json:"capabilities"`      // Effective capabilities, such as CAP_BPF.
	Kept         []string `json:"kept"`              // Why they were kept after the start, one phrase each.
	BoundingSet  []string `json:"bounding_set"`      // Capabilities in the bounding set.
	NoNewPrivs   bool     `json:"no_new_privs"`      // Whether no privilege can be gained.
	Problem      string   `json:"problem,omitempty"` // Why some could not be dropped; empty if all could.
}

// Drain says whether wsd is closing its clients on purpose, and how far it is.
type Drain struct {
	Status         string     `json:"status"`           // off, draining, drained (no client is left) or stopping.
	Clients        int64      `json:"clients"`          // Clients that are connected.
	ClientsAtStart int64      `json:"clients_at_start"` // Clients that were connected when the drain began.
	Closed         uint64     `json:"closed"`           // Clients that the drain has closed.
	Since          *time.Time `json:"since,omitempty"`  // When the drain began; absent while Status is off.
	Until          *time.Time `json:"until,omitempty"`  // When the last client is to be closed; absent while Status is off.
	Rate           float64    `json:"rate"`             // Clients to close each second; 0: evenly until Until.
}

// Steering is how new connections are assigned to shards.
type Steering struct {
	Mode    string   `json:"mode"`     // What chooses the shards: ebpf-pinned, ebpf or hash.
	Reason  string   `json:"reason"`   // Why Mode is not better, in one line; may be empty.
	PinPath string   `json:"pin_path"` // Directory of the pins; empty unless Mode is ebpf-pinned.
	Policy  string   `json:"policy"`   // Policy that applies.
	Changed []string `json:"changed"`  // Settings that differ from the configuration, one sentence each.
	Ignored []string `json:"ignored"`  // Settings that are out of range and therefore have no effect, one sentence each.
}

// The states of admission.
const (
	AdmissionOff       = "off"       // Nothing is measured.
	AdmissionAccepting = "accepting" // All new clients are welcome.
	AdmissionRefusing  = "refusing"  // A part of the new clients is refused, or would be but for a dry run.
)

// Admission is whether new clients are refused, and the last sample of what decides that. While nothing is measured,
// figures are 0 but for DescriptorsLeft.
type Admission struct {
	Mode    string `json:"mode"`    // admission.mode: on, dry-run or off.
	Answer  string `json:"answer"`  // admission.answer: reset or http.
	State   string `json:"state"`   // off, accepting or refusing.
	Percent int    `json:"percent"` // Percentage of new clients that is refused, or would be but for a dry run.
	Reason  string `json:"reason"`  // Why clients are refused; empty unless State is refusing.

	CPU                 float64 `json:"cpu"`                    // Share of CPUs used, averaged over admission.window.
	CPUs                float64 `json:"cpus"`                   // CPUs that wsd may use: affinity, quota, GOMAXPROCS.
	LoopLagSeconds      float64 `json:"loop_lag_seconds"`       // 99th percentile in the last tenth of a second.
	TurnSeconds         float64 `json:"turn_seconds"`           // Longest loop turn that was under way.
	MemoryBytes         uint64  `json:"memory_bytes"`           // Memory of the cgroup with a limit.
	MemoryLimitBytes    uint64  `json:"memory_limit_bytes"`     // The limit; 0: none.
	TCPMemoryBytes      uint64  `json:"tcp_memory_bytes"`       // Buffers of all TCP sockets of the machine.
	TCPMemoryLimitBytes uint64  `json:"tcp_memory_limit_bytes"` // The limit in net.ipv4.tcp_mem; 0: unknown.
	DescriptorsLeft     int64   `json:"descriptors_left"`       // Connections that wsd may still open.
}

// Shard is what one shard carries.
type Shard struct {
	ID            int    `json:"id"`            // Number of the shard, from 0.
	Connections   int64  `json:"connections"`   // Open connections, including those that have not been upgraded yet.
	Clients       int64  `json:"clients"`       // Upgraded connections.
	Subscriptions int64  `json:"subscriptions"` // Subscriptions of all its clients.
	Load          int64  `json:"load"`          // Open and pending connections, which the steering program compares.
	LagBatches    uint64 `json:"lag_batches"`   // Batches on the bus that the shard has not taken yet.
	Deliveries    uint64 `json:"deliveries"`    // Publications delivered since the start.
}

// Kafka is the state of the configured topics.
type Kafka struct {
	Ready  bool    `json:"ready"`           // Whether every partition of every topic that exists has a position.
	Error  string  `json:"error,omitempty"` // Why the cluster cannot be reached; empty if it can.
	Topics []Topic `json:"topics"`          // Topics that are read.
}

// Topic is one configured topic.
type Topic struct {
	Name       string      `json:"name"`            // Name of the topic.
	State      string      `json:"state"`           // unknown, present, missing or failed.
	Error      string      `json:"error,omitempty"` // Why the state is failed.
	Current    bool        `json:"current"`         // Whether the topic has been read to its end.
	Lag        int64       `json:"lag"`             // Offsets that are not read yet, in all partitions; -1: not known yet.
	Partitions []Partition `json:"partitions"`      // Partitions of the topic.
}

// Partition is the progress of reading one partition.
type Partition struct {
	Partition     int32  `json:"partition"`       // Number of the partition.
	Position      int64  `json:"position"`        // Next offset to read; -1: not known yet.
	HighWatermark int64  `json:"high_watermark"`  // End of the log; -1: not known yet.
	LastStable    int64  `json:"last_stable"`     // End of what is committed; -1: not known yet.
	Lag           int64  `json:"lag"`             // Offsets that are not read yet; -1: not known yet.
	Error         string `json:"error,omitempty"` // Why the partition cannot be read; empty if it can.
}

// longHealthMax bounds the complete responses to /health that are on their way at the same time. They grow with topics
// and partitions, to megabytes, and a client that does not read has one kept for it.
const longHealthMax = 16

// HealthHandler returns a handler that responds with the result of health as JSON, with status 200 while clients are
// served and 503 otherwise. The admin port and the control socket have one each. It ignores the path of the request.
// While longHealthMax responses are on their way, further ones are short, see Health.Short.
func HealthHandler(health func() Health) http.Handler {
	long := make(chan struct{}, longHealthMax)
	// One response is made at a time: Go runs goroutines in turn, and each that computes is one more that a shard waits
	// for.
	making := make(chan struct{}, 1)
	encoded := func(short bool) (code int, body []byte) {
		making <- struct{}{}
		defer func() { <-making }()
		h := health()
		if short {
			h.Short, h.Shards, h.Kafka.Topics = true, nil, nil
		}
		return h.encode()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		short := false
		select {
		case long <- struct{}{}:
			defer func() { <-long }()
		default:
			short = true
		}
		code, body := encoded(short)
		writeBody(w, code, body)
	})
}

// encode returns the response for h.
func (h *Health) encode() (code int, body []byte) {
	h.Process = ReadProcess()
	// Readers of the JSON expect lists, not null.
	h.Reasons = notNil(h.Reasons)
	h.ClientListen, h.ClientTLSListen = notNil(h.ClientListen), notNil(h.ClientTLSListen)
	h.Shards = notNil(h.Shards)
	h.Privileges.Capabilities, h.Privileges.Kept = notNil(h.Privileges.Capabilities), notNil(h.Privileges.Kept)
	h.Privileges.BoundingSet = notNil(h.Privileges.BoundingSet)
	h.Steering.Changed, h.Steering.Ignored = notNil(h.Steering.Changed), notNil(h.Steering.Ignored)
	h.Kafka.Topics = notNil(slices.Clone(h.Kafka.Topics)) // A copy, because the list belongs to the caller.
	for i := range h.Kafka.Topics {
		h.Kafka.Topics[i].Partitions = notNil(h.Kafka.Topics[i].Partitions)
	}
	code = http.StatusOK
	if !h.Status.Serving() {
		code = http.StatusServiceUnavailable
	}
	return encodeJSON(code, h)
}

// readiness is the response to /ready.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

func readyHandler(ready func() (bool, []string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ok, reasons := ready()
		code := http.StatusOK
		if !ok {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, code, readiness{Ready: ok, Reasons: notNil(reasons)})
	})
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// writeJSON responds with v on one line.
func writeJSON(w http.ResponseWriter, code int, v any) {
	code, body := encodeJSON(code, v)
	writeBody(w, code, body)
}

// encodeJSON returns a response with v on one line.
func encodeJSON(code int, v any) (int, []byte) {
	body, err := json.Marshal(v)
	if err != nil {
		code = http.StatusInternalServerError
		body, _ = json.Marshal(map[string]string{"error": "encode the response: " + err.Error()}) // Never fails.
	}
	return code, append(body, '\n')
}

// writeBody sends a response. It ignores errors, which mean that the client has closed the connection.
func writeBody(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
