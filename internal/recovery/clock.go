package recovery

import (
	"time"

	"wsd/internal/bus"
)

// The clock's times.
const (
	clockInterval = 20 * time.Millisecond // Between two checks of all queries that wait.
	// How long a stream may take to reach the offset that a client has from another node.
	aheadMax = time.Second
)

// runClock answers queries that are canceled, whose time is over or whose stream has reached their offset, and forgets
// blocks that nobody asked for lately. The clock stops while there is nothing to do: each tick would wake an idle
// process and, with it, the runtime's monitor thread.
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
	type ended struct {
		q *query
		a bus.Answer
	}
	var list []ended
	r.mu.Lock()
	ahead := r.ahead // As in filter, the lock is not held while all are looked at.
	r.ahead = nil
	r.mu.Unlock()
	if len(ahead) == 0 {
		return
	}
	ahead = remove(ahead, func(q *query) bool {
		a := bus.Answer{Through: q.After}
		switch position, epoch, ok := q.st.Position(); {
		case q.canceled():
			a.Result = bus.ResultCanceled
		case ok && position >= q.After && epoch == q.Epoch:
		case now.Sub(q.began) > min(aheadMax, r.o.Timeout):
			a.Result = bus.ResultAhead
		default:
			return false
		}
		list = append(list, ended{q, a})
		return true
	})
	r.mu.Lock()
	r.ahead = append(ahead, r.ahead...)
	r.mu.Unlock()
	for _, e := range list {
		r.finish(e.q, e.a)
	}
}
