package server

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"wsd/internal/admin"
	"wsd/internal/control"
	"wsd/internal/metrics"
	"wsd/internal/shard"
)

// drain is how the server closes its clients on purpose: as an operator asks by `wsd drain`, or because it stops.
type drain struct {
	pace shard.Drain

	mu    sync.Mutex
	begun *drainBegun // Nil while no drain is on.
	final bool        // The server stops: no other drain begins, and this one does not end.
}

// drainBegun is what a drain was when it began.
type drainBegun struct {
	since        time.Time
	until        time.Time // Planned end.
	rate         float64   // Clients a second; 0: evenly until the end.
	clients      int64     // Clients that were connected.
	closedBefore uint64    // Clients that earlier drains have closed.
}

// Limits of what `wsd drain` may ask for.
const (
	drainOverMax = 24 * time.Hour
	drainRateMin = 0.1
	drainRateMax = 1e6
)

// Drain begins a drain, changes the pace of the one that is on, or ends it, for `wsd drain`. A drain refuses new
// connections and closes the clients at an even pace; the server then runs on without clients until the drain is ended.
// Any goroutine may call it.
func (s *Server) Drain(change control.DrainChange) error {
	over := time.Duration(change.OverSeconds * float64(time.Second))
	switch {
	case change.Stop && (change.OverSeconds != 0 || change.Rate != 0):
		return badDrain("stop has neither a time nor a rate")
	case change.OverSeconds != 0 && change.Rate != 0:
		return badDrain("a drain has a time or a rate, not both")
	case change.Stop:
	case change.Rate != 0 && !(change.Rate >= drainRateMin && change.Rate <= drainRateMax):
		return badDrain(fmt.Sprintf("rate %v: must be from %v to %v clients a second", change.Rate, drainRateMin,
			float64(drainRateMax)))
	case !(change.OverSeconds >= 0 && change.OverSeconds <= drainOverMax.Seconds()):
		return badDrain(fmt.Sprintf("over %v seconds: must be from 0 to %v (%v)", change.OverSeconds,
			drainOverMax.Seconds(), drainOverMax))
	}
	d := &s.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if stage := *s.stage.Load(); d.final || stage != admin.StatusOK {
		if d.final {
			stage = admin.StatusStopping
		}
		return &control.Refusal{Status: http.StatusConflict, Text: "wsd is " + string(stage) + ": it can only be " +
			"drained, or serve again, while it serves"}
	}
	if change.Stop {
		s.endDrain()
		return nil
	}
	s.serving.Store(false)
	if err := s.steering.Refuse(true); err != nil {
		s.log.Warn("the kernel does not refuse new connections during the drain; shards do", "error", err)
	}
	s.beginDrain(over, change.Rate)
	s.log.Info("draining: clients are closed with 3001, and new ones are refused", "clients", d.begun.clients,
		"until", d.begun.until.Round(time.Second), "rate", d.begun.rate)
	return nil
}

func badDrain(text string) error { return &control.Refusal{Status: http.StatusBadRequest, Text: text} }

// beginDrain sets the pace for all clients and has the shards follow it. The caller holds the mutex.
func (s *Server) beginDrain(over time.Duration, rate float64) {
	d, now := &s.drain, time.Now()
	begun := &drainBegun{since: now, rate: rate, clients: s.clients(), closedBefore: d.pace.Closed()}
	if d.begun != nil { // The drain goes on at another pace.
		begun.since, begun.closedBefore = d.begun.since, d.begun.closedBefore
		//nolint:gosec // It does not shrink, and is a number of clients.
		begun.clients += int64(d.pace.Closed() - d.begun.closedBefore)
	}
	if rate > 0 {
		over = time.Duration(float64(s.clients()) / rate * float64(time.Second))
		d.pace.AtRate(rate, now)
	} else {
		d.pace.Over(int(s.clients()), now, now.Add(over))
	}
	begun.until = now.Add(over)
	d.begun = begun
	s.postDrain()
}

// endDrain lets the server serve again. The caller holds the mutex.
func (s *Server) endDrain() {
	d := &s.drain
	if d.begun == nil {
		return
	}
	s.log.Info("the drain has ended: serving again", "clients", s.clients(), "closed",
		d.pace.Closed()-d.begun.closedBefore)
	d.begun = nil
	d.pace.Stop()
	s.postDrain()
	if err := s.steering.Refuse(false); err != nil {
		s.log.Error("the kernel still refuses new connections", "error", err, "remedy",
			"repeat wsd drain stop, or restart wsd")
	}
	s.serving.Store(true)
}

func (s *Server) postDrain() {
	for _, sh := range s.shards {
		sh.PostDrain()
	}
}

// The states of a drain.
const (
	drainOff      = "off"
	drainRunning  = "draining"
	drainDone     = "drained"
	drainStopping = "stopping"
)

// DrainState returns the state of the drain, for `wsd drain status`, health and metrics. Any goroutine may call it.
func (s *Server) DrainState() control.DrainState {
	d := &s.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	state := control.DrainState{Status: drainOff, Clients: s.clients()}
	if d.begun == nil {
		if d.final {
			state.Status = drainStopping
		}
		return state
	}
	state.Status = drainRunning
	if state.Clients == 0 {
		state.Status = drainDone
	}
	if d.final {
		state.Status = drainStopping
	}
	state.Since, state.Until = &d.begun.since, &d.begun.until
	state.Rate = d.begun.rate
	state.ClientsAtStart = d.begun.clients
	state.Closed = d.pace.Closed() - d.begun.closedBefore
	return state
}

func (s *Server) drainMetrics() metrics.Drain {
	m := metrics.Drain{Closed: s.drain.pace.Closed()}
	if state := s.DrainState(); state.Since != nil {
		m.Since, m.Until = *state.Since, *state.Until
	}
	return m
}

// draining describes a drain that an operator has begun, "" if none is on.
func (s *Server) draining() string {
	state := s.DrainState()
	if state.Status != drainRunning && state.Status != drainDone {
		return ""
	}
	return fmt.Sprintf("wsd is %s: it takes no new clients until wsd drain stop; %d clients are left, %d were closed "+
		"since %s", state.Status, state.Clients, state.Closed, state.Since.Format(time.RFC3339))
}

// leaveRateMin is the least pace at which a server that stops closes its clients, in clients a second. With few clients
// there is no crowd that could come back at once, so nobody has to wait for all of shutdown.drain.
const leaveRateMin = 10

// tailMax bounds the last part of shutdown.drain, in which the last clients read what waits for them and answer the
// close.
const tailMax = closeGrace

// leave closes the clients of a server that stops, evenly over shutdown.drain but for its last part. Meanwhile those
// that are left are served. It returns when no client is left, or at the end of that time.
func (s *Server) leave() {
	d := &s.drain
	d.mu.Lock()
	total := s.cfg.Shutdown.Drain
	over := total - min(total/4, tailMax)
	over = min(over, time.Duration(s.clients())*time.Second/leaveRateMin)
	d.final = true
	s.beginDrain(over, 0)
	until := d.begun.until
	d.mu.Unlock()

	const interval = 10 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for s.clients() > 0 && time.Now().Before(until) {
		<-tick.C
	}
}
