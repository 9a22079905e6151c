package main

import (
	"slices"
	"sync"
	"time"

	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// Memory counts as flat if the median of the last quarter exceeds that of the second by at most flatShare plus
// flatBytes.
const (
	flatShare = 0.05
	flatBytes = 8 << 20
	// A shorter soak is not judged, because the size of the heap then depends on the last garbage collection.
	flatJudged  = time.Minute
	memoryEvery = time.Second
)

// memory samples the server's memory while a soak runs.
type memory struct {
	proc serverstat.Proc
	pid  int

	mu  sync.Mutex
	rss []int64 // Resident memory of the server in bytes, once per second; guarded by mu.
	tcp []int64 // TCP memory of the machine in bytes, once per second; guarded by mu.
}

func newMemory(proc serverstat.Proc, pid int) *memory { return &memory{proc: proc, pid: pid} }

// start samples until stop is called.
func (m *memory) start() (stop func()) {
	m.sample()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(memoryEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.sample()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

func (m *memory) sample() {
	u, err := m.proc.Process(m.pid)
	if err != nil {
		return // The server has ended, which the clients notice.
	}
	tcp, err := m.proc.TCPBytes()
	if err != nil {
		tcp = 0 // Not available on this kernel. It is shown as 0 and not judged.
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rss, m.tcp = append(m.rss, u.RSS), append(m.tcp, tcp)
}

// last returns the newest sample.
func (m *memory) last() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rss) == 0 {
		return 0
	}
	return m.rss[len(m.rss)-1]
}

// report summarises the memory during a soak of the given duration, and judges whether it was flat.
func (m *memory) report(took time.Duration) report.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.rss)
	if n == 0 {
		return report.Memory{}
	}
	r := report.Memory{
		Samples: n, RSSSecondQuarter: median(m.rss[n/4 : max(n/2, n/4+1)]), RSSLastQuarter: median(m.rss[n*3/4:]),
		RSSMax:           slices.Max(m.rss),
		TCPSecondQuarter: median(m.tcp[n/4 : max(n/2, n/4+1)]), TCPLastQuarter: median(m.tcp[n*3/4:]),
		TCPMax:         slices.Max(m.tcp),
		SlopePerMinute: slope(m.rss[n/4:]) * float64(time.Minute/memoryEvery),
	}
	r.RSSAllowed = int64(float64(r.RSSSecondQuarter)*(1+flatShare)) + flatBytes
	r.Judged = took >= flatJudged
	r.Flat = r.RSSLastQuarter <= r.RSSAllowed
	return r
}

func median(values []int64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// slope returns the growth per sample of the line that fits best.
func slope(values []int64) float64 {
	var sx, sy, sxx, sxy float64
	for i, v := range values {
		x, y := float64(i), float64(v)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	n := float64(len(values))
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
