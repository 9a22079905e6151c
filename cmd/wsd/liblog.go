package main

import (
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// libraryLogInterval is the least time between two lines of libraries.
const libraryLogInterval = 30 * time.Second

// libraryLog is where lines go that libraries write by package log. net/http writes one for each answer of a backend
// that nobody asked for, with a part of it, which may repeat what a client sent: what is quoted is left out, and most
// lines are only counted.
type libraryLog struct {
	logger *slog.Logger

	mu      sync.Mutex
	logged  time.Time
	dropped int
}

// takeLibraryLog has lines of libraries go to a logger.
func takeLibraryLog(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(&libraryLog{logger: logger})
}

// Write implements io.Writer. A line comes with one call.
func (l *libraryLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	now, dropped := time.Now(), l.dropped
	quiet := !l.logged.IsZero() && now.Sub(l.logged) < libraryLogInterval
	if quiet {
		l.dropped++
	} else {
		l.logged, l.dropped = now, 0
	}
	l.mu.Unlock()
	if !quiet {
		text, _, _ := strings.Cut(strings.TrimSpace(string(line)), `"`)
		l.logger.Warn("a library reports a fault", "what", text, "dropped_before", dropped, "note",
			"what is quoted is left out; this line comes at most every "+libraryLogInterval.String())
	}
	return len(line), nil
}
