package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"

	"wsd/internal/control"
	"wsd/internal/doctor"
	"wsd/internal/explain"
	"wsd/internal/stats"
)

// recordMax bounds the record that the page asks about, as JSON.
const recordMax = 64 << 10

// pageQuestions returns what the page asks for beside /health, by the pattern of the request.
func (s *Server) pageQuestions() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /page/clients":       control.ClientsHandler(s),
		"GET /page/busy-channels": control.ChannelsHandler(s),
		"GET /page/doctor":        http.HandlerFunc(s.serveDoctor),
		"GET /page/route":         http.HandlerFunc(s.serveRoute),
		"GET /page/steering":      control.SteeringHandler(s),
		"GET /page/drain":         control.DrainingHandler(s),
		"GET /page/latency":       http.HandlerFunc(s.serveLatency),
	}
}

// pageChanges returns what the page changes, by the pattern of the request.
func (s *Server) pageChanges() map[string]http.Handler {
	return map[string]http.Handler{
		"POST /page/steering": control.SteerHandler(s),
		"POST /page/drain":    control.DrainHandler(s),
	}
}

// serveDoctor checks the machine, as far as a process can that has given up its privileges: of the steering program it
// says what became of it at the start.
func (s *Server) serveDoctor(w http.ResponseWriter, r *http.Request) {
	h, cfg := s.Health(), s.cfg
	steering := doctor.Result{Check: "steering", Found: h.Steering.Mode}
	if h.Steering.Reason != "" && cfg.Steering.Mode != "off" {
		steering.Status, steering.Found = doctor.Warn, h.Steering.Mode+": "+h.Steering.Reason
		steering.Remedy = "run wsd doctor on this machine: it can try what this process no longer can, " +
			"which has given up its privileges"
	}
	options := DoctorOptions(cfg)
	options.Inside, options.Port = true, int(s.groups[0].Address.Port())
	options.Running = &doctor.Running{
		PID: os.Getpid(), Capabilities: h.Privileges.Capabilities, Kept: h.Privileges.Kept,
		NoNewPrivs: h.Privileges.NoNewPrivs, Problem: h.Privileges.Problem,
	}
	report := doctor.Run(r.Context(), options)
	report.Results = append([]doctor.Result{steering}, report.Results...)
	control.Answer(w, report, nil)
}

// latencyCounts are deliveries of all topics since the start, by how long they took. The page takes the difference of
// two.
type latencyCounts struct {
	Bounds  []float64 `json:"bounds"`  // Upper bounds of the buckets in seconds, in order; a last one has none.
	Latency []uint64  `json:"latency"` // Deliveries up to each bound, by the time since the record's timestamp; then all.
	InWsd   []uint64  `json:"in_wsd"`  // The same by the time since the fetch that brought the record.
}

func (s *Server) serveLatency(w http.ResponseWriter, _ *http.Request) {
	var sum stats.DeliveryCounts
	for _, topic := range s.source.Stats().Topics() {
		sum.Add(topic.Deliveries)
	}
	cumulative := func(c *stats.LatencyCounts) []uint64 { return append(slices.Clone(c.Cumulative[:]), c.Count) }
	control.Answer(w, latencyCounts{
		Bounds: stats.LatencyBounds(), Latency: cumulative(&sum.Latency), InWsd: cumulative(&sum.InWsd),
	}, nil)
}

// serveRoute says where a record goes, which the parameter record has as JSON.
func (s *Server) serveRoute(w http.ResponseWriter, r *http.Request) {
	placed, err := s.placeRecord(r.URL.Query().Get("record"))
	control.Answer(w, placed, err)
}

func (s *Server) placeRecord(text string) (placed explain.Placed, err error) {
	if len(text) > recordMax {
		return placed, &control.Refusal{Status: http.StatusRequestEntityTooLarge,
			Text: fmt.Sprintf("the record has more than %d bytes", recordMax)}
	}
	var rec explain.Record
	if err = json.Unmarshal([]byte(text), &rec); err != nil {
		err = fmt.Errorf("the record is not valid: %w", err)
	} else {
		placed, err = explain.Place(s.cfg, rec)
	}
	if err != nil {
		return placed, &control.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return placed, nil
}
