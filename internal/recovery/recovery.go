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
	Source          *source.Source
	PublicationsMax int           // Records of an answer; also how many offsets one read from Kafka takes at least.
	BytesMax        int           // Bytes of an answer's values.
	ReadBytesMax    int           // Bytes that may be kept of what was read again, and that answers in the making may hold.
	Timeout         time.Duration // From the query to the answer.
	Concurrency     int           // Partitions that are read at the same time.
	WaitingMax      int           // Queries that wait.
	Logger          *slog.Logger
}

// Recovery answers queries.
type Recovery struct {
	o     Options // Fixed after New.
	stats *Stats

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{} // A group wants a worker; holds one for each worker.
	timed   chan struct{} // There is something to be timed; holds one.

	past  past
	turns turns
	held  atomic.Int64 // Bytes of records of answers in the making.

	mu      sync.Mutex
	groups  map[stream]*group // Those with queries that wait or are being answered.
	queue   []*group          // Those that want a worker.
	logged  time.Time         // When a problem was logged last.
	ahead   []*query          // Queries for what is not routed yet.
	waiting int               // Queries in all groups, those being answered included, and in ahead.
	stopped bool
}

// stream is one in one epoch, which a truncation of the log changes.
type stream struct {
	*source.Stream
	epoch string
}

// group is the queries for one stream.
type group struct {
	st      stream
	waiting []*query
	queued  bool // In Recovery.queue, or with a worker.
}

// query is one that has not been answered.
type query struct {
	bus.Query
	st       stream
	done     func(bus.Answer)
	began    time.Time
	deadline time.Time
	kafka    bool // A part of it was read from Kafka again.
}

// New checks the options and returns a Recovery that does nothing yet.
func New(o Options) (*Recovery, error) {
	if o.Source == nil || o.Logger == nil {
		return nil, errors.New("BUG: recovery options with a nil dependency")
	}
	for name, v := range map[string]int64{
		"PublicationsMax": int64(o.PublicationsMax), "BytesMax": int64(o.BytesMax), "ReadBytesMax": int64(o.ReadBytesMax),
		"Timeout": int64(o.Timeout), "Concurrency": int64(o.Concurrency), "WaitingMax": int64(o.WaitingMax),
	} {
		if v <= 0 {
			return nil, fmt.Errorf("BUG: recovery option %s is %d, must be positive", name, v)
		}
	}
	r := &Recovery{o: o, stats: NewStats(), groups: make(map[stream]*group), ready: make(chan struct{}, o.Concurrency),
		timed: make(chan struct{}, 1), turns: newTurns()}
	r.past.init(o.ReadBytesMax)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Start begins to answer.
func (r *Recovery) Start() {
	for range r.o.Concurrency {
		r.spawn("worker", r.work)
	}
	r.spawn("clock", r.watch)
}

func (r *Recovery) spawn(part string, f func()) {
	r.running.Add(1)
	go pprof.Do(r.ctx, pprof.Labels("component", "recovery", "part", part), func(context.Context) {
		defer r.running.Done()
		f()
	})
}

// Stop ends what is being read and answers every query that waits, and every later one, with ResultOverload.
func (r *Recovery) Stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
	r.expire(time.Time{})
}

// Stats returns the counters. Any goroutine.
func (r *Recovery) Stats() *Stats { return r.stats }

// Ask has done called with the answer to q, once, by this goroutine or another one. Any goroutine; it does not wait.
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

// has reports whether a stream is still that of the epoch.
func has(st *source.Stream, epoch string) bool {
	_, now, ok := st.Position()
	return ok && now == epoch
}

// enqueueLocked puts q into its group, which then wants a worker.
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
	default: // As many wake-ups as there are workers wait already.
	}
}

// answer counts q and calls its done.
func (r *Recovery) answer(q *query, a bus.Answer) {
	a.Kafka = q.kafka
	r.stats.Queries[a.Result].Add(1)
	r.stats.Duration.Observe(time.Since(q.began).Seconds(), 1)
	q.done(a)
}

// finish is answer for a query that was waiting.
func (r *Recovery) finish(q *query, a bus.Answer) {
	r.mu.Lock()
	r.waiting--
	r.stats.Waiting.Store(int64(r.waiting))
	r.mu.Unlock()
	r.answer(q, a)
}

// Times of watch.
const (
	clockInterval = 20 * time.Millisecond // Between two looks at the queries' deadlines, and at those that are ahead.
	aheadMax      = time.Second           // How long a stream may take to reach the offset that a client has from another node.
)

// watch answers queries whose time is over, or whose stream has come to where they are, and forgets what was not asked for lately. Its
// clock stands still while there is nothing of that: each tick would wake an idle process, and the runtime's monitor thread with it.
func (r *Recovery) watch() {
	clock := time.NewTicker(clockInterval)
	defer clock.Stop()
	running := true
	for {
		select {
		case <-r.timed:
			if !running { // A reset puts the next tick off: many queries would stop the clock.
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

// startClock is called when there is a query or something kept of the past.
func (r *Recovery) startClock() {
	select {
	case r.timed <- struct{}{}:
	default:
	}
}

// catchUp answers the queries for what was not routed when they came, and now is: the client has it all.
func (r *Recovery) catchUp(now time.Time) {
	var reached, late []*query
	r.mu.Lock()
	kept := r.ahead[:0]
	for _, q := range r.ahead {
		switch at, epoch, ok := q.st.Position(); {
		case ok && at >= q.After && epoch == q.Epoch:
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

// expire fails the queries that wait for a worker and whose time is over at now; all that wait when now is zero.
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

// work makes passes for the groups that want one, until Stop.
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

// connectionIdle is about how long a worker keeps connections that it does not use.
const connectionIdle = 30 * time.Second

// next takes the group that has wanted a worker for longest, nil when there is none.
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

// take returns the queries of a group that wait now.
func (r *Recovery) take(g *group) []*query {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := g.waiting
	g.waiting = nil
	return list
}

// crowded reports whether queries have come to the group since take.
func (r *Recovery) crowded(g *group) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(g.waiting) > 0
}

// giveBack ends a pass over a group: rest is what it has not answered.
func (r *Recovery) giveBack(g *group, rest []*query) {
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

// logInterval is the least time between two lines about problems.
const logInterval = 30 * time.Second

func (r *Recovery) logProblem(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.logged) < logInterval {
		return
	}
	r.logged = now
	r.o.Logger.Warn("what clients have missed cannot be read again; they are told so, and wsd_recovery_queries_total counts them", "err", err)
}
