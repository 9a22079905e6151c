package admin

import (
	"encoding/json"
	"net/http"
	"slices"
)

// Status is how a server is, in a word.
type Status string

// The states of a server.
const (
	StatusStarting Status = "starting" // Not serving everybody yet.
	StatusOK       Status = "ok"
	StatusDegraded Status = "degraded" // Serves clients, but something is wrong: Health.Reasons says what.
	StatusStopping Status = "stopping" // Takes no new connection.
)

// Serving reports whether clients are served in this state.
func (s Status) Serving() bool { return s == StatusOK || s == StatusDegraded }

// Health is the answer to /health, and to `wsd health` through the control socket.
type Health struct {
	Status        Status   `json:"status"`
	Reasons       []string `json:"reasons"` // Why Status is not ok, a sentence each.
	Version       string   `json:"version"`
	Commit        string   `json:"commit"`
	UptimeSeconds float64  `json:"uptime_seconds"`
	ClientListen  []string `json:"client_listen"` // Addresses that clients connect to.
	Auth          string   `json:"auth"`          // How clients are told apart: none.
	Steering      Steering `json:"steering"`
	Connections   int64    `json:"connections"` // Summed over the shards.
	Shards        []Shard  `json:"shards"`
	Kafka         Kafka    `json:"kafka"`
	Process       Process  `json:"process"` // Set by the handler.
}

// Steering is how new connections are given to shards.
type Steering struct {
	Mode    string `json:"mode"`     // ebpf-pinned, ebpf or hash.
	Reason  string `json:"reason"`   // In one line why not more than Mode; may be empty.
	PinPath string `json:"pin_path"` // Directory of the pinned maps; empty unless pinned.
	Policy  string `json:"policy"`   // In force now.

	Changed []string `json:"changed"` // What operators have set to something else than the configuration says, a sentence each.
	Ignored []string `json:"ignored"` // Settings out of range, which do not count.
}

// Shard is what one shard carries.
type Shard struct {
	ID            int    `json:"id"`
	Connections   int64  `json:"connections"`   // Sockets, handshakes included.
	Clients       int64  `json:"clients"`       // Upgraded connections.
	Subscriptions int64  `json:"subscriptions"` // Of all its clients.
	Load          int64  `json:"load"`          // What the steering program compares: connections, and those on their way.
	LagBatches    uint64 `json:"lag_batches"`   // Batches on the bus that it has not taken.
	Deliveries    uint64 `json:"deliveries"`    // Publications delivered since the start.
}

// Kafka is what is known of the cluster.
type Kafka struct {
	Ready  bool    `json:"ready"` // Every partition of every topic that exists has a position.
	Error  string  `json:"error,omitempty"`
	Topics []Topic `json:"topics"`
}

// Topic is one configured topic.
type Topic struct {
	Name       string      `json:"name"`
	State      string      `json:"state"` // unknown, present, missing or failed.
	Error      string      `json:"error,omitempty"`
	Current    bool        `json:"current"` // Read to its end.
	Lag        int64       `json:"lag"`     // Offsets to be read, summed over the partitions.
	Partitions []Partition `json:"partitions"`
}

// Partition is where reading stands in one partition.
type Partition struct {
	Partition     int32  `json:"partition"`
	Position      int64  `json:"position"`       // Next Kafka offset to be read; -1: not known yet.
	HighWatermark int64  `json:"high_watermark"` // End of the log; -1: not known yet.
	Lag           int64  `json:"lag"`
	Error         string `json:"error,omitempty"`
}

// HealthHandler answers with what health returns, as JSON: 200 while clients are served, else 503. The admin port and the
// control socket share it. The request's path does not matter.
func HealthHandler(health func() Health) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := health()
		h.Process = readProcess()
		// Clients of a JSON list do not expect null.
		h.Reasons = notNil(h.Reasons)
		h.ClientListen = notNil(h.ClientListen)
		h.Shards = notNil(h.Shards)
		h.Steering.Changed, h.Steering.Ignored = notNil(h.Steering.Changed), notNil(h.Steering.Ignored)
		h.Kafka.Topics = notNil(slices.Clone(h.Kafka.Topics)) // The caller's list stays as it is.
		for i := range h.Kafka.Topics {
			h.Kafka.Topics[i].Partitions = notNil(h.Kafka.Topics[i].Partitions)
		}
		code := http.StatusOK
		if !h.Status.Serving() {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, code, h)
	})
}

// readiness is the answer to /ready.
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

// writeJSON answers with v on one line. An error of writing is the client's: it has gone.
func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
