package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"wsd/internal/control"
	"wsd/internal/testutil"
)

// closes reads all clients to their end and returns when each was closed, since began. All must be closed for shutdown.
func closes(t *testing.T, clients []*client, began time.Time) []time.Duration {
	t.Helper()
	times := make([]time.Duration, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for {
				_, err := c.raw()
				if err == nil {
					continue
				}
				if end, ok := errors.AsType[wsutil.ClosedError](err); ok && end.Code == 3001 {
					times[i] = time.Since(began)
				}
				return
			}
		})
	}
	wg.Wait()
	require.NotContains(t, times, time.Duration(0), "a client that was not closed with 3001")
	return times
}

// spread fails unless each fifth of the time has some of the closes: how many depends on the machine.
func spread(t *testing.T, times []time.Duration, over time.Duration) {
	t.Helper()
	var fifths [5]int
	for _, at := range times {
		fifths[min(4, int(5*at/over))]++
	}
	for i, n := range fifths {
		require.Positive(t, n, "fifth %d: %v", i, fifths)
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	state, err := control.Draining(t.Context(), r.socket())
	require.NoError(t, err)
	require.Equal(t, control.DrainState{Status: "off"}, state)

	const n = 60
	clients := r.joinMany(n)
	began, over := time.Now(), 3*time.Second
	state, err = control.Drain(t.Context(), r.socket(), control.DrainChange{OverSeconds: over.Seconds()})
	require.NoError(t, err)
	require.Equal(t, "draining", state.Status)
	require.Equal(t, int64(n), state.ClientsAtStart)
	require.Equal(t, over, state.Until.Sub(*state.Since))

	// Not ready, but alive: a supervisor must not restart it.
	code, body := r.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "wsd is draining: it takes no new clients until wsd drain stop")
	code, body = r.get("/health")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `"status":"draining","reasons":["wsd is draining`)
	require.Contains(t, body, `"drain":{"status":"draining",`)
	require.Equal(t, 503, r.dialStatus("/connection/websocket"))
	require.Equal(t, 503, r.healthz())

	// Who is left is served.
	r.produce("a", "", "1")
	spread(t, closes(t, clients, began), over)
	r.eventually("drained", func() bool { return r.server.DrainState().Status == "drained" })
	_, body = r.get("/metrics")
	require.Contains(t, body, fmt.Sprintf("wsd_drain_closed_total %d\n", n))
	require.NotContains(t, body, "wsd_drain_since_seconds 0\n")

	state, err = control.Drain(t.Context(), r.socket(), control.DrainChange{Stop: true})
	require.NoError(t, err)
	require.Equal(t, control.DrainState{Status: "off"}, state)
	require.Equal(t, 200, r.healthz())
	code, _ = r.get("/ready")
	require.Equal(t, http.StatusOK, code)
	r.join("a")
}

// A drain can be stopped before its end, and goes on at another pace with who is left.
func TestDrainResumed(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	clients := r.joinMany(10)
	change := func(c control.DrainChange) {
		_, err := control.Drain(t.Context(), r.socket(), c)
		require.NoError(t, err)
	}
	change(control.DrainChange{OverSeconds: 3600})
	change(control.DrainChange{Rate: 20})
	r.eventually("some closed", func() bool { return r.server.DrainState().Closed >= 2 })
	require.Equal(t, int64(10), r.server.DrainState().ClientsAtStart)
	change(control.DrainChange{Stop: true})
	left := r.server.clients()
	require.Positive(t, left)
	clients = append(clients, r.join("a"))
	change(control.DrainChange{OverSeconds: 0})
	closes(t, clients, time.Now())
	require.Equal(t, uint64(left+1), r.server.DrainState().Closed)
	change(control.DrainChange{Stop: true})
	change(control.DrainChange{Stop: true}) // There is none: nothing to do.
}

func TestDrainRefused(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	for says, change := range map[string]control.DrainChange{
		"not both":                           {OverSeconds: 1, Rate: 1},
		"neither a time nor a rate":          {OverSeconds: 1, Stop: true},
		"over -1 seconds: must be from 0 to": {OverSeconds: -1},
		"over 86401 seconds":                 {OverSeconds: 86401},
		"rate -1: must be from 0.1 to 1e+06": {Rate: -1},
		"rate 0.01":                          {Rate: 0.01},
		"rate 1e+07":                         {Rate: 1e7},
	} {
		_, err := control.Drain(t.Context(), r.socket(), change)
		var refusal *control.Refusal
		require.ErrorAs(t, err, &refusal, says)
		require.Equal(t, http.StatusBadRequest, refusal.Status)
		require.ErrorContains(t, err, says)
	}
	require.ErrorContains(t, r.server.Drain(control.DrainChange{OverSeconds: math.NaN()}), "must be")
	require.ErrorContains(t, r.server.Drain(control.DrainChange{Rate: math.Inf(1)}), "must be")
	require.Equal(t, "off", r.server.DrainState().Status)

	require.NoError(t, r.stop())
	var refusal *control.Refusal
	require.ErrorAs(t, r.server.Drain(control.DrainChange{Stop: true}), &refusal)
	require.Equal(t, http.StatusConflict, refusal.Status)
	require.ErrorContains(t, refusal, "wsd is stopping")
}

// A server that stops closes its clients evenly over shutdown.drain, also if a drain is on.
func TestStopIsEven(t *testing.T) {
	for name, draining := range map[string]bool{"serving": false, "draining": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, map[string]any{"shutdown.drain": "4s"})
			r.ready()
			clients := r.joinMany(120)
			if draining {
				require.NoError(t, r.server.Drain(control.DrainChange{OverSeconds: 3600}))
			}
			began := time.Now()
			stopped := r.stopping()
			r.eventually("stopping", func() bool { return r.server.DrainState().Status == "stopping" })
			spread(t, closes(t, clients, began), 3*time.Second)
			require.NoError(t, <-stopped)
		})
	}
}

// With few clients nobody waits for all of shutdown.drain.
func TestStopOfFewIsQuick(t *testing.T) {
	r := newRig(t, map[string]any{"shutdown.drain": "10m"})
	r.ready()
	clients := r.joinMany(2)
	stopped := r.stopping()
	r.eventually("stopping", func() bool { return r.server.DrainState().Since != nil })
	state := r.server.DrainState()
	require.Equal(t, 200*time.Millisecond, state.Until.Sub(*state.Since))
	closes(t, clients, time.Now())
	require.NoError(t, <-stopped)
}

// joinMany connects n clients that subscribe to a.
func (r *rig) joinMany(n int) (list []*client) {
	r.t.Helper()
	for range n {
		list = append(list, r.join("a"))
	}
	return list
}

func (r *rig) socket() string { return r.server.control.Path() }

// dialStatus returns the status of a refused upgrade.
func (r *rig) dialStatus(path string) int {
	r.t.Helper()
	_, _, _, err := ws.Dialer{Timeout: waitMax}.Dial(r.t.Context(), "ws://"+r.server.Addresses()[0].String()+path)
	var status ws.StatusError
	require.ErrorAs(r.t, err, &status)
	return int(status)
}

// healthz returns the status that load balancers get.
func (r *rig) healthz() int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet,
		"http://"+r.server.Addresses()[0].String()+"/healthz", nil)
	require.NoError(r.t, err)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(r.t, err)
	require.NoError(r.t, resp.Body.Close())
	return resp.StatusCode
}

// The state is the same in health and on the control socket.
func TestDrainJSON(t *testing.T) {
	r := newRig(t, nil)
	r.ready()
	r.join("a")
	require.NoError(t, r.server.Drain(control.DrainChange{Rate: 0.1}))
	_, body := r.get("/health")
	var health struct{ Drain control.DrainState }
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	state, err := control.Draining(t.Context(), r.socket())
	require.NoError(t, err)
	require.Equal(t, state, health.Drain)
	require.InDelta(t, 0.1, state.Rate, 0)
	require.Equal(t, 10*time.Second, state.Until.Sub(*state.Since))
}

// Where the kernel steers it refuses new connections, so that they cost wsd nothing.
func TestDrainRefusesInKernel(t *testing.T) {
	testutil.RequireBPF(t)
	r := newRig(t, map[string]any{"steering.mode": "require", "steering.pin_dir": filepath.Join(testutil.BPFFS(t), "wsd")})
	r.ready()
	address := r.server.Addresses()[0].String()
	dial := func() error {
		conn, err := net.DialTimeout("tcp", address, waitMax)
		if err == nil {
			conn.Close()
		}
		return err
	}
	c := r.join("a")
	require.NoError(t, r.server.Drain(control.DrainChange{Rate: 0.1}))
	for range 10 {
		require.ErrorIs(t, dial(), syscall.ECONNREFUSED)
	}
	r.produce("a", "", "1")
	require.JSONEq(t, "1", string(c.publication().Push.Pub.Data))
	require.NoError(t, r.server.Drain(control.DrainChange{Stop: true}))
	for range 10 {
		require.NoError(t, dial())
	}
	r.join("a")
}
