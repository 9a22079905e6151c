package source

import (
	"log/slog"
	"sync"
	"time"
)

// throttledLog logs a lasting problem at its beginning and at its end. In between it logs once in each interval, with
// the number of repeats. Any goroutine may use it.
type throttledLog struct {
	mu       sync.Mutex
	interval time.Duration
	failing  bool
	since    time.Time
	next     time.Time // The earliest time at which a repeat is logged.
	repeats  int
}

// fail notes one occurrence.
func (e *throttledLog) fail(log *slog.Logger, msg string, attrs ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if !e.failing {
		e.failing, e.since, e.repeats = true, now, 0
	} else if now.Before(e.next) {
		e.repeats++
		return
	}
	e.next = now.Add(e.interval)
	if e.repeats > 0 {
		attrs = append(attrs, "repeats", e.repeats, "for", now.Sub(e.since).Round(time.Millisecond))
		e.repeats = 0
	}
	log.Warn(msg, attrs...)
}

// ok notes that the problem is over.
func (e *throttledLog) ok(log *slog.Logger, msg string, attrs ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.failing {
		return
	}
	e.failing = false
	log.Info(msg, append(attrs, "after", time.Since(e.since).Round(time.Millisecond))...)
}
