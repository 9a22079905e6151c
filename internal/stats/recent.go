package stats

import (
	"sync/atomic"
	"time"
)

// recentSeconds is how many seconds a Recent remembers, the one under way included.
const recentSeconds = 16

// RecentMax is the longest window that Recent.Max can look back over.
const RecentMax = (recentSeconds - 1) * time.Second

// Recent remembers the largest value of each of the last seconds. One goroutine adds, any may read. The zero value is
// ready to use.
type Recent struct {
	seconds [recentSeconds]struct{ second, largest atomic.Uint64 }
}

// Add notes a value at the time now, in nanoseconds of a clock that never steps. Values of 0 are ignored.
func (r *Recent) Add(now, value uint64) {
	if value == 0 {
		return
	}
	second := now / uint64(time.Second)
	b := &r.seconds[second%recentSeconds]
	if b.second.Load() != second {
		b.largest.Store(0)
		b.second.Store(second)
	}
	if value > b.largest.Load() {
		b.largest.Store(value)
	}
}

// Max returns the largest value that was added in the window before now, in whole seconds, and 0 if there was none. The
// window is at most RecentMax.
func (r *Recent) Max(now uint64, window time.Duration) (largest uint64) {
	last := now / uint64(time.Second)
	seconds := uint64(max(0, min(window, RecentMax)) / time.Second)
	first := last - min(last, seconds)
	for i := range r.seconds {
		b := &r.seconds[i]
		if second := b.second.Load(); second >= first && second <= last {
			largest = max(largest, b.largest.Load())
		}
	}
	return largest
}
