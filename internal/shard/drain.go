package shard

import (
	"sync"
	"sync/atomic"
	"time"
)

// Drain is the pace at which all shards together close their clients, so that they come back elsewhere at that pace:
// the client protocol cannot tell a client when to come back. While a drain is on, shards accept no new clients. The
// zero value is a drain that is off. Any goroutine may call its methods. After a change, call PostDrain of each shard.
type Drain struct {
	plan   atomic.Pointer[drainPlan] // Nil while the drain is off.
	closed atomic.Uint64             // Clients closed by drains, ever.
}

// drainPlan is the pace of one drain. The fields below the mutex are a bucket that fills with time.
type drainPlan struct {
	rate float64   // Clients a second; 0: what is left is spread over what is left of the time.
	end  time.Time // End of that time.

	mu     sync.Mutex
	left   int       // Clients that have not been given out to be closed.
	credit float64   // Clients that may be closed now.
	last   time.Time // When credit was counted.
}

// creditMax bounds the time for which a pause of the process gives credit: what it missed is spread over the rest, and
// does not come as a burst.
const creditMax = 4 * tickLength

// Over begins a drain that closes the given number of clients evenly from now until end. Further clients that connect
// meanwhile, which are few, follow at the end.
func (d *Drain) Over(clients int, now, end time.Time) {
	d.plan.Store(&drainPlan{end: end, left: clients, last: now})
}

// AtRate begins a drain that closes rate clients a second from now on.
func (d *Drain) AtRate(rate float64, now time.Time) {
	d.plan.Store(&drainPlan{rate: rate, last: now})
}

// Stop ends the drain: shards accept new clients again, and close no more.
func (d *Drain) Stop() { d.plan.Store(nil) }

// Closed returns how many clients drains have closed, ever.
func (d *Drain) Closed() uint64 { return d.closed.Load() }

// on reports whether a drain is on.
func (d *Drain) on() bool { return d.plan.Load() != nil }

// take returns how many of a shard's clients are to be closed now, at most the given number.
func (p *drainPlan) take(now time.Time, clients int) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := max(0, now.Sub(p.last)) // Another shard may have read the clock later and come first.
	p.last = p.last.Add(passed)
	switch {
	case p.rate > 0:
		p.credit += p.rate * min(passed, creditMax).Seconds()
	case !now.Before(p.end):
		p.credit = float64(max(p.left, clients))
	default:
		// What is left, spread over what was left of the time.
		rate := (float64(p.left) - p.credit) / (p.end.Sub(now) + passed).Seconds()
		p.credit += rate * min(passed, creditMax).Seconds()
	}
	n = min(int(p.credit), clients)
	p.credit -= float64(n)
	p.left = max(0, p.left-n)
	return n
}

// draining is what a shard does for a drain.
type draining struct {
	plan   *drainPlan // Nil while the drain is off.
	next   uint32     // Slot from which on clients are looked for.
	lookAt uint32     // Tick of the next look.
	credit int        // Clients that the plan has given this shard to close and that it has not closed yet.
	full   bool       // The plan may have more to give.
	owed   uint64     // Sequence of the bus up to which clients get everything before they are closed.
}

// noteDrain begins, changes or ends the shard's part of a drain.
func (s *Shard) noteDrain() {
	s.draining = draining{plan: s.opts.Drain.plan.Load(), lookAt: s.tick, owed: s.opts.Head()}
}

// wakeAt returns the tick at which a shard with so many clients has to look next; 0: none.
func (d *draining) wakeAt(clients int) uint32 {
	if d.plan == nil || clients == 0 {
		return 0
	}
	return d.lookAt
}

// closesAtOnce bounds the clients that a shard takes from the drain to close in a turn.
const closesAtOnce = workPart / unitsEnd

// closeDue closes the clients that the drain lets this shard close now, as far as the part of the turn goes. They get
// what waits for them, and what was on the bus at the look before. now is the time since the shard's start. closeDue
// returns whether the next turn has more to close.
func (s *Shard) closeDue(now time.Duration) (more bool) {
	d := &s.draining
	if d.plan == nil || s.tick < d.lookAt || s.clients == 0 {
		return false
	}
	d.lookAt = s.tick + 1
	if s.opts.Cursor.Before(d.owed) {
		return false
	}
	if d.credit == 0 {
		d.credit = d.plan.take(s.start.Add(now), min(s.clients, closesAtOnce))
		d.full = d.credit == closesAtOnce
	}
	end := s.slab.end()
	closed := uint64(0)
	for around := 0; d.credit > 0 && s.work.goesOn() && around < 2; {
		if d.next >= end {
			d.next = 0
			around++
			continue
		}
		if c := s.slab.at(d.next); c != nil && c.isClient() {
			s.work.spendPart(unitsOfEnd(c))
			s.end(c, ReasonShutdown)
			closed++
			d.credit--
		}
		d.next++
	}
	s.opts.Drain.closed.Add(closed)
	if s.work.goesOn() {
		d.credit = 0 // The clients that it was for have gone by themselves.
	}
	if more = d.full || d.credit > 0; more {
		d.lookAt = s.tick
	}
	d.owed = s.opts.Head()
	return more
}
