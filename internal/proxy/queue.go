package proxy

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
)

// queue is the calls of one kind: some under way, others waiting.
type queue struct {
	bytes atomic.Int64 // Of Pool.bytes.

	mu      sync.Mutex
	running int
	waiting waiting
	came    uint64 // Calls that have waited.
}

// waiting is a heap of calls that wait. Those of clients with fewer calls under way come first, so that a client with
// many calls does not keep one with a single call waiting, then those that have waited longest.
type waiting []*call

func (w waiting) Len() int { return len(w) }

func (w waiting) Less(i, j int) bool {
	if a, b := w[i].r.Ahead, w[j].r.Ahead; a != b {
		return a < b
	}
	return w[i].number < w[j].number
}

func (w waiting) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

// Push implements heap.Interface.
func (w *waiting) Push(x any) {
	c := x.(*call) //nolint:forcetypeassert // Nothing else is pushed.
	c.place = len(*w)
	*w = append(*w, c)
}

// Pop implements heap.Interface.
func (w *waiting) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	c.place = placeNone
	return c
}

// placeNone is the place of a call that does not wait.
const placeNone = -1

// enter has a call made now, or when others have ended.
func (p *Pool) enter(c *call) {
	k := c.r.Kind
	q := &p.queues[k]
	q.mu.Lock()
	switch {
	case p.ctx.Err() != nil:
		q.mu.Unlock()
		p.end(c, nil, &Failure{Result: ResultCanceled})
	case q.running < p.o.Concurrency:
		q.running++
		p.done.Add(1)
		q.mu.Unlock()
		go p.run(c)
	case len(q.waiting) >= p.o.WaitingMax:
		q.mu.Unlock()
		p.end(c, nil, &Failure{Result: ResultBusy, Cause: "too many calls wait (proxy.waiting_max)"})
	default:
		q.came++
		c.number = q.came
		heap.Push(&q.waiting, c)
		p.countWaiting(k)
		c.stop = context.AfterFunc(c.ctx, func() { p.leave(c) })
		q.mu.Unlock()
	}
}

// leave takes a call that waits out of the queue, because it has taken too long or its client has gone.
func (p *Pool) leave(c *call) {
	k := c.r.Kind
	q := &p.queues[k]
	q.mu.Lock()
	waits := c.place != placeNone
	if waits {
		heap.Remove(&q.waiting, c.place)
		p.countWaiting(k)
		p.done.Add(1)
	}
	q.mu.Unlock()
	if waits {
		p.end(c, nil, whyOver(c.ctx))
		p.done.Done()
	}
}

// next takes the call out of the queue that is to be made next, and returns it; nil: none waits. The caller has locked
// the queue.
func (p *Pool) next(k Kind) *call {
	q := &p.queues[k]
	if len(q.waiting) == 0 {
		q.waiting = nil // It may have been large.
		return nil
	}
	c := heap.Pop(&q.waiting).(*call) //nolint:forcetypeassert // Nothing else is pushed.
	c.stop()
	p.countWaiting(k)
	return c
}

// countWaiting sets the counter of calls that wait. The caller has locked the queue.
func (p *Pool) countWaiting(k Kind) { p.stats.Waiting[k].Store(int64(len(p.queues[k].waiting))) }
