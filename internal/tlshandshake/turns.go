package tlshandshake

import (
	"container/list"
	"runtime"
	"time"
)

// Handshakes take turns to compute: Options.Workers do at a time, and the others wait. One whose client has answered
// comes before those that have not begun, as most of its work is done and its client is there. Those that have not
// begun are taken in order while that is soon enough. When it is not, because clients come faster than their handshakes
// can be computed, the newest is taken first: in order, each would have waited until its client's time is nearly over,
// and nobody would get in. Attackers that halt and come back are such clients, and a machine that is short of CPU makes
// it worse.
//
// A handshake that has its turn lets other goroutines that are ready run first, so that event loops never wait for
// a series of handshakes: those hand their turn to one another.

// patience is Options.Patience where that is 0: half of what client.handshake_timeout is by default.
const patience = 2500 * time.Millisecond

// turns are the handshakes that wait for a turn. They are under the pool's lock.
type turns struct {
	free     int       // Turns that nobody has.
	answered list.List // Of *Handshake, in order: their client has answered.
	fresh    list.List // Of *Handshake, in order: they have not begun, and have no goroutine yet.
	patience time.Duration
}

// next takes the handshake out that is to have the next turn, nil if none waits. fresh says that it has not begun.
func (q *turns) next() (h *Handshake, fresh bool) {
	e := q.answered.Front()
	if e == nil {
		fresh = true
		if e = q.fresh.Front(); e != nil && q.late(e) {
			e = q.fresh.Back()
		}
	}
	if e == nil {
		return nil, false
	}
	h, _ = e.Value.(*Handshake)
	q.remove(h)
	return h, fresh
}

// late reports whether a handshake has waited to begin for too long.
func (q *turns) late(e *list.Element) bool {
	h, _ := e.Value.(*Handshake)
	return time.Since(h.began) >= q.patience
}

// remove takes h out of those that wait for a turn, and reports whether it was among them.
func (q *turns) remove(h *Handshake) bool {
	if h.queued == nil {
		return false
	}
	q.answered.Remove(h.queued) // One of the two does nothing.
	q.fresh.Remove(h.queued)
	h.queued = nil
	return true
}

// start has a new handshake begin, or wait for that. It returns a handshake that gives way to it, which has waited for
// too long, and false if none does and there is no place.
func (p *Pool) start(h *Handshake) (gives *Handshake, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.computing >= p.o.PendingMax {
		oldest := p.turns.fresh.Front()
		if oldest == nil || !p.turns.late(oldest) {
			return nil, false
		}
		gives, _ = oldest.Value.(*Handshake)
		p.turns.remove(gives)
	}
	p.computing++
	if p.turns.free > 0 {
		p.turns.free--
		h.has, h.begun = true, true
		go h.run()
	} else {
		h.queued = p.turns.fresh.PushBack(h)
	}
	return gives, true
}

// take waits for a turn of a handshake that has begun. It returns an error, and h has no turn, if it is to end.
func (p *Pool) take(h *Handshake) error {
	p.mu.Lock()
	if why := h.stoppedWhy(); why != nil {
		p.mu.Unlock()
		return why
	}
	if h.has = p.turns.free > 0; h.has {
		p.turns.free--
		p.mu.Unlock()
		return nil
	}
	h.queued = p.turns.answered.PushBack(h)
	p.mu.Unlock()
	for {
		select {
		case <-h.turn:
			h.has = true
			runtime.Gosched()
			return nil
		case <-h.wake: // It was stopped, as nobody feeds it meanwhile.
		}
		if why := h.stoppedWhy(); why != nil && p.leaveTurns(h) {
			return why
		}
	}
}

// leaveTurns takes h out of those that wait for a turn, and reports whether it was among them.
func (p *Pool) leaveTurns(h *Handshake) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns.remove(h)
}

// leaveFresh takes h out of those that have not begun, and reports whether it was among them.
func (p *Pool) leaveFresh(h *Handshake) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !h.begun && p.turns.remove(h)
}

// pass gives the turn of h, if it has one, to the next.
func (p *Pool) pass(h *Handshake) {
	if !h.has {
		return
	}
	h.has = false
	p.mu.Lock()
	defer p.mu.Unlock()
	switch next, fresh := p.turns.next(); {
	case next == nil:
		p.turns.free++
	case fresh:
		next.has, next.begun = true, true
		go next.run()
	default:
		next.turn <- struct{}{} // It has room for one.
	}
}
