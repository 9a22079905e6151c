package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/loadtest/client"
	"wsd/loadtest/report"
	"wsd/loadtest/serverstat"
)

// Limits of waiting, in addition to --timeout.
const (
	pollInterval = 20 * time.Millisecond
	quietMax     = 3 * time.Second // After this time without a delivery, missing records are lost.
	closeGrace   = 5 * time.Second
)

// run is one run of a scenario: a ramp, in which all clients connect, a hold, in which records are produced and
// whatever the scenario does happens, and waiting for the last records. Everything is measured and checked alike in
// every scenario.
type run struct {
	common
	name     string         // Name of the scenario.
	clients  int            // Number of clients.
	rate     float64        // Records per second and feed.
	duration time.Duration  // Time to produce.
	disturb  client.Disturb // Clients that disturb.
	recover  bool           // Whether clients that come back recover.
	stay     bool           // Whether no client connects during the hold.
	warm     int            // Bursts to warm up with, which are in no figure.
	settle   time.Duration  // Time that clients are idle before memory is read.
	text     bool           // Whether records hold text.
	// Called when the hold begins, besides producing; nil: nothing. The run waits for it.
	during func(ctx context.Context, r *run)
	// Called before the hold, when all clients are connected; nil: nothing. What happens in it is in no figure.
	hold func(ctx context.Context) error
	// Called when all clients have gone; nil: nothing.
	audited func(n *client.Counters)

	live    *live
	log     io.Writer
	clock   clock
	target  target
	feeds   []*feed
	engine  clients
	cells   cells   // Numbers of records begun, by feed, which processes share; nil: one process.
	cellsFD int     // Descriptor of cells.
	series  *series // Nil: no samples.

	marks     [5]mark
	held      int64         // Clients held at the end of the ramp.
	ramp      time.Duration // Duration of the ramp.
	holdTime  time.Duration // Duration of the hold, with the wait for the last record.
	late      time.Duration // Longest delay of a burst.
	planned   uint64        // Records to produce in the hold.
	before    uint64        // Records produced before the hold.
	early     client.Counters
	rounds    []report.Round
	disturbed client.Disturbed
	memory    *report.Memory
	sustained report.Figure
	accounts  []report.Account
	mu        sync.Mutex
	problems  []string // Why the run has not passed; guarded by mu.
}

// Indexes of marks.
const (
	atStart   = iota // Before the ramp.
	atRamped         // After the ramp.
	atSettled        // When clients have been idle.
	atBegin          // When the hold begins.
	atEnd            // When the last record has come.
)

// mark is what the server, the kernel and this process have used by a point of a run.
type mark struct {
	at      time.Time
	server  serverstat.Usage // Resources of the server.
	cpu     time.Duration    // CPU time of the server, in nanoseconds.
	present bool             // Whether server and cpu are set.
	tcp     int64            // TCP memory of the machine, in bytes.
	slab    int64            // Slab memory of the machine, in bytes.
	kernel  bool             // Whether tcp and slab are set.
	own     time.Duration    // CPU time of this process and of those that count as load generator.
	written uint64           // Records that the server has written to sockets.
	counted bool             // Whether written is set.
}

// feed is a source of records and the channels that its records go to.
type feed struct {
	source
	run   uint32 // Tells its records from those of other runs.
	order numbering
	first int    // Index of its first channel in the engine.
	prior uint64 // Records before the hold.
}

// clock is a wall clock that never jumps, so that a step of the machine's clock does not distort latencies.
type clock struct {
	wall  int64
	start time.Time
}

func newClock() clock { now := time.Now(); return clock{wall: now.UnixNano(), start: now} }

func (c clock) now() int64 { return c.wall + int64(time.Since(c.start)) }

// problem adds a reason why the run has not passed. Any goroutine may call it.
func (r *run) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// do runs the scenario against the server of the flags. An error means that nothing was measured.
func (r *run) do(ctx context.Context) (*report.Result, error) {
	r.clock, r.series = newClock(), newSeries()
	defer func() {
		for _, f := range r.feeds {
			f.close()
		}
	}()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx)
}

// measure runs the scenario against a server whose target and feeds are set.
func (r *run) measure(ctx context.Context) (*report.Result, error) {
	if err := r.makeEngine(); err != nil {
		return nil, err
	}
	stop := r.series.start(r)
	r.marks[atStart] = r.read()
	r.connect(ctx)
	r.marks[atRamped] = r.read()
	if sleep(ctx, r.settle); r.settle > 0 {
		r.marks[atSettled] = r.read()
	} else {
		r.marks[atSettled] = r.marks[atRamped]
	}
	r.target.readHealth(ctx, r.log)
	r.marks[atBegin] = r.marks[atSettled]
	if r.held > 0 && ctx.Err() == nil && r.duration > 0 {
		if err := r.deliver(ctx); err != nil {
			r.problem("%v", err)
		}
	} else {
		r.drain()
	}
	r.marks[atEnd] = r.read()
	stop()
	grace := closeGrace
	if r.live == nil {
		grace = 0 // A comparison resets connections, which leaves none in TIME_WAIT.
	}
	n, times := r.engine.Close(grace)
	if r.audited != nil {
		r.audited(&n)
	}
	return r.result(ctx, &n, &times)
}

// prepare finds the server, and makes topics and feeds.
func (r *run) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	connect, err := r.connectTo()
	if err != nil {
		return command.UsageError{Err: err}
	}
	r.target = target{connect: connect, admin: r.Admin, pid: r.PID}
	if err := r.checkProfile(ctx); err != nil {
		return err
	}
	if err := r.target.checkServed(ctx, r.Topic); err != nil {
		return err
	}
	if r.Procs > 1 {
		if r.cells, r.cellsFD, err = newCells(len(r.Topic)); err != nil {
			return err
		}
	}
	id, first := rand.Uint32(), 0
	for i, topic := range r.Topic {
		format, err := client.NewFormat(id+uint32(i), r.Size)
		if err != nil {
			return command.UsageError{Err: err}
		}
		f := &feed{run: id + uint32(i), order: numbering{format: format, now: r.clock.now, channels: r.Channels},
			first: first}
		first += max(1, r.Channels)
		source := newKafkaSource(r.Kafka, topic, r.Batch, &f.order)
		if r.cells != nil {
			source.p.ShareBegun(r.cells.at(i))
		}
		f.source = source
		r.feeds = append(r.feeds, f)
		created, err := source.p.Ensure(ctx)
		if err != nil {
			return err
		}
		if created {
			_, _ = fmt.Fprintf(r.log, "created topic %s\n", topic)
		}
	}
	return r.target.find(ctx, r.Topic)
}

// channels returns the channels of the feeds.
func (r *run) channels() (list []client.Channel) {
	for i, f := range r.feeds {
		if f.order.channels == 0 {
			list = append(list, client.Channel{Name: r.Topic[i], Format: f.order.format, Produced: f.begun})
			continue
		}
		for c := range f.order.channels {
			list = append(list, client.Channel{Name: channelName(r.Channel, c), Format: f.order.format,
				Produced: func() uint64 { return f.order.last(c, f.begun()) }})
		}
	}
	return list
}

func (r *run) makeEngine() (err error) {
	o := r.target.connect
	o.Channels, o.Clients, o.Disturb, o.Recover, o.Now = r.channels(), r.clients, r.disturb, r.recover, r.clock.now
	if o.Sources, err = sources(r.Source, o.Server.Addr(), r.clients+r.disturb.Count); err != nil {
		return command.UsageError{Err: err}
	}
	if r.cells != nil {
		r.engine, err = r.startProcs(o.Channels, o.Sources)
		return err
	}
	o.Unmeasured = uint64(r.warm * r.Batch)
	if r.feeds[0].order.channels > 0 {
		o.Unmeasured = uint64(min(r.warm, 1))
	}
	r.engine, err = client.New(o)
	return err
}

// read returns what was used by now.
func (r *run) read() (m mark) {
	m.at = time.Now()
	proc := serverstat.Proc{Root: "/proc"}
	if r.target.pid != 0 {
		var err error
		if m.cpu, err = serverstat.CPUTime(r.target.pid); err == nil {
			m.server, err = proc.Process(r.target.pid)
		}
		if m.present = err == nil; err != nil {
			r.target.note = err.Error()
		}
	}
	tcp, err := proc.TCPBytes()
	slab, slabErr := proc.SlabBytes()
	m.tcp, m.slab, m.kernel = tcp, slab, err == nil && slabErr == nil
	var usage unix.Rusage
	// Fails only for arguments that do not exist.
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage)
	m.own = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	for _, pid := range r.target.others {
		if used, err := serverstat.CPUTime(pid); err == nil {
			m.own += used
		}
	}
	m.written, m.counted = r.target.written()
	return m
}

// connect is the ramp. It returns when all clients are subscribed or have given up, or when the time is over.
func (r *run) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	begin := time.Now()
	var producing sync.WaitGroup
	if r.RampRate > 0 {
		rampCtx, stop := context.WithCancel(ctx)
		defer producing.Wait()
		defer stop()
		r.produce(rampCtx, &producing, bursts(r.RampRate, r.Batch, r.Timeout), interval(r.RampRate, r.Batch))
	}
	shown := r.series.phase("connect")
	defer shown()
	r.engine.Start()
	poll(ctx, func() bool {
		n, _ := r.engine.Snapshot()
		r.held = n.Held
		return n.Held+n.GivenUp >= int64(r.clients)
	})
	r.ramp = time.Since(begin)
	if r.stay {
		r.engine.Hold()
		poll(ctx, func() bool { n, _ := r.engine.Snapshot(); r.held = n.Held; return true })
	}
}

// produce has all feeds produce. Their errors become problems when they have ended.
func (r *run) produce(ctx context.Context, running *sync.WaitGroup, groups int, every time.Duration) {
	for _, f := range r.feeds {
		running.Go(func() {
			late, err := f.send(ctx, groups, every)
			r.mu.Lock()
			r.late = max(r.late, late)
			r.mu.Unlock()
			if err != nil {
				r.problem("%v", err)
			}
		})
	}
}

// deliver is the hold. It produces, and waits until all clients have the last record or no more records arrive.
func (r *run) deliver(ctx context.Context) error {
	if r.warm > 0 {
		var warming sync.WaitGroup
		every := interval(r.rate, r.Batch)
		groups := r.warm
		if n := r.feeds[0].order.channels; n > 0 { // Each client gets one, as fast as possible.
			groups, every = (n+r.Batch-1)/r.Batch, 0
		}
		r.produce(ctx, &warming, groups, every)
		warming.Wait()
		r.drain()
		r.late = 0
		r.marks[atBegin] = r.read()
	}
	for _, f := range r.feeds {
		f.prior = f.acked()
		r.before += f.prior
	}
	r.early, _ = r.engine.Snapshot()
	if r.RampRate == 0 { // Else the latencies of the ramp count too.
		r.engine.ForgetLag()
	}
	shown := r.series.phase(r.name)
	defer shown()
	begin := time.Now()
	r.profile()
	if r.hold != nil {
		if err := r.hold(ctx); err != nil {
			return err
		}
		r.before, begin = r.produced(), time.Now()
		for _, f := range r.feeds {
			f.prior = f.acked()
		}
		r.early, _ = r.engine.Snapshot()
		r.marks[atBegin] = r.read()
	}
	groups := bursts(r.rate, r.Batch, r.duration)
	r.planned = uint64(groups) * uint64(r.Batch) * uint64(len(r.feeds))
	produceCtx, cancel := context.WithTimeout(ctx, r.duration+r.Timeout)
	defer cancel()
	var running sync.WaitGroup
	if r.during != nil {
		running.Go(func() { r.during(produceCtx, r) })
	}
	r.produce(produceCtx, &running, groups, interval(r.rate, r.Batch))
	running.Wait()
	// The last burst is sent one interval before the end; hold the clients until the end.
	r.mu.Lock()
	failed := len(r.problems) > 0
	r.mu.Unlock()
	if !failed && r.live != nil {
		sleep(ctx, time.Until(begin.Add(r.duration)))
	}
	r.drain()
	r.holdTime = time.Since(begin)
	return nil
}

// drain waits for the last records, also after an interruption, because they can still be checked.
func (r *run) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	var last []uint64
	for _, f := range r.feeds {
		for c := range max(1, f.order.channels) {
			last = append(last, f.order.last(c, f.acked()))
		}
	}
	r.engine.Drain(last)
	var seen int64
	progressed := time.Now()
	poll(ctx, func() bool {
		n, drained := r.engine.Snapshot()
		if n.Deliveries > seen {
			seen, progressed = n.Deliveries, time.Now()
		}
		return drained && n.Behind == 0 || time.Since(progressed) > quietMax
	})
}

// produced returns the number of records that Kafka has acknowledged, in all feeds.
func (r *run) produced() (n uint64) {
	for _, f := range r.feeds {
		n += f.acked()
	}
	return n
}

// expected returns how many records the clients should have received in the hold.
func (r *run) expected() (n int64) {
	channels := 0
	for _, f := range r.feeds {
		channels += max(1, f.order.channels)
	}
	for _, f := range r.feeds {
		for c := range max(1, f.order.channels) {
			clients := 0
			for p := range max(1, r.Procs) { // Each process begins at the first channel.
				clients += share(share(r.clients, max(1, r.Procs), p), channels, f.first+c)
			}
			n += int64(f.order.last(c, f.acked())-f.order.last(c, f.prior)) * int64(clients)
		}
	}
	return n
}

// poll calls done until it returns true or ctx ends.
func poll(ctx context.Context, done func() bool) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sleep waits for d, or until ctx ends, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
