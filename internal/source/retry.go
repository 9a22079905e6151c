package source

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// backoff says how long to wait before the next try. One goroutine uses it.
type backoff struct {
	min, max time.Duration
	n        int           // Failures in a row.
	wait     time.Duration // The last wait, before chance.
}

// next returns the wait after one more failure: twice the last one up to max, less up to half of it at random, so that many
// clients of a broker that came back do not come back together.
func (b *backoff) next() time.Duration {
	b.wait = min(max(b.min, 2*b.wait), b.max)
	b.n++
	return b.wait/2 + rand.N(b.wait/2+1)
}

func (b *backoff) reset() { b.n, b.wait = 0, 0 }

// sleep waits for d, or less when wake gets a value or ctx ends. wake may be nil.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

// edge logs a lasting problem at its beginning and its end, and in between once an interval with the number of repeats. Any
// goroutine may use it.
type edge struct {
	mu       sync.Mutex
	interval time.Duration
	failing  bool
	since    time.Time
	next     time.Time // When a repeat may be logged.
	repeats  int
}

// fail notes one occurrence.
func (e *edge) fail(log *slog.Logger, msg string, attrs ...any) {
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

// ok notes that it is over.
func (e *edge) ok(log *slog.Logger, msg string, attrs ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.failing {
		return
	}
	e.failing = false
	log.Info(msg, append(attrs, "after", time.Since(e.since).Round(time.Millisecond))...)
}
