package serverstat

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Health is what a load test needs of the server's /health.
type Health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
	Version string   `json:"version"`
	Commit  string   `json:"commit"`
	Shards  []struct {
		Connections int64  `json:"connections"`
		Deliveries  uint64 `json:"deliveries"`
	} `json:"shards"`
	Steering struct {
		Mode string `json:"mode"`
	} `json:"steering"`
	Kafka struct {
		Topics []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"topics"`
	} `json:"kafka"`
	Process struct {
		PID        int     `json:"pid"`
		CPUSeconds float64 `json:"cpu_seconds"`
	} `json:"process"`
}

// Get asks an admin port, whose address is like http://127.0.0.1:9000. The caller closes the body.
func Get(ctx context.Context, base, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}

// ReadHealth asks the server whose admin port is at base, such as http://127.0.0.1:9000. A server that is not serving
// everybody also answers; see Status.
func ReadHealth(ctx context.Context, base string) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	response, err := Get(ctx, base, "/health")
	if err != nil {
		return Health{}, fmt.Errorf("ask for the server's health: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var h Health
	if err := json.NewDecoder(response.Body).Decode(&h); err != nil {
		return Health{}, fmt.Errorf("read the answer of %s, HTTP %s: %w", response.Request.URL, response.Status, err)
	}
	return h, nil
}

// ConnectionsPerShard returns how many connections the shard with the fewest and that with the most have.
func (h *Health) ConnectionsPerShard() (fewest, most int64) {
	if len(h.Shards) == 0 {
		return 0, 0
	}
	n := make([]int64, len(h.Shards))
	for i, s := range h.Shards {
		n[i] = s.Connections
	}
	return slices.Min(n), slices.Max(n)
}

// Deliveries is the sum of all shards.
func (h *Health) Deliveries() (n uint64) {
	for _, s := range h.Shards {
		n += s.Deliveries
	}
	return n
}

// Topic returns the state of a topic: unknown, present, missing or failed, or "" for one that the server does not
// serve.
func (h *Health) Topic(name string) string {
	for _, t := range h.Kafka.Topics {
		if t.Name == name {
			return t.State
		}
	}
	return ""
}

// Local reports whether the process that the server calls its own is the one of this number in p: not so when the
// server runs on another machine or in a container with its own numbers.
func (h *Health) Local(p Proc) bool {
	u, err := p.Process(h.Process.PID)
	if err != nil {
		return false
	}
	// Another process of this number has hardly used the same CPU time.
	difference := u.CPU.Seconds() - h.Process.CPUSeconds
	return difference > -0.5 && difference < 0.5
}
