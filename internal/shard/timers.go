package shard

import (
	"math/bits"
	"time"
)

// The timing wheel: one slot a tick, with a doubly linked list of connections in each, so that arming, moving and
// cancelling cost the same however many there are (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987,
// scheme 6 with far deadlines clamped). A connection is in the wheel once, at or before its earliest deadline; one that
// comes due early is armed again.
const (
	tickLength = 50 * time.Millisecond
	wheelSlots = 2048 // 102 s: pings and deadlines of the default configuration fit in one round.
	timerNone  = int32(-1)
)

type wheel struct {
	slab   *slab // Whose connections the lists link.
	heads  [wheelSlots]int32
	filled [wheelSlots / 64]uint64 // Bit set: the slot's list is not empty.
	now    uint32                  // Ticks since start, all of them expired up to here.
}

func newWheel(conns *slab) *wheel {
	w := &wheel{slab: conns}
	for i := range w.heads {
		w.heads[i] = timerNone
	}
	return w
}

// ticks is how many ticks a duration takes, at least one.
func ticks(d time.Duration) uint32 {
	return uint32(max(1, min((d+tickLength-1)/tickLength, 1<<31)))
}

// arm puts c at the given tick, clamped to the wheel's horizon, and never into the past.
func (w *wheel) arm(c *conn, tick uint32) {
	tick = max(tick, w.now+1)
	tick = min(tick, w.now+wheelSlots-1)
	if c.timerAt == tick {
		return
	}
	w.disarm(c)
	i := tick % wheelSlots
	c.timerAt, c.timerPrev, c.timerNext = tick, timerNone, w.heads[i]
	if w.heads[i] != timerNone {
		w.slab.get(uint32(w.heads[i])).timerPrev = int32(c.slot)
	}
	w.heads[i] = int32(c.slot)
	w.filled[i/64] |= 1 << (i % 64)
}

// disarm takes c out of the wheel.
func (w *wheel) disarm(c *conn) {
	if c.timerAt == 0 {
		return
	}
	i := c.timerAt % wheelSlots
	if c.timerNext != timerNone {
		w.slab.get(uint32(c.timerNext)).timerPrev = c.timerPrev
	}
	if c.timerPrev != timerNone {
		w.slab.get(uint32(c.timerPrev)).timerNext = c.timerNext
	} else {
		w.heads[i] = c.timerNext
		if c.timerNext == timerNone {
			w.filled[i/64] &^= 1 << (i % 64)
		}
	}
	c.timerAt, c.timerNext, c.timerPrev = 0, timerNone, timerNone
}

// next returns the ticks until the first filled slot, 0 when the wheel is empty.
func (w *wheel) next() uint32 {
	for ahead := uint32(1); ahead < wheelSlots; {
		i := (w.now + ahead) % wheelSlots
		if word := w.filled[i/64] >> (i % 64); word != 0 {
			ahead += uint32(bits.TrailingZeros64(word))
			return min(ahead, wheelSlots-1)
		}
		ahead += 64 - i%64
	}
	return 0
}

// pop removes a connection that is due at tick now and returns it, nil when there is none left. It works through a long
// pause slot by slot, and every slot at most once.
func (w *wheel) pop(now uint32) *conn {
	if now-w.now > wheelSlots {
		w.now = now - wheelSlots
	}
	for {
		if head := w.heads[w.now%wheelSlots]; head != timerNone {
			c := w.slab.get(uint32(head))
			w.disarm(c)
			return c
		}
		if w.now == now {
			return nil
		}
		w.now++
	}
}

// has reports whether pop may find a connection that is due at tick now: there are ticks that it has not looked at, or
// it was not called until the current one was empty.
func (w *wheel) has(now uint32) bool { return w.now != now || w.heads[now%wheelSlots] != timerNone }

// rearm puts c into the wheel at its earliest deadline.
func (w *wheel) rearm(c *conn) {
	var earliest uint32
	for _, d := range [...]uint32{c.pingAt, c.deadline, c.frameAt} {
		if d != 0 && (earliest == 0 || d < earliest) {
			earliest = d
		}
	}
	if earliest == 0 {
		w.disarm(c)
		return
	}
	w.arm(c, earliest)
}

// due acts on the deadlines of c that have passed.
func (s *Shard) due(c *conn) {
	now := s.tick
	switch {
	case c.state == stateFree || c.state == stateFailed:
		return
	case c.state == stateJoined && s.calls.holds(c):
		s.dueHeld(c)
		return
	case c.input != inputNone && c.state != stateClosing:
		s.wheel.arm(c, now+1) // What it owes may be in its socket.
		return
	case c.deadline != 0 && now >= c.deadline:
		c.deadline = 0
		switch c.state {
		case stateTLS, stateProxy:
			c.reason = ReasonHandshakeTimeout
			s.abort(c)
			return
		case stateHead:
			s.refuseRequest(c, headTooLate, ReasonHandshakeTimeout)
			return
		case stateJoining:
			s.end(c, ReasonStale)
			return
		case stateJoined:
			if s.endLife(c) {
				return
			}
		default:
			if s.emptying.extends(c, now) || s.emptying.late(c, now+ticks(closingMax)) {
				c.deadline = now + ticks(s.opts.Limits.CloseGrace)
				break
			}
			s.abort(c)
			return
		}
	case c.frameAt != 0 && now >= c.frameAt:
		c.frameAt = 0
		s.end(c, ReasonFrameTimeout)
		return
	case c.pingAt != 0 && now >= c.pingAt:
		switch {
		case c.pings == 0:
			s.pings.ping(c)
		case s.emptying.extends(c, now):
			s.pings.await(c)
		default:
			c.pingAt = 0
			s.end(c, ReasonNoPong)
			return
		}
	}
	s.wheel.rearm(c)
}

// dueHeld acts on the deadlines of a client that its calls hold, which may be for as long as it has calls. What it owes
// may be in its socket, which is not read; but it expires like others, and is pinged, as clients time pings.
func (s *Shard) dueHeld(c *conn) {
	if c.deadline != 0 && s.tick >= c.deadline {
		c.deadline = 0
		if s.endLife(c) {
			return
		}
	}
	if c.pingAt != 0 && s.tick >= c.pingAt && c.pings == 0 {
		s.pings.ping(c)
	}
	s.wheel.rearm(c)
}
