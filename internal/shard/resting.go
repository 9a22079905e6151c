package shard

import (
	"time"

	"wsd/internal/shrink"
	"wsd/internal/tlsrecord"
)

// The ciphers of a TLS connection take about 1.5 KB, and are made from its keys in less than a microsecond. So those of
// a connection that has sent and received nothing for a while are dropped: an idle connection keeps its keys only.

const (
	// restAfter is for how long ciphers stay at least when nothing uses them; they go after twice that at most. A
	// connection that gets a record more often never makes them anew. It is short because of crowds: of those that
	// connect at thousands a second, as after a restart, most have rested before the last ones come.
	restAfter = 250 * time.Millisecond
	// restedUnit is how many connections are looked at for a unit of work.
	restedUnit = 16
)

// warmth says when the ciphers of a connection were used.
type warmth uint8

const (
	cold warmth = iota // They are dropped, and the connection is not in secured.awake.
	warm               // Before secured.awake was looked through last.
	hot                // Since then.
)

// using returns the record layer of a connection, which is about to open or seal.
func (x *secured) using(sc *secureConn) *tlsrecord.Conn {
	if sc.warmth == cold {
		x.awake = append(x.awake, sc)
	}
	sc.warmth = hot
	return sc.records
}

// restTLS drops the ciphers of connections that are idle, as far as the part of the turn allows. It returns whether
// there is more to do now.
func (s *Shard) restTLS() (more bool) {
	x := &s.secured
	switch {
	case len(x.awake) == 0:
		x.restAt = 0
		return false
	case x.restAt == 0:
		x.restAt, x.restNext = s.tick+ticks(restAfter), len(x.awake)
		return false
	case s.tick < x.restAt:
		return false
	}
	s.work.beginPart()
	for ; x.restNext > 0 && s.work.goesOn(); s.work.spendPart(1) {
		x.rest(restedUnit)
	}
	if x.restNext > 0 {
		return true
	}
	x.restAt = 0
	if len(x.awake) > 0 {
		x.restAt, x.restNext = s.tick+ticks(restAfter), len(x.awake)
	} else {
		x.awake = shrink.Slice(x.awake, cap(x.awake)/2)
	}
	return false
}

// rest looks at the next n connections, from the end: the last one takes the place of one that rests, and is one that
// was looked at, or has come since.
func (x *secured) rest(n int) {
	for ; n > 0 && x.restNext > 0; n-- {
		x.restNext--
		sc := x.awake[x.restNext]
		if sc.warmth == hot && !sc.gone {
			sc.warmth = warm
			continue
		}
		sc.warmth = cold
		sc.records.Rest()
		last := len(x.awake) - 1
		x.awake[x.restNext] = x.awake[last]
		x.awake[last] = nil
		x.awake = x.awake[:last]
	}
}

// noteWorn notes a connection whose keys have protected as many records as they should.
func (x *secured) noteWorn(t *transport, sc *secureConn) {
	if sc.records.Worn() && !sc.worn {
		sc.worn = true
		x.worn = append(x.worn, t.slot)
	}
}

// endWorn has the clients end whose keys are worn, so that they come back with others.
func (s *Shard) endWorn() {
	x := &s.secured
	for _, slot := range x.worn {
		if c := s.slab.at(slot); c != nil && c.secure && x.of(&c.transport).worn { // Not another one in its slot.
			s.outlet.failFor(c, ReasonTLSKeys)
		}
	}
	x.worn = shrink.Slice(x.worn, len(x.worn))
}
