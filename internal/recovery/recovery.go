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
	Source       *source.Source
	BytesMax     int           // How many bytes the records of an answer may have.
	ReadBytesMax int           // How many bytes the kept blocks may have, and how many the answers being prepared.
	Timeout      time.Duration // From a query to its answer.
	Concurrency  int           // How many partitions are read at the same time.
	WaitingMax   int           // How many queries may wait.
	AddressMax   int           // How many of them may be for one address (bus.Query.Address).
	Logger       *slog.Logger
}

// Recovery answers queries.
type Recovery struct {
	o     Options // Fixed after New.
	stats *Stats

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	ready   [laneKinds]chan struct{} // Wakes a worker of the kind. It holds one value for each.
	timed   chan struct{}            // Starts the clock. It holds one value.

	past      past
	slots     walkSlots
	passes    atomic.Uint64 // The number of the last pass.
	collected atomic.Int64  // How much memory the records in all answers being prepared take.

	mu      sync.Mutex
	groups  map[stream]*group  // The groups with unanswered queries.
	queues  [laneKinds][]*lane // The lanes that want a worker.
	logged  time.Time          // When a problem was logged last.
	ahead   []*query           // Queries for offsets that are not routed yet.
	waiting int                // How many queries are unanswered, in groups and in ahead.
	shares  shares             // How many of them each address has.
	stopped bool
}

// New checks the options and returns a Recovery that does nothing yet.
func New(o Options) (*Recovery, error) {
	if o.Source == nil || o.Logger == nil {
		return nil, errors.New("BUG: recovery options with a nil dependency")
	}
	for name, v := range map[string]int64{
		"BytesMax": int64(o.BytesMax), "ReadBytesMax": int64(o.ReadBytesMax), "Timeout": int64(o.Timeout),
		"Concurrency": int64(o.Concurrency), "WaitingMax": int64(o.WaitingMax),
		"AddressMax": int64(o.AddressMax),
	} {
		if v <= 0 {
			return nil, fmt.Errorf("BUG: recovery option %s is %d, must be positive", name, v)
		}
	}
	r := &Recovery{o: o, stats: NewStats(), groups: make(map[stream]*group), timed: make(chan struct{}, 1),
		slots: newWalkSlots(), shares: newShares(&o)}
	r.stats.Collected = r.collected.Load
	r.ready[laneNear] = make(chan struct{}, cap(r.slots))
	r.ready[laneFar] = make(chan struct{}, o.Concurrency)
	r.past.init(o.ReadBytesMax, min(blockBytesMax, o.ReadBytesMax/blockPart/o.Concurrency))
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Start starts the workers and the clock.
func (r *Recovery) Start() {
	for kind, ready := range r.ready {
		for range cap(ready) {
			r.spawn("worker", func() { r.work(laneKind(kind)) })
		}
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
	q := newQuery(b, &r.o, time.Now())
	q.done = done
	st, ok := r.o.Source.Stream(b.Channel)
	q.st = stream{st, b.Epoch}
	switch {
	case !ok || !q.st.alive():
		r.answer(q, bus.Answer{Result: bus.ResultEpoch})
		return
	case q.canceled():
		r.answer(q, bus.Answer{Result: bus.ResultCanceled})
		return
	case b.After == b.UpTo:
		r.answer(q, bus.Answer{Through: b.UpTo})
		return
	}
	r.mu.Lock()
	if r.stopped || r.waiting == r.o.WaitingMax {
		r.mu.Unlock()
		r.answer(q, bus.Answer{Result: bus.ResultOverload})
		return
	}
	if !r.shares.take(q.Address) {
		r.mu.Unlock()
		r.answer(q, bus.Answer{Result: bus.ResultShare})
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

// answer counts q and calls done.
func (r *Recovery) answer(q *query, a bus.Answer) {
	a.Kafka = q.kafka.Load()
	r.stats.Queries[a.Result].Add(1)
	r.stats.Duration.Observe(time.Since(q.began).Seconds(), 1)
	if q.Kind == bus.QueryNext && len(a.Records) > 0 {
		r.stats.Portions.Add(1)
	}
	q.done(a)
}

// finish is answer for a query that counts as waiting. It does nothing if the query has been answered.
func (r *Recovery) finish(q *query, a bus.Answer) {
	if !q.over.CompareAndSwap(false, true) {
		return
	}
	r.mu.Lock()
	r.waiting--
	r.shares.giveBack(q.Address)
	r.stats.Waiting.Store(int64(r.waiting))
	r.mu.Unlock()
	r.answer(q, a)
}

// release notes that q, which has been answered, no longer holds records.
func (r *Recovery) release(q *query) {
	r.collected.Add(-int64(q.memory))
	q.memory, q.parts = 0, nil
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
