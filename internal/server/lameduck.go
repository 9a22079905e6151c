package server

import (
	"fmt"
	"time"

	"wsd/internal/admin"
)

// lameDuck is shutdown.delay: the time between the signal to stop and the end of accepting. Load balancers see
// meanwhile that the server is not ready, and no client that one of them still sends is refused.
type lameDuck struct {
	until time.Time // When accepting ends.
}

// announce makes the server not ready, because it is about to stop, and returns how long it is to serve on. New clients
// are served as ever. A drain that is on has said so before: that time counts.
func (s *Server) announce() time.Duration {
	d := &s.drain
	d.mu.Lock()
	now := time.Now()
	wait := s.cfg.Shutdown.Delay
	if d.begun != nil {
		wait = max(0, wait-now.Sub(d.begun.since))
	}
	d.final = true
	s.lameDuck.Store(&lameDuck{until: now.Add(wait)})
	s.setStage(admin.StatusDraining)
	s.serving.Store(false)
	d.mu.Unlock()
	if wait > 0 {
		s.log.Info("asked to stop: not ready any more, and still accepting clients", "clients", s.clients(),
			"shutdown.delay", s.cfg.Shutdown.Delay, "until", now.Add(wait).Round(time.Millisecond))
	}
	return wait
}

// after returns a channel that gets a value after the time, or at once if there is none.
func (s *Server) after(wait time.Duration) <-chan time.Time {
	if s.hooks.after != nil && wait > 0 {
		return s.hooks.after(wait)
	}
	return time.After(wait)
}

// leaving says that the server is about to stop, or is empty.
func (s *Server) leaving() string {
	duck := s.lameDuck.Load()
	if duck == nil || *s.stage.Load() != admin.StatusDraining {
		return ""
	}
	return fmt.Sprintf("wsd was asked to stop: in %v it accepts no more clients and closes all (shutdown.delay)",
		max(0, time.Until(duck.until)).Round(100*time.Millisecond))
}
