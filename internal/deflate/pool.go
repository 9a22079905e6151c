package deflate

import (
	"context"
	"fmt"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/ants/v2"
)

// Package ants starts a default pool with two goroutines that wake up twice a second. wsd does not use it.
func init() { ants.Release() } //nolint:gochecknoinits // Before any pool is made.

// Options is what New needs.
type Options struct {
	Level   int // Compression level, 1 (fastest) to 9 (smallest).
	Workers int // Number of workers, at least 1.
	Queue   int // Maximum number of jobs that wait for a worker, at least 1.
	Inline  int // Number of concurrent callers of Append for which a compressor is kept, at least 1.
}

// Stats counts what a pool does. Any goroutine may read it.
type Stats struct {
	Messages  atomic.Uint64 // Number of messages compressed.
	BytesIn   atomic.Uint64 // Bytes of these messages before compression.
	BytesOut  atomic.Uint64 // Bytes of these messages after compression.
	Jobs      atomic.Uint64 // Number of jobs run by a worker.
	Saturated atomic.Uint64 // Number of jobs refused because the queue was full.
}

// Pool compresses messages.
type Pool struct {
	o     Options
	stats Stats
	free  chan *compressor // Idle compressors. More are created if it is empty, and dropped if it is full.

	queue   chan func()    // Jobs that wait for a worker.
	workers *ants.Pool     // Runs the jobs.
	busy    atomic.Int64   // Number of workers that run a job.
	stop    chan struct{}  // Closed by Close.
	closed  atomic.Bool    // Whether Close has been called.
	done    sync.WaitGroup // Waits for the dispatcher and all jobs passed to a worker.
}

// New starts a pool. Its goroutines run until Close.
func New(o Options) (*Pool, error) {
	if o.Workers < 1 || o.Queue < 1 || o.Inline < 1 {
		return nil, fmt.Errorf("BUG: compression pool with %d workers, a queue of %d and %d callers", o.Workers,
			o.Queue, o.Inline)
	}
	p := &Pool{
		o: o, free: make(chan *compressor, o.Workers+o.Inline), queue: make(chan func(), o.Queue),
		stop: make(chan struct{}),
	}
	first, err := newCompressor(o.Level)
	if err != nil {
		return nil, fmt.Errorf("create a compressor: %w", err)
	}
	p.free <- first
	p.workers, err = ants.NewPool(o.Workers, ants.WithDisablePurge(true),
		ants.WithPanicHandler(func(v any) { panic(v) }))
	if err != nil {
		return nil, fmt.Errorf("start compression workers: %w", err)
	}
	p.done.Add(1)
	go pprof.Do(context.Background(), pprof.Labels("component", "deflate"), func(context.Context) { p.dispatch() })
	return p, nil
}

// Append compresses payload and appends the data of the compressed message (RFC 7692 §7.2.1) to dst. The message does
// not depend on other messages. At level 3, 1 KiB of JSON takes about 12 µs and 16 KiB about 70 µs.
func (p *Pool) Append(dst, payload []byte) []byte {
	var c *compressor
	select {
	case c = <-p.free:
	default:
		c, _ = newCompressor(p.o.Level) // New has created one with this level, so it cannot fail.
	}
	before := len(dst)
	dst = c.append(dst, payload)
	select {
	case p.free <- c:
	default:
	}
	p.stats.Messages.Add(1)
	p.stats.BytesIn.Add(uint64(len(payload)))
	p.stats.BytesOut.Add(uint64(len(dst) - before)) //nolint:gosec // It was appended to.
	return dst
}

// Post passes job to a worker. It returns false, and job is not called, if the queue is full or the pool is closed. It
// does not block.
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

// dispatch passes queued jobs to the workers. ants has no queue: its Submit blocks until a worker is free, and a shard
// must not block.
func (p *Pool) dispatch() {
	defer p.done.Done()
	for {
		select {
		case job := <-p.queue:
			p.submit(job)
		case <-p.stop:
			return
		}
	}
}

func (p *Pool) submit(job func()) {
	p.done.Add(1)
	err := p.workers.Submit(func() {
		defer p.done.Done()
		p.busy.Add(1)
		p.stats.Jobs.Add(1)
		job()
		p.busy.Add(-1)
	})
	if err != nil {
		panic("BUG: pass a job to a compression worker: " + err.Error())
	}
}

// Close stops the workers when their current jobs are done. Jobs that still wait are dropped. Append still works
// afterwards.
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

// Utilization returns the percentage of workers that are busy.
func (p *Pool) Utilization() float64 { return 100 * float64(p.busy.Load()) / float64(p.o.Workers) }

// QueueDepth returns the number of jobs that wait for a worker.
func (p *Pool) QueueDepth() int { return len(p.queue) }
