package stats

import (
	"sync/atomic"
	"time"
)

// Moment is a point in time that goroutines share, or none, which is its zero value. It goes by the monotonic clock: a
// step of the wall clock does not move it. Any goroutine may use it.
type Moment struct{ nanos atomic.Int64 }

// momentOrigin is what moments are counted from.
var momentOrigin = time.Now()

// nanosOf returns t, which should have a monotonic reading, as what a Moment holds.
func nanosOf(t time.Time) int64 {
	if n := int64(t.Sub(momentOrigin)); n != 0 {
		return n
	}
	return 1
}

// Set stores t.
func (m *Moment) Set(t time.Time) { m.nanos.Store(nanosOf(t)) }

// SetIfNone stores t if m is none.
func (m *Moment) SetIfNone(t time.Time) { m.nanos.CompareAndSwap(0, nanosOf(t)) }

// Replace stores t if m is still old, and reports whether it did. An old that is the zero time stands for none.
func (m *Moment) Replace(old, t time.Time) bool {
	was := int64(0)
	if !old.IsZero() {
		was = nanosOf(old)
	}
	return m.nanos.CompareAndSwap(was, nanosOf(t))
}

// Clear makes m none.
func (m *Moment) Clear() { m.nanos.Store(0) }

// Get returns the time, or the zero time for none.
func (m *Moment) Get() time.Time {
	if n := m.nanos.Load(); n != 0 {
		return momentOrigin.Add(time.Duration(n))
	}
	return time.Time{}
}

// Clock returns t, which should have a monotonic reading, as nanoseconds of the monotonic clock since the process
// began, for times of which many are kept. It is never 0.
func Clock(t time.Time) int64 { return nanosOf(t) }
