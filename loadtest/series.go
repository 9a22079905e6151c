package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// live shows what happens: one line, which is rewritten on a terminal, else repeated every two seconds.
type live struct {
	w        io.Writer
	terminal bool
	shown    time.Time
}

// show shows a line. The last one of a phase stays.
func (l *live) show(line string, last bool) {
	switch {
	case l == nil:
	case l.terminal && last:
		_, _ = fmt.Fprintf(l.w, "\r\x1b[K%s\n", line) // Nothing depends on it being readable.
	case l.terminal:
		_, _ = fmt.Fprintf(l.w, "\r\x1b[K%s", line)
	case last || time.Since(l.shown) >= 2*time.Second:
		l.shown = time.Now()
		_, _ = fmt.Fprintln(l.w, line)
	}
}

// series samples a run once a second, and shows each sample.
type series struct {
	mu     sync.Mutex
	name   string // Name of the phase; guarded by mu.
	points []report.Point
	run    *run
	prior  mark  // At the last sample.
	count  int64 // Deliveries at the last sample.
	begin  time.Time
}

func newSeries() *series { return &series{} }

const sampleInterval = time.Second

// start samples until stop is called.
func (s *series) start(r *run) (stop func()) {
	if s == nil {
		return func() {}
	}
	s.run, s.begin, s.prior = r, time.Now(), r.sample()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(sampleInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.sample(false)
			case <-done:
				return
			}
		}
	})
	return func() { close(done); running.Wait() }
}

// snapshot returns the points so far.
func (s *series) snapshot() []report.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.points)
}

// phase begins a phase, which the returned function ends.
func (s *series) phase(name string) (end func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	s.name = name
	s.mu.Unlock()
	return func() { s.sample(true) }
}

// sample is a reading of the server for a point. Unlike mark it costs the server nothing.
func (r *run) sample() (m mark) {
	proc := serverstat.Proc{Root: "/proc"}
	m.at = time.Now()
	if pid := r.target.pid; pid != 0 {
		var err error
		if m.cpu, err = serverstat.CPUTime(pid); err == nil {
			m.server, err = proc.Process(pid)
		}
		m.present = err == nil
	}
	tcp, err := proc.TCPBytes()
	m.tcp, m.kernel = tcp, err == nil
	return m
}

// sample adds a point and shows it.
func (s *series) sample(last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.run
	n, _ := r.engine.Snapshot()
	w := r.engine.Window()
	m := r.sample()
	latency := report.Distribution(w.Latency)
	p := report.Point{
		Seconds: m.at.Sub(s.begin).Seconds(), Open: n.Open, P50: latency.P50, P99: latency.P99, P999: latency.P999,
		Received: report.NA, CPU: report.NA, RSS: report.NA, TCP: report.NA,
	}
	took := m.at.Sub(s.prior.at).Seconds()
	if took > 0.05 { // A shorter time says nothing about rates.
		p.Received = report.Figure(float64(n.Deliveries-s.count) / took)
		if m.present && s.prior.present {
			p.CPU = report.Figure(100 * (m.cpu - s.prior.cpu).Seconds() / took)
		}
		s.prior, s.count = m, n.Deliveries
	}
	if m.present {
		p.RSS = report.Figure(m.server.RSS)
	}
	if m.kernel {
		p.TCP = report.Figure(m.tcp)
	}
	s.points = append(s.points, p)
	line := fmt.Sprintf("%s: %s of %s connected, %s records received, %s/s, p50 %s, p99 %s, errors %s, "+
		"CPU %s, RSS %s", s.name,
		report.Group(n.Open), report.Group(r.clients), report.Group(n.Deliveries), show(p.Received, 1, ""),
		show(p.P50, 1000, " ms"), show(p.P99, 1000, " ms"),
		report.Group(n.Refused+n.Failed+n.Closed+n.Lost+n.Duplicates+n.Reordered+n.Corrupt+n.Unexpected),
		show(p.CPU, 1, " %"), show(p.RSS, 1<<20, " MiB"))
	if r.disturb.Count > 0 {
		d, active := r.engine.Disturbed()
		line += fmt.Sprintf("; disturbing %d, connections %d, reset %d, cut %d", active, d.Connected,
			d.ResetUpgrade+d.ResetClear+d.ResetBehind, d.Cut)
	}
	r.live.show(line, last)
}

// show shows a figure in another unit.
func show(f report.Figure, unit float64, name string) string {
	switch v := float64(f) / unit; {
	case !f.Known():
		return "n/a"
	case v < 10 && name != "":
		return fmt.Sprintf("%.2f%s", v, name)
	default:
		return report.Group(int64(math.Round(v))) + name
	}
}

// Memory counts as flat if the median of the last quarter exceeds that of the second by at most flatShare plus
// flatBytes.
const (
	flatShare = 0.05
	flatBytes = 8 << 20
	// A shorter run is not judged, because the size of the heap then depends on the last garbage collection.
	flatJudged = time.Minute
)

// memoryOf summarises the memory in some points, and judges whether it was flat.
func memoryOf(points []report.Point, took time.Duration) *report.Memory {
	var rss, tcp []int64
	for _, p := range points {
		if p.RSS.Known() {
			rss, tcp = append(rss, int64(p.RSS)), append(tcp, int64(p.TCP))
		}
	}
	n := len(rss)
	if n == 0 {
		return nil
	}
	m := &report.Memory{
		Samples: n, RSSSecondQuarter: median(rss[n/4 : max(n/2, n/4+1)]), RSSLastQuarter: median(rss[n*3/4:]),
		RSSMax: slices.Max(rss), TCPMax: slices.Max(tcp),
		SlopePerMinute: slope(rss[n/4:]) * float64(time.Minute/sampleInterval),
	}
	m.RSSAllowed = int64(float64(m.RSSSecondQuarter)*(1+flatShare)) + flatBytes
	m.Judged = took >= flatJudged
	m.Flat = m.RSSLastQuarter <= m.RSSAllowed
	return m
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
