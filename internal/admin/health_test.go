package admin

import (
	"encoding/json"
	"net/http"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthCode(t *testing.T) {
	for status, code := range map[Status]int{
		StatusStarting: http.StatusServiceUnavailable,
		StatusOK:       http.StatusOK,
		StatusDegraded: http.StatusOK,
		StatusStopping: http.StatusServiceUnavailable,
		"":             http.StatusServiceUnavailable,
	} {
		w := ask(HealthHandler(func() Health { return Health{Status: status} }), http.MethodGet, "localhost", "/anything")
		require.Equal(t, code, w.Code, status)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		var h Health
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &h))
		require.Equal(t, status, h.Status)
	}
}

func TestHealthBody(t *testing.T) {
	given := Health{
		Status: StatusDegraded, Reasons: []string{"topic x does not exist"}, Version: "1", Commit: "abc", UptimeSeconds: 1.5,
		ClientListen: []string{"[::]:8000"}, ClientTLSListen: []string{}, Auth: "none", Steering: Steering{Mode: "hash", Reason: "no privilege", Policy: "hash", Changed: []string{"policy is p2c"}, Ignored: []string{}}, Connections: 3,
		Privileges: Privileges{Capabilities: []string{"CAP_BPF"}, Kept: []string{"CAP_BPF to steer"}, BoundingSet: []string{}, NoNewPrivs: true, Problem: "p"},
		Shards:     []Shard{{ID: 0, Connections: 3, Clients: 2, Subscriptions: 4, Load: 3, LagBatches: 1, Deliveries: 1 << 60}},
		Kafka: Kafka{Ready: true, Topics: []Topic{{
			Name: "x", State: "present", Lag: 2, Partitions: []Partition{{Partition: 1, Position: -1, HighWatermark: 9, Error: "e"}},
		}}},
	}
	w := get(func() Options { o := options(); o.Health = func() Health { return given }; return o }(), true, "localhost", "/health")
	require.Equal(t, http.StatusOK, w.Code)
	var got Health
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, os.Getpid(), got.Process.PID)
	got.Process = Process{}
	require.Equal(t, given, got)
}

// Clients of a JSON list do not expect null, and what the caller gave stays as it was.
func TestHealthLists(t *testing.T) {
	topics := []Topic{{Name: "a"}}
	for name, h := range map[string]Health{"empty": {}, "topic": {Kafka: Kafka{Topics: topics}}} {
		w := ask(HealthHandler(func() Health { return h }), http.MethodGet, "localhost", "/health")
		require.NotContains(t, w.Body.String(), "null", name)
		for _, list := range []string{`"reasons":[]`, `"client_listen":[]`, `"shards":[]`} {
			require.Contains(t, w.Body.String(), list, name)
		}
	}
	require.Nil(t, topics[0].Partitions)
}

func TestReady(t *testing.T) {
	for _, c := range []struct {
		ready   bool
		reasons []string
		code    int
		body    string
	}{
		{true, nil, http.StatusOK, `{"ready":true,"reasons":[]}`},
		{false, []string{"wsd is starting", "b"}, http.StatusServiceUnavailable, `{"ready":false,"reasons":["wsd is starting","b"]}`},
		{false, nil, http.StatusServiceUnavailable, `{"ready":false,"reasons":[]}`},
	} {
		o := options()
		o.Ready = func() (bool, []string) { return c.ready, c.reasons }
		w := get(o, true, "localhost", "/ready")
		require.Equal(t, c.code, w.Code)
		require.JSONEq(t, c.body, w.Body.String())
	}
}

func TestProcess(t *testing.T) {
	p := ReadProcess()
	require.Equal(t, os.Getpid(), p.PID)
	require.Equal(t, runtime.GOMAXPROCS(0), p.CPUs)
	require.Positive(t, p.Goroutines)
	require.Positive(t, p.OpenFilesMax)
	require.Greater(t, p.ResidentBytes, int64(1<<20), "no Go program is smaller than this")
	require.GreaterOrEqual(t, ReadProcess().CPUSeconds, p.CPUSeconds)
}

// A value that JSON cannot hold is told, and not sent by half.
func TestUnencodable(t *testing.T) {
	w := ask(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, make(chan int)) }), http.MethodGet, "localhost", "/")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, w.Body.String(), "encode the response")
}
