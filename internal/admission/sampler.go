package admission

import (
	"context"
	"log/slog"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Shedder refuses new clients. Only the sampler's goroutine calls it, after each change.
type Shedder interface {
	// Shed refuses that percentage of new clients from now on, 0 to 100.
	Shed(percent int)
}

// Options is what a Sampler is built from.
type Options struct {
	Marks      Marks
	DryRun     bool   // Only for what the log says: the Shedder knows what to do in a dry run.
	CgroupRoot string // Directory to read as the cgroup trees; empty: those that are mounted.

	Loops           []Loop       // Loops of the shards.
	DescriptorsLeft func() int64 // Connections that the process may still open.
	Shedder         Shedder
	Logger          *slog.Logger
}

// Stats counts what a Sampler does. Any goroutine may read it.
type Stats struct {
	Samples atomic.Uint64 // Samples, and so decisions that read the cgroup.
	CPU     atomic.Uint64 // Times that a lack of CPU time began.
	Memory  atomic.Uint64 // Times that a lack of memory began.
}

// Sampler measures and decides. New makes it, Start starts it.
type Sampler struct {
	options Options
	stats   Stats
	status  atomic.Pointer[Status]
	stop    chan struct{}
	done    chan struct{}

	// Owned by the sampler's goroutine.
	machine   *machine
	lag       *lagMeter
	cpu       *window
	state     State
	last      time.Time // Of the last sample.
	since     time.Time // When Level left 0.
	all       bool      // Everybody was refused since then.
	unreadMsg string    // What could not be read at the last sample.
}

// New returns a Sampler that does nothing until Start. It returns an error if the cgroup trees cannot be found.
func New(o Options) (*Sampler, error) {
	m, err := newMachine(o.CgroupRoot)
	if err != nil {
		return nil, err
	}
	s := &Sampler{options: o, machine: m, stop: make(chan struct{}), done: make(chan struct{})}
	s.status.Store(&Status{marks: o.Marks})
	return s, nil
}

// Start measures in a goroutine of its own until Stop. It must be called once.
func (s *Sampler) Start() {
	s.begin(time.Now())
	go pprof.Do(context.Background(), pprof.Labels("component", "admission"), func(context.Context) { s.run() })
}

// Stop ends the goroutine and waits for it. What was refused last stays refused. Start must have been called.
func (s *Sampler) Stop() {
	close(s.stop)
	<-s.done
}

// Stats returns the counters.
func (s *Sampler) Stats() *Stats { return &s.stats }

// Status returns the last sample and what was decided. Any goroutine may call it.
func (s *Sampler) Status() Status { return *s.status.Load() }

func (s *Sampler) run() {
	defer close(s.done)
	due := time.Now().Add(Interval)
	timer := time.NewTimer(Interval)
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		s.sample(now, now.Sub(due))
		if due = due.Add(Interval); due.Before(now) {
			due = now.Add(Interval)
		}
		timer.Reset(time.Until(due))
	}
}

// begin takes the readings that the first sample is compared with.
func (s *Sampler) begin(now time.Time) {
	s.last = now
	_, err := s.machine.read(now)
	s.noteUnread(err)
	s.cpu = newWindow(s.options.Marks.Window, s.machine.cpus)
	s.lag = newLagMeter(s.options.Loops)
}

// sample measures once and acts on it. late is how long after its time this goroutine ran: so long everybody in the
// process waits at least.
func (s *Sampler) sample(now time.Time, late time.Duration) {
	s.stats.Samples.Add(1)
	elapsed := now.Sub(s.last)
	s.last = now
	u, err := s.machine.read(now)
	s.noteUnread(err)
	st := &Status{
		marks: s.options.Marks, CPU: s.cpu.add(u.cpuUsed, u.cpuAble), CPUs: s.machine.cpus, Memory: u.memory,
		TCPMemory: u.tcp, DescriptorsLeft: s.options.DescriptorsLeft(),
	}
	st.Lag, st.Turn = s.lag.measure(monotonic(), elapsed)
	st.Lag = max(st.Lag, late)
	before := s.state
	s.state = s.options.Marks.Next(before, Sample{
		CPU: st.CPU, Lag: st.Lag, Memory: max(u.memory.Share(), u.tcp.Share()),
	})
	st.State = s.state
	s.status.Store(st)
	if s.state.CPUScarce && !before.CPUScarce {
		s.stats.CPU.Add(1)
	}
	if s.state.MemoryScarce && !before.MemoryScarce {
		s.stats.Memory.Add(1)
	}
	if s.state.Level != before.Level {
		s.options.Shedder.Shed(s.state.Level)
		s.logEdges(before.Level, st, now)
	}
}

// logEdges logs when refusing begins, when it has reached everybody, and when it is over.
func (s *Sampler) logEdges(before int, st *Status, now time.Time) {
	log, dry := s.options.Logger, s.options.DryRun
	switch {
	case before == 0 && dry:
		s.since, s.all = now, false
		log.Warn("dry run: would refuse a rising part of the new clients", st.figures()...)
	case before == 0:
		s.since, s.all = now, false
		log.Warn("refusing a rising part of the new clients", st.figures()...)
	case st.Level == 100 && !s.all && dry:
		s.all = true
		log.Warn("dry run: would refuse all new clients", st.figures()...)
	case st.Level == 100 && !s.all:
		s.all = true
		log.Warn("refusing all new clients", st.figures()...)
	case st.Level == 0:
		log.Info("accepting all new clients again", append(st.figures(), "after", now.Sub(s.since))...)
	}
}

// noteUnread logs what cannot be read, and when it can be read again.
func (s *Sampler) noteUnread(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == s.unreadMsg:
		return
	case text == "":
		s.options.Logger.Info("admission can read its figures again")
	case s.unreadMsg == "":
		s.options.Logger.Warn("admission ignores figures that cannot be read", "error", text)
	}
	s.unreadMsg = text
}

func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // Cannot fail: the clock exists and t is writable.
	return uint64(t.Nano())                         //nolint:gosec // The time since boot is positive.
}
