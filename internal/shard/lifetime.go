package shard

import "math/rand/v2"

// A client that has been connected for limits.age is closed with a code after which it comes back, so that machines
// which were added get their part of the clients. One that has had no subscription for limits.idle is closed with a
// code after which it stays away. Both are due by conn.deadline, which nothing else uses while a client is joined.

// beginAge decides when a connection that was just accepted will be too old: clients that connected together, as they
// do after a restart, do not go together.
func (s *Shard) beginAge(c *conn) {
	most := s.places.age
	if most == 0 {
		return
	}
	//nolint:gosec // It only spreads ends.
	s.places.of(c.slot).endsAt = s.tick + most - most/10 + rand.Uint32N(most/5+1)
}

// scheduleEnd sets when the joined client c has to be looked at. The caller arms the wheel.
func (s *Shard) scheduleEnd(c *conn) {
	c.deadline = 0
	if s.places.needed {
		p := s.places.of(c.slot)
		if idle := s.places.idle; idle > 0 && len(c.subs) <= c.firstChannel() {
			p.idleAt = s.tick + idle
		}
	}
	c.deadline = s.nextEnd(c)
}

// nextEnd returns when the joined client c has to be looked at; 0: never.
func (s *Shard) nextEnd(c *conn) (at uint32) {
	if s.places.needed {
		at = s.places.of(c.slot).next()
	}
	if c.known&knownIdentity != 0 {
		if next := s.identities.find(c).next(); next != 0 && (at == 0 || next < at) {
			at = next
		}
	}
	return at
}

// rescheduleEnd sets when c has to be looked at anew, because something of it expires at another time.
func (s *Shard) rescheduleEnd(c *conn) {
	if c.state == stateJoined {
		c.deadline = s.nextEnd(c)
		s.wheel.rearm(c)
	}
}

// endsBy has the joined client c looked at by a tick at which something of it ends; 0: nothing does. It does not look
// through what else ends, which may be much.
func (s *Shard) endsBy(c *conn, tick uint32) {
	if c.state == stateJoined && tick != 0 && (c.deadline == 0 || tick < c.deadline) {
		c.deadline = tick
		s.wheel.rearm(c)
	}
}

// alone notes that c has lost its last subscription.
func (s *Shard) alone(c *conn) {
	if c.state == stateJoined {
		s.scheduleEnd(c)
		s.wheel.rearm(c)
	}
}

// next returns the earlier of the two ends, 0 for none.
func (p *taken) next() uint32 {
	if p.endsAt == 0 || p.idleAt != 0 && p.idleAt < p.endsAt {
		return p.idleAt
	}
	return p.endsAt
}

// agePutOff is the time, in ticks, in which a client is looked at again that was too old when many were.
const agePutOff = 20

// endLife closes c if it is too old or idle, or has expired, and reports whether it did. Otherwise it sets the next
// deadline.
func (s *Shard) endLife(c *conn) bool {
	if c.known&knownIdentity != 0 && s.endExpired(c) || s.places.needed && s.endOld(c) {
		return true
	}
	c.deadline = s.nextEnd(c)
	return false
}

// endOld closes c if it is too old or idle, and reports whether it did.
func (s *Shard) endOld(c *conn) bool {
	p := s.places.of(c.slot)
	if p.endsAt != 0 && s.tick >= p.endsAt {
		switch {
		case !s.agePace.allows(s.tick, s.clients, s.places.age):
			p.endsAt = s.tick + 1 + rand.Uint32N(agePutOff) //nolint:gosec // It only spreads ends.
		case s.exceeded(QuotaAge):
			s.end(c, ReasonAge)
			return true
		default:
			p.endsAt = 0
		}
	}
	if p.idleAt != 0 && s.tick >= p.idleAt {
		p.idleAt = 0
		if len(c.subs) <= c.firstChannel() && s.exceeded(QuotaIdle) {
			s.end(c, ReasonIdle)
			return true
		}
	}
	return false
}

// agePace bounds how many clients a tick closes for their age: twice as many as if their ends were spread evenly.
type agePace struct {
	tick uint32
	n    int
}

func (a *agePace) allows(tick uint32, clients int, age uint32) bool {
	if a.tick != tick {
		a.tick, a.n = tick, 0
	}
	a.n++
	return a.n <= 1+2*clients/int(age)
}
