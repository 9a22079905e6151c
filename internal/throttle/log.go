package throttle

import (
	"log/slog"
	"sync"
	"time"
)

// Log logs a lasting problem at its beginning and at its end. In between it logs once in each interval, with the number
// of repeats. A problem that comes and goes all the time is logged like one that lasts, and so is one whose end nobody
// reports. Its zero value is not ready: set Interval.
type Log struct {
	Interval time.Duration // Time between two lines about the problem. Fixed after the first use.

	mu      sync.Mutex
	failing bool
	told    bool // The log has the beginning.
	since   time.Time
	next    time.Time // The earliest time at which a repeat is logged.
	repeats int       // What was not logged.
	from    time.Time // Beginnings are counted since then, at least for the interval.
	begun   int       // Their number.
}

// begunMax is how many beginnings in one interval are logged at once.
const begunMax = 3

// Fail notes one occurrence of the problem, and logs it as a warning if one is due.
func (l *Log) Fail(log *slog.Logger, msg string, attrs ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	begins := !l.failing
	if begins {
		l.failing, l.told, l.since = true, false, now
		if now.Sub(l.from) >= l.Interval {
			l.from, l.begun = now, 0
		}
		l.begun++
	}
	if now.Before(l.next) && (!begins || l.begun > begunMax) {
		l.repeats++
		return
	}
	l.next, l.told = now.Add(l.Interval), true
	if l.repeats > 0 {
		attrs = append(attrs, "repeats", l.repeats)
		l.repeats = 0
	}
	if !begins {
		attrs = append(attrs, "for", now.Sub(l.since).Round(time.Millisecond))
	}
	log.Warn(msg, attrs...)
}

// OK notes that the problem is over, and logs that if the log has its beginning. It returns whether there was one.
func (l *Log) OK(log *slog.Logger, msg string, attrs ...any) (ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failing {
		return false
	}
	l.failing = false
	if l.told {
		log.Info(msg, append(attrs, "after", time.Since(l.since).Round(time.Millisecond))...)
	}
	return true
}
