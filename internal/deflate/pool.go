package deflate

import (
	"context"
	"fmt"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/ants/v2"
)

// The ants package starts a pool of its own, with two goroutines that wake up
// twice a second; nobody here uses it.
func init() { ants.Release() } //nolint:gochecknoinits // Before any pool is made.

// Options is what a pool is built from.
type Options struct {
	Level   int // 1, fastest, to 9, smallest.
	Workers int // Jobs done at the same time, at least 1.
	Queue   int // Jobs that may wait for a worker, at least 1.
	Inline  int // Callers of Append at the same time for whom a compressor is kept, at least 1.
}

// Stats counts what a pool does. Any goroutine may read it.
type Stats struct {
	Messages  atomic.Uint64 // Messages compressed.
	BytesIn   atomic.Uint64 // Their bytes before,
	BytesOut  atomic.Uint64 // and after.
	Jobs      atomic.Uint64 // Jobs that a worker took.
	Saturated atomic.Uint64 // Jobs refused because too many waited.
}

// Pool compresses. See the package comment for who may call what.
type Pool struct {
	o     Options
	stats Stats
	free  chan *compressor // Those not in use; more are made when it is empty, and dropped when it is full.

	queue   chan func()
	workers *ants.Pool
	busy    atomic.Int64  // Workers that do a job.
	stop    chan struct{} // Closed by Close.
	closed  atomic.Bool
	done    sync.WaitGroup // The dispatcher and all jobs given to a worker.
}

// New returns a pool whose goroutines wait for jobs until Close.
func New(o Options) (*Pool, error) {
	if o.Workers < 1 || o.Queue < 1 || o.Inline < 1 {
		return nil, fmt.Errorf("BUG: compression pool with %d workers, a queue of %d and %d callers", o.Workers, o.Queue, o.Inline)
	}
	p := &Pool{
		o: o, free: make(chan *compressor, o.Workers+o.Inline), queue: make(chan func(), o.Queue), stop: make(chan struct{}),
	}
	first, err := newCompressor(o.Level)
	if err != nil {
		return nil, fmt.Errorf("make a compressor: %w", err)
	}
	p.free <- first
	p.workers, err = ants.NewPool(o.Workers, ants.WithDisablePurge(true), ants.WithPanicHandler(func(v any) { panic(v) }))
	if err != nil {
		return nil, fmt.Errorf("start compression workers: %w", err)
	}
	p.done.Add(1)
	go pprof.Do(context.Background(), pprof.Labels("component", "deflate"), func(context.Context) { p.dispatch() })
	return p, nil
}

// Append appends payload to dst as the data of one compressed message (RFC 7692
// §7.2.1), without the context of any other. 1 KiB of JSON takes about 12 µs at
// level 3, 16 KiB 70.
func (p *Pool) Append(dst, payload []byte) []byte {
	var c *compressor
	select {
	case c = <-p.free:
	default:
		c, _ = newCompressor(p.o.Level) // New has made one of this level.
	}
	before := len(dst)
	dst = c.append(dst, payload)
	select {
	case p.free <- c:
	default:
	}
	p.stats.Messages.Add(1)
	p.stats.BytesIn.Add(uint64(len(payload)))
	p.stats.BytesOut.Add(uint64(len(dst) - before))
	return dst
}

// Post has a worker call job soon. It returns false, and job is not called, when
// as many jobs wait as may, or after Close. It does not block.
func (p *Pool) Post(job func()) bool {
	if p.closed.Load() {
		return false
	}
	select {
	case p.queue <- job:
		return true
	default:
		p.stats.Saturated.Add(1)
		return false
	}
}

// dispatch hands waiting jobs to the workers. ants has no queue of its own: who
// gives it a job waits for a worker, which a shard must not.
func (p *Pool) dispatch() {
	defer p.done.Done()
	for {
		select {
		case job := <-p.queue:
			p.hand(job)
		case <-p.stop:
			return
		}
	}
}

func (p *Pool) hand(job func()) {
	p.done.Add(1)
	err := p.workers.Submit(func() {
		defer p.done.Done()
		p.busy.Add(1)
		p.stats.Jobs.Add(1)
		job()
		p.busy.Add(-1)
	})
	if err != nil {
		panic("BUG: give a job to a compression worker: " + err.Error())
	}
}

// Close ends the workers when the jobs they have are done. Jobs that still wait
// are forgotten: who posts must not need them any more. Append still works.
func (p *Pool) Close() {
	if p.closed.Swap(true) {
		return
	}
	close(p.stop)
	p.done.Wait()
	p.workers.Release()
}

// Stats returns the pool's counters.
func (p *Pool) Stats() *Stats { return &p.stats }

// Utilization returns how many of 100 workers do a job now.
func (p *Pool) Utilization() float64 { return 100 * float64(p.busy.Load()) / float64(p.o.Workers) }

// QueueDepth returns how many jobs wait for a worker.
func (p *Pool) QueueDepth() int { return len(p.queue) }
