package main

import (
	"slices"
	"sync"
	"time"

	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// When memory counts as flat: the median of the last quarter is at most so much above that of the second.
const (
	flatShare   = 0.05
	flatBytes   = 8 << 20
	flatJudged  = time.Minute // A shorter soak is not judged: the heap's size then depends on when it was collected.
	memoryEvery = time.Second
)

// memory samples the server's memory while a soak runs.
type memory struct {
	proc serverstat.Proc
	pid  int

	mu  sync.Mutex
	rss []int64 // Bytes, one a second; guarded by mu.
	tcp []int64 // Likewise, of the whole machine.
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
		return // The server has gone: everything else tells.
	}
	tcp, err := m.proc.TCPBytes()
	if err != nil {
		tcp = 0 // Not on this kernel: shown as 0, and not judged.
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rss, m.tcp = append(m.rss, u.RSS), append(m.tcp, tcp)
}

// last is the newest sample.
func (m *memory) last() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rss) == 0 {
		return 0
	}
	return m.rss[len(m.rss)-1]
}

// report says how the memory has gone, of a soak that took so long, and whether it was flat.
func (m *memory) report(took time.Duration) report.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.rss)
	if n == 0 {
		return report.Memory{}
	}
	r := report.Memory{
		Samples: n, RSSSecondQuarter: median(m.rss[n/4 : max(n/2, n/4+1)]), RSSLastQuarter: median(m.rss[n*3/4:]), RSSMax: slices.Max(m.rss),
		TCPSecondQuarter: median(m.tcp[n/4 : max(n/2, n/4+1)]), TCPLastQuarter: median(m.tcp[n*3/4:]), TCPMax: slices.Max(m.tcp),
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

// slope is the growth from one sample to the next of the line that fits best.
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
