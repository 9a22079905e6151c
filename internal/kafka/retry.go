package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next try. One goroutine uses it.
type Backoff struct {
	Min, Max time.Duration
	Failures int           // In a row.
	wait     time.Duration // The last wait, before chance.
}

// Next returns the wait after one more failure: twice the last one up to max, less up to half of it at random, so that many
// clients of a broker that came back do not come back together.
func (b *Backoff) Next() time.Duration {
	b.wait = min(max(b.Min, 2*b.wait), b.Max)
	b.Failures++
	return b.wait/2 + rand.N(b.wait/2+1)
}

// Reset ends a row of failures.
func (b *Backoff) Reset() { b.Failures, b.wait = 0, 0 }

// Sleep waits for d, or less when wake gets a value or ctx ends. wake may be nil.
func Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}
