package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next attempt. One goroutine uses it.
type Backoff struct {
	Min, Max time.Duration
	Failures int           // The failures since the last Reset.
	wait     time.Duration // The last wait without jitter.
}

// Next returns how long to wait after one more failure. That is twice the last wait, up to Max, minus up to half of it
// at random: many clients of a broker must not all come back at the same time.
func (b *Backoff) Next() time.Duration {
	b.wait = min(max(b.Min, 2*b.wait), b.Max)
	b.Failures++
	return b.wait/2 + rand.N(b.wait/2+1) //nolint:gosec // It only spreads retries.
}

// Reset is called after a success.
func (b *Backoff) Reset() { b.Failures, b.wait = 0, 0 }

// Sleep waits for d. It returns early if wake gets a value or ctx ends. Wake may be nil.
func Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}
