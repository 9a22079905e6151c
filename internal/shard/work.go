package shard

import (
	"time"

	"wsd/internal/shrink"
)

// What a turn costs is decided by what clients send: a small packet can hold hundreds of commands, and inflate to
// thousands. So the input that a turn acts on is bounded, for each connection in units of work and for all of them in
// time. What is over the bound waits, unread in its socket or in the connection's buffer, and the connection in a list:
// the next turn begins with those that wait, in their order, so a flood from one costs the others a turn at most. No
// more is read from a connection that waits.
//
// A unit is about a microsecond on the machines of 2026. It only has to be right in its order of magnitude.
const (
	// workTurn bounds the input of a turn in time. The clock is looked at every workLook units.
	workTurn = 2 * time.Millisecond
	workLook = 64
	// workShare bounds that of one connection.
	workShare = 512

	unitsRead         = 2
	bytesUnitRead     = 4 << 10
	recordsUnit       = 4 // So many TLS records are a unit, beside their bytes.
	unitsHandshake    = 8
	unitsFrame        = 1
	bytesUnitFrame    = 4 << 10 // So many bytes of a frame are a unit more: they are unmasked and looked at.
	unitsCommand      = 3
	bytesUnitCommand  = 512
	unitsInflate      = 16
	bytesUnitInflated = 512

	// What the turn does besides input: for timers, results of work done elsewhere, and connections that end.
	unitsTimer = 16 // Mostly a ping, with its write at the end of the turn.
	unitsAsk   = 8  // A query to the Recoverer, or the result of one.
	unitsEnd   = 16 // A connection that ends, beside its subscriptions.
	unitsLeave = 1  // One of its subscriptions.

	// workPart bounds a part of the turn that is not input, and leastPart does in a turn that has done enough: no part
	// waits for a turn without input. They are units and not a time, as much of the work comes with the turn's flush.
	workPart  = 2048
	leastPart = workShare
)

// work is the input that the turn has acted on, and whose input waits.
type work struct {
	clock *clock
	max   time.Duration // workTurn, but for tests.
	count uint64        // Times that input was put off, in this turn.

	until time.Duration // Since start: when the turn has done enough.
	left  int           // Units until the clock is looked at.
	over  bool          // The turn has done enough.
	share int           // Units that are left for the connection being served.
	part  int           // Units that are left for the part of the turn that is not input.

	waiting []connRef // In order.
	spare   []connRef
}

// inputState is what a connection waits for whose input the turn has put off.
type inputState uint8

const (
	inputNone   inputState = iota // It does not wait.
	inputSocket                   // Its socket is to be read.
	inputBuffer                   // What it has in conn.in is to be acted on first.
	inputHeld                     // It waits for an answer about it, see hold.go. It is in no list.
)

// begin begins a turn.
func (w *work) begin(now time.Duration) {
	w.until, w.left, w.over = now+w.max, workLook, false
}

// serve begins a connection's share.
func (w *work) serve() { w.share = workShare }

// spend counts units of work.
func (w *work) spend(units int) {
	w.share -= units
	if w.left -= units; w.left <= 0 {
		w.left = workLook
		w.over = w.over || time.Since(w.clock.start) >= w.until
	}
}

// beginPart begins a part of the turn that is not input, with a share of its own.
func (w *work) beginPart() {
	if w.part = workPart; w.over {
		w.part = leastPart
	}
}

// goesOn reports whether the part of the turn may begin something more. It may always begin one thing.
func (w *work) goesOn() bool { return w.part > 0 }

// spendPart counts units of work of the part.
func (w *work) spendPart(units int) { w.part -= units }

// unitsOfEnd returns what it takes to end c.
func unitsOfEnd(c *conn) int { return unitsEnd + unitsLeave*len(c.subs) }

// enough reports whether the connection being served has to wait for the next turn.
func (w *work) enough() bool { return w.over || w.share <= 0 }

// wait puts c into the list.
func (w *work) wait(c *conn, state inputState) {
	w.count++
	if c.input == inputNone {
		w.waiting = append(w.waiting, connRef{c.slot, c.generation})
	}
	c.input = state
}

// takeWaiting acts on input that turns before have put off.
func (s *Shard) takeWaiting() {
	w := &s.work
	if len(w.waiting) == 0 {
		return
	}
	list := w.waiting
	w.waiting = w.spare[:0]
	served := 0
	for ; served < len(list) && !w.over; served++ {
		ref := list[served]
		c := s.slab.find(ref.slot, ref.generation)
		if c == nil {
			continue
		}
		s.doing.on(c)
		state := c.input
		c.input = inputNone
		switch {
		case !c.isClient() && !c.isComing(): // What it has sent no longer matters.
		case state == inputBuffer:
			w.serve()
			s.goOn(c)
		default:
			s.readable(c)
		}
	}
	// Those that were served and wait again come after those that were not.
	again := w.waiting
	w.waiting = append(append(list[:0], list[served:]...), again...)
	w.spare = again
}

// shrink gives back the memory of a time in which many waited.
func (w *work) shrink() {
	if len(w.waiting) == 0 {
		w.waiting, w.spare = shrink.Slice(w.waiting, 0), shrink.Slice(w.spare, 0)
	}
}

// goOn acts on what c has in its buffer: the rest of a message first, or the request of a raw client whose token was
// verified.
func (s *Shard) goOn(c *conn) {
	if c.state == stateHead {
		s.take(c, c.in.bytes)
		s.afterRead(c)
		return
	}
	if len(c.in.commands) > 0 {
		rest := s.runCommands(c, s.inbound.takeCommands(c))
		if len(rest) > 0 {
			s.inbound.leaveCommands(c, rest)
			if c.input != inputHeld {
				s.work.wait(c, inputBuffer)
			}
			return
		}
	}
	if c.isClient() && c.input != inputHeld {
		s.readFrames(c, c.in.bytes)
		s.afterRead(c)
	}
}
