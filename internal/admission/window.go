package admission

import "time"

// window is the average CPU share over a time. What lies before the first sample counts as idle, so that the burst of
// clients that come back after a restart is no overload.
type window struct {
	used    []time.Duration // CPU time used in each interval, never more than possible.
	able    []time.Duration // CPU time that was possible in it.
	next    int
	sumUsed time.Duration
	sumAble time.Duration
}

func newWindow(length time.Duration, cpus float64) *window {
	n := samples(length)
	w := &window{used: make([]time.Duration, n), able: make([]time.Duration, n)}
	for i := range w.able {
		w.able[i] = time.Duration(float64(Interval) * cpus)
		w.sumAble += w.able[i]
	}
	return w
}

// add replaces the oldest interval and returns the average.
func (w *window) add(used, able time.Duration) float64 {
	able = max(able, 0)
	used = max(0, min(used, able))
	w.sumUsed += used - w.used[w.next]
	w.sumAble += able - w.able[w.next]
	w.used[w.next], w.able[w.next] = used, able
	w.next = (w.next + 1) % len(w.used)
	if w.sumAble <= 0 {
		return 0
	}
	return float64(w.sumUsed) / float64(w.sumAble)
}
