package source

import (
	"log/slog"
	"sync"
	"time"
)

// throttledLog logs a lasting problem at its beginning and at its end. In between it logs once in each interval, with
// the number of repeats. A problem that comes and goes all the time is logged like one that lasts. Any goroutine may
// use it.
type throttledLog struct {
	mu       sync.Mutex
	interval time.Duration
	failing  bool
	told     bool // The log has the beginning.
	since    time.Time
	next     time.Time // The earliest time at which a repeat is logged.
	repeats  int       // What was not logged.
	from     time.Time // Beginnings are counted since then, at least for the interval.
	begun    int       // Their number.
}

// begunMax is how many beginnings in one interval are logged at once.
const begunMax = 3

// fail notes one occurrence.
func (e *throttledLog) fail(log *slog.Logger, msg string, attrs ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	begins := !e.failing
	if begins {
		e.failing, e.told, e.since = true, false, now
		if now.Sub(e.from) >= e.interval {
			e.from, e.begun = now, 0
		}
		e.begun++
	}
	if now.Before(e.next) && (!begins || e.begun > begunMax) {
		e.repeats++
		return
	}
	e.next, e.told = now.Add(e.interval), true
	if e.repeats > 0 {
		attrs = append(attrs, "repeats", e.repeats)
		e.repeats = 0
	}
	if !begins {
		attrs = append(attrs, "for", now.Sub(e.since).Round(time.Millisecond))
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
	if e.told {
		log.Info(msg, append(attrs, "after", time.Since(e.since).Round(time.Millisecond))...)
	}
}
