package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/control"
)

// lame starts a server with shutdown.delay, and asks it to stop. The delay ends when the test sends to end.
func lame(t *testing.T, prepare func(r *rig)) (r *rig, waits <-chan time.Duration, end chan time.Time,
	stopped <-chan error) {
	t.Helper()
	asked, end := make(chan time.Duration, 1), make(chan time.Time, 1)
	after := func(wait time.Duration) <-chan time.Time { asked <- wait; return end }
	r = newRigWith(t, hooks{after: after}, map[string]any{"shutdown.delay": "10m"})
	r.ready()
	prepare(r)
	return r, asked, end, r.stopping()
}

// Between the signal and the end of accepting, load balancers see that the server is not ready, and whom they send all
// the same is served.
func TestShutdownDelay(t *testing.T) {
	var clients []*client
	r, waits, end, stopped := lame(t, func(r *rig) { clients = r.joinMany(3) })
	require.Equal(t, 10*time.Minute, <-waits)
	code, body := r.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "wsd was asked to stop: in ")
	require.Equal(t, 503, r.healthz())
	code, body = r.get("/health")
	require.Equal(t, http.StatusOK, code, "no supervisor may restart it")
	require.Contains(t, body, `"status":"draining","reasons":["wsd was asked to stop: in `)

	clients = append(clients, r.join("a"))
	r.produce("a", "", "1")
	for _, c := range clients {
		require.JSONEq(t, "1", string(c.publication().Push.Pub.Data))
	}
	require.Equal(t, control.DrainState{Status: "stopping", Clients: 4}, r.server.DrainState())
	for _, change := range []control.DrainChange{{OverSeconds: 1}, {Stop: true}} {
		_, err := control.Drain(t.Context(), r.socket(), change)
		require.ErrorContains(t, err, "wsd is stopping")
	}
	require.Equal(t, 503, r.healthz())

	end <- time.Now()
	closes(t, clients, time.Now())
	require.NoError(t, <-stopped)
}

// A drain has told load balancers before: the time since then counts.
func TestShutdownDelayAfterDrain(t *testing.T) {
	_, waits, end, stopped := lame(t, func(r *rig) {
		require.NoError(t, r.server.Drain(control.DrainChange{OverSeconds: 3600}))
		r.server.drain.mu.Lock()
		r.server.drain.begun.since = time.Now().Add(-4 * time.Minute)
		r.server.drain.mu.Unlock()
	})
	require.InDelta(t, 6*time.Minute, <-waits, float64(waitMax))
	end <- time.Now()
	require.NoError(t, <-stopped)
}

// With a drain that is older than the delay, or without a delay, nothing is waited for.
func TestNoShutdownDelay(t *testing.T) {
	r, _, _, stopped := lame(t, func(r *rig) {
		require.NoError(t, r.server.Drain(control.DrainChange{OverSeconds: 3600}))
		r.server.drain.mu.Lock()
		r.server.drain.begun.since = time.Now().Add(-time.Hour)
		r.server.drain.mu.Unlock()
	})
	require.NoError(t, <-stopped)
	require.NotContains(t, r.log.String(), "still accepting")

	r = newRig(t, nil)
	r.ready()
	require.NoError(t, r.stop())
	require.NotContains(t, r.log.String(), "still accepting")
}
