package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// Options is what a Recovery is built from. Every field must be set.
type Options struct {
	Source *source.Source
	// How many records an answer may have, and how many offsets one read from Kafka covers at least.
	PublicationsMax int
	BytesMax        int           // How many bytes the records of an answer may have.
	ReadBytesMax    int           // How many bytes the kept blocks may have, and how many the answers being prepared.
	Timeout         time.Duration // From a query to its answer.
	Concurrency     int           // How many partitions are read at the same time.
	WaitingMax      int           // How many queries may wait.
	Logger          *slog.Logger
}

// Recovery answers queries.
type Recovery struct {
	o     Options // Fixed after New.
	stats *Stats

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{} // Wakes a worker because a group wants one. It holds one value for each worker.
	timed   chan struct{} // Starts the clock. It holds one value.

	past      past
	slots     walkSlots
	collected atomic.Int64 // The size of the records in all answers being prepared.

	mu      sync.Mutex
	groups  map[stream]*group // The groups with unanswered queries.
	queue   []*group          // The groups that want a worker.
	logged  time.Time         // When a problem was logged last.
	ahead   []*query          // Queries for offsets that are not routed yet.
	waiting int               // How many queries are unanswered, in groups and in ahead.
	stopped bool
}

// stream is a stream in one epoch. A truncation of the log changes the epoch.
type stream struct {
	*source.Stream
	epoch string
}

// group is the queries for one stream.
type group struct {
	st      stream
	waiting []*query
	queued  bool // The group is in Recovery.queue, or a worker has it.
}

// query is a query that has not been answered.
type query struct {
	bus.Query
	st       stream
	done     func(bus.Answer)
	began    time.Time
	deadline time.Time
	kafka    bool // A part of its range was read from Kafka again.
}

// New checks the options and returns a Recovery that does nothing yet.
func New(o Options) (*Recovery, error) {
	if o.Source == nil || o.Logger == nil {
		return nil, errors.New("BUG: recovery options with a nil dependency")
	}
	for name, v := range map[string]int64{
		"PublicationsMax": int64(o.PublicationsMax), "BytesMax": int64(o.BytesMax),
		"ReadBytesMax": int64(o.ReadBytesMax),
		"Timeout":      int64(o.Timeout), "Concurrency": int64(o.Concurrency), "WaitingMax": int64(o.WaitingMax),
	} {
		if v <= 0 {
			return nil, fmt.Errorf("BUG: recovery option %s is %d, must be positive", name, v)
		}
	}
	r := &Recovery{o: o, stats: NewStats(), groups: make(map[stream]*group), ready: make(chan struct{}, o.Concurrency),
		timed: make(chan struct{}, 1), slots: newWalkSlots()}
	r.past.init(o.ReadBytesMax)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Start starts the workers and the clock.
func (r *Recovery) Start() {
	for range r.o.Concurrency {
		r.spawn("worker", r.work)
	}
	r.spawn("clock", r.runClock)
}

func (r *Recovery) spawn(part string, f func()) {
	r.running.Add(1)
	go pprof.Do(r.ctx, pprof.Labels("component", "recovery", "part", part), func(context.Context) {
		defer r.running.Done()
		f()
	})
}

// Stop ends all reads. It answers every query that waits, and every later one, with ResultOverload.
func (r *Recovery) Stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
	r.expire(time.Time{})
}

// Stats returns the counters. Any goroutine may call it.
func (r *Recovery) Stats() *Stats { return r.stats }

// Ask calls done with the answer to b, once, in this goroutine or in another one. It does not wait. Any goroutine may
// call it.
func (r *Recovery) Ask(b bus.Query, done func(bus.Answer)) {
	now := time.Now()
	q := &query{Query: b, done: done, began: now, deadline: now.Add(r.o.Timeout)}
	q.RecordsMax = min(q.RecordsMax, r.o.PublicationsMax)
	st, ok := r.o.Source.Stream(b.Channel)
	if !ok || !has(st, b.Epoch) {
		r.answer(q, bus.Answer{Result: bus.ResultEpoch})
		return
	}
	if b.After == b.UpTo {
		r.answer(q, bus.Answer{})
		return
	}
	q.st = stream{st, b.Epoch}
	r.mu.Lock()
	if r.stopped || r.waiting == r.o.WaitingMax {
		r.mu.Unlock()
		r.answer(q, bus.Answer{Result: bus.ResultOverload})
		return
	}
	r.waiting++
	r.stats.Waiting.Store(int64(r.waiting))
	if q.After > q.UpTo {
		r.ahead = append(r.ahead, q)
	} else {
		r.enqueueLocked(q)
	}
	r.mu.Unlock()
	r.startClock()
}

// has reports whether the stream still has the epoch.
func has(st *source.Stream, epoch string) bool {
	_, now, ok := st.Position()
	return ok && now == epoch
}

// enqueueLocked adds q to its group and puts the group into the queue.
func (r *Recovery) enqueueLocked(q *query) {
	g := r.groups[q.st]
	if g == nil {
		g = &group{st: q.st}
		r.groups[q.st] = g
	}
	g.waiting = append(g.waiting, q)
	if !g.queued {
		g.queued = true
		r.queue = append(r.queue, g)
		r.wake()
	}
}

func (r *Recovery) wake() {
	select {
	case r.ready <- struct{}{}:
	default: // There is already one wake-up for each worker.
	}
}

// answer counts q and calls done.
func (r *Recovery) answer(q *query, a bus.Answer) {
	a.Kafka = q.kafka
	r.stats.Queries[a.Result].Add(1)
	r.stats.Duration.Observe(time.Since(q.began).Seconds(), 1)
	q.done(a)
}

// finish is answer for a query that counts as waiting.
func (r *Recovery) finish(q *query, a bus.Answer) {
	r.mu.Lock()
	r.waiting--
	r.stats.Waiting.Store(int64(r.waiting))
	r.mu.Unlock()
	r.answer(q, a)
}

// The clock's times.
const (
	clockInterval = 20 * time.Millisecond // Between two checks of deadlines and of the queries that are ahead.
	// How long a stream may take to reach the offset that a client has from another node.
	aheadMax = time.Second
)

// runClock answers queries whose time is over or whose stream has reached their offset, and forgets blocks that nobody
// asked for lately. The clock stops while there is nothing to do: each tick would wake an idle process and, with it,
// the runtime's monitor thread.
func (r *Recovery) runClock() {
	clock := time.NewTicker(clockInterval)
	defer clock.Stop()
	running := true
	for {
		select {
		case <-r.timed:
			if !running { // A reset delays the next tick: if each of many queries reset the clock, it would never tick.
				clock.Reset(clockInterval)
				running = true
			}
		case now := <-clock.C:
			r.catchUp(now)
			r.expire(now)
			r.past.expire(now)
			bytes, streams := r.past.size()
			r.stats.PastBytes.Store(int64(bytes))
			if streams == 0 && r.idle() {
				clock.Stop()
				running = false
			}
		case <-r.ctx.Done():
			return
		}
	}
}

// idle reports whether no query waits.
func (r *Recovery) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting == 0
}

// startClock starts the clock, after a query came or a block was kept.
func (r *Recovery) startClock() {
	select {
	case r.timed <- struct{}{}:
	default:
	}
}

// catchUp answers the queries for offsets that were not routed when they came, and now are. Such a client has missed
// nothing.
func (r *Recovery) catchUp(now time.Time) {
	var reached, late []*query
	r.mu.Lock()
	kept := r.ahead[:0]
	for _, q := range r.ahead {
		switch position, epoch, ok := q.st.Position(); {
		case ok && position >= q.After && epoch == q.Epoch:
			reached = append(reached, q)
		case now.Sub(q.began) > min(aheadMax, r.o.Timeout):
			late = append(late, q)
		default:
			kept = append(kept, q)
		}
	}
	clear(r.ahead[len(kept):])
	r.ahead = kept
	r.mu.Unlock()
	for _, q := range reached {
		r.finish(q, bus.Answer{})
	}
	for _, q := range late {
		r.finish(q, bus.Answer{Result: bus.ResultAhead})
	}
}

// expire fails the queries that wait for a worker and whose time is over. If now is zero it fails all that wait.
func (r *Recovery) expire(now time.Time) {
	var late []*query
	result := bus.ResultTimeout
	r.mu.Lock()
	if now.IsZero() {
		result = bus.ResultOverload
		late, r.ahead = r.ahead, nil
	}
	for _, g := range r.groups {
		kept := g.waiting[:0]
		for _, q := range g.waiting {
			if now.IsZero() || now.After(q.deadline) {
				late = append(late, q)
			} else {
				kept = append(kept, q)
			}
		}
		clear(g.waiting[len(kept):])
		g.waiting = kept
	}
	r.mu.Unlock()
	for _, q := range late {
		r.finish(q, bus.Answer{Result: result})
	}
}

// work makes passes for the groups in the queue, until Stop.
func (r *Recovery) work() {
	w := &worker{r: r, reader: r.o.Source.NewReader(r.ctx), walker: r.o.Source.NewWalker()}
	defer w.reader.Close()
	idle := time.NewTicker(connectionIdle)
	defer idle.Stop()
	used := false
	for {
		select {
		case <-r.ready:
			for g := r.next(); g != nil; g = r.next() {
				used = true
				w.pass(g)
			}
		case <-idle.C:
			if !used {
				w.reader.Close()
			}
			used = false
		case <-r.ctx.Done():
			return
		}
	}
}

// connectionIdle is roughly how long a worker keeps connections that it does not use.
const connectionIdle = 30 * time.Second

// next takes the first group of the queue. It returns nil if the queue is empty.
func (r *Recovery) next() *group {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 || r.stopped {
		return nil
	}
	g := r.queue[0]
	r.queue[0] = nil
	r.queue = r.queue[1:]
	if len(r.queue) > 0 {
		r.wake()
	}
	return g
}

// takeQueries takes the group's queries.
func (r *Recovery) takeQueries(g *group) []*query {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := g.waiting
	g.waiting = nil
	return list
}

// crowded reports whether queries have come to the group since takeQueries.
func (r *Recovery) crowded(g *group) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(g.waiting) > 0
}

// endPass ends a pass over the group. Rest is what the pass has not answered.
func (r *Recovery) endPass(g *group, rest []*query) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.waiting = append(g.waiting, rest...)
	if g.queued = len(g.waiting) > 0; g.queued {
		r.queue = append(r.queue, g)
		r.wake()
		return
	}
	delete(r.groups, g.st)
}

// logInterval is the shortest time between two log lines about problems.
const logInterval = 30 * time.Second

func (r *Recovery) logProblem(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.logged) < logInterval {
		return
	}
	r.logged = now
	r.o.Logger.Warn("clients cannot recover what they missed; wsd_recovery_queries_total counts them", "err", err)
}
