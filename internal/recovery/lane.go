package recovery

import (
	"maps"
	"slices"
	"time"

	"wsd/internal/bus"
)

// group is the queries for one stream.
type group struct {
	st    stream
	lanes [laneKinds]lane
}

// lane is the queries of a group that need the same kind of work. At most one worker has it at a time. Recovery.mu
// guards it.
type lane struct {
	g       *group
	kind    laneKind
	waiting []*query // In the order in which they get their share of a pass.
	taken   []*query // What the worker has taken. It does not change until the pass ends.
	queued  bool     // The lane is in its queue, or a worker has it.
}

// laneKind is a kind of work. A query whose block is in memory does not wait for one that has to be read from Kafka.
type laneKind int

const (
	laneNear  laneKind = iota // The block that the query needs next may be in memory.
	laneFar                   // It has to be read from Kafka.
	laneKinds = 2
)

// enqueueLocked adds q to its group.
func (r *Recovery) enqueueLocked(q *query) {
	g := r.groups[q.st]
	if g == nil {
		g = &group{st: q.st}
		for kind := range g.lanes {
			g.lanes[kind].g, g.lanes[kind].kind = g, laneKind(kind)
		}
		r.groups[q.st] = g
	}
	l := &g.lanes[laneNear]
	l.waiting = append(l.waiting, q)
	r.queueLocked(l)
}

// queueLocked puts a lane into its queue, unless it is there or a worker has it.
func (r *Recovery) queueLocked(l *lane) {
	if l.queued || len(l.waiting) == 0 {
		return
	}
	l.queued = true
	r.queues[l.kind] = append(r.queues[l.kind], l)
	r.wake(l.kind)
}

func (r *Recovery) wake(kind laneKind) {
	select {
	case r.ready[kind] <- struct{}{}:
	default: // There is already one wake-up for each worker.
	}
}

// next takes the first lane of a queue. It returns nil if the queue is empty.
func (r *Recovery) next(kind laneKind) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	queue := r.queues[kind]
	if len(queue) == 0 || r.stopped {
		return nil
	}
	l := queue[0]
	queue[0] = nil
	r.queues[kind] = queue[1:]
	if len(queue) > 1 {
		r.wake(kind)
	}
	return l
}

// beginPass takes the lane's queries.
func (r *Recovery) beginPass(l *lane) []*query {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.taken, l.waiting = l.waiting, nil
	return l.taken
}

// rest is what a pass has not answered: by the lane that it needs next, the queries that got no share of the pass, and
// those that did.
type rest [laneKinds]struct{ without, with []*query }

// endPass gives back the rest of a pass over the lane. Queries without a share come first, in their order, then those
// that have come meanwhile, then those with a share.
func (r *Recovery) endPass(l *lane, left *rest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := l.g
	l.taken, l.queued = nil, false
	for kind := range g.lanes {
		to := &g.lanes[kind]
		if list := left[kind].without; len(list) > 0 {
			to.waiting = append(list, to.waiting...)
		}
		to.waiting = append(to.waiting, left[kind].with...)
		r.queueLocked(to)
	}
	for kind := range g.lanes {
		if g.lanes[kind].queued {
			return
		}
	}
	delete(r.groups, g.st)
}

// expire ends the queries that no pass has and whose time is over, and all that are canceled. If now is zero it ends
// all. It looks at every query that waits, and there may be 100,000, so it does not hold the lock meanwhile: shards
// wait for it when they ask. The clock's goroutine calls it, or Stop when that has ended.
func (r *Recovery) expire(now time.Time) {
	var late []*query
	ended := func(q *query) bool {
		if !now.IsZero() && !q.canceled() && !now.After(q.deadline) {
			return false
		}
		late = append(late, q)
		return true
	}
	for _, g := range r.allGroups() {
		for kind := range g.lanes {
			r.filter(&g.lanes[kind], ended)
			for _, q := range r.takenOf(&g.lanes[kind]) {
				if q.canceled() { // The pass releases its records.
					r.finish(q, bus.Answer{Result: bus.ResultCanceled})
				}
			}
		}
	}
	if now.IsZero() {
		r.mu.Lock()
		late, r.ahead = append(late, r.ahead...), nil
		r.mu.Unlock()
	}
	for _, q := range late {
		switch {
		case now.IsZero():
			r.finish(q, bus.Answer{Result: bus.ResultOverload})
		case q.canceled():
			r.finish(q, bus.Answer{Result: bus.ResultCanceled})
		default:
			r.finish(q, q.partial(bus.ResultTimeout))
		}
		r.release(q)
	}
}

// allGroups returns the groups that there are now.
func (r *Recovery) allGroups() []*group {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.groups))
}

// takenOf returns what a pass has of a lane. Its elements do not change, also when the pass has ended meanwhile.
func (r *Recovery) takenOf(l *lane) []*query {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.taken
}

// filter removes the queries that wait in a lane and for which ended returns true. They are taken out of the lane
// meanwhile. What is left comes before what has come in between.
func (r *Recovery) filter(l *lane, ended func(*query) bool) {
	r.mu.Lock()
	list := l.waiting
	l.waiting = nil
	r.mu.Unlock()
	if len(list) == 0 {
		return
	}
	list = remove(list, ended)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(list) == 0 {
		return
	}
	// A pass over the empty lane may have ended the group, and another one may have begun.
	switch g := r.groups[l.g.st]; g {
	case l.g:
	case nil:
		r.groups[l.g.st] = l.g
	default:
		l = &g.lanes[l.kind]
	}
	l.waiting = append(list, l.waiting...)
	r.queueLocked(l)
}

// remove removes the queries for which gone returns true.
func remove(list []*query, gone func(*query) bool) []*query {
	kept := list[:0]
	for _, q := range list {
		if !gone(q) {
			kept = append(kept, q)
		}
	}
	clear(list[len(kept):])
	return kept
}
