package shard

import (
	"wsd/internal/epoll"
	"wsd/internal/shrink"
	"wsd/internal/tlsrecord"
)

// flushDirty sends what was queued in this turn.
func (s *Shard) flushDirty() {
	for i := 0; i < len(s.outlet.dirty); i++ { //nolint:intrange // It grows meanwhile.
		c := s.slab.get(s.outlet.dirty[i])
		if !c.out.listed {
			continue
		}
		c.out.listed = false
		if c.state != stateFree {
			s.doing.on(c)
			s.flush(c)
			c.out.wrote = 0
			if s.sender.sinceLap >= lapWrites {
				s.lap()
			}
		}
	}
	s.outlet.dirty = shrink.Slice(s.outlet.dirty, len(s.outlet.dirty))
	for _, slot := range s.wrote {
		s.slab.get(slot).out.wrote = 0
	}
	s.wrote = shrink.Slice(s.wrote, len(s.wrote))
}

// flush gives the kernel what it takes of c's outbox. When a connection that is closing has sent all, our side is shut.
func (s *Shard) flush(c *conn) {
	wasBlocked := c.out.blocked
	if v := s.sender.flush(&c.out, &c.transport); v != verdictOK {
		if c.state != stateClosing {
			c.reason = v.reason()
		}
		s.abort(c)
		return
	}
	if c.out.blocked != wasBlocked {
		s.watch(c)
	}
	s.resumePutOff(c)
	if c.state == stateClosing && c.out.empty() && !s.secured.holds(&c.transport) {
		s.secured.say(&c.transport, tlsrecord.AlertCloseNotify)
		if s.blockIfHeld(c); !c.out.blocked {
			c.shutdown()
		}
	}
}

// watch has the loop woken for what c waits for.
func (s *Shard) watch(c *conn) {
	if c == s.accepting.opening {
		return // It is not watched yet.
	}
	ready := uint32(epoll.Readable)
	if c.input == inputHeld {
		ready = 0
	}
	if c.out.blocked {
		ready |= epoll.Writable
	}
	if err := s.poller.Modify(int(c.fd), ready, int32(c.slot), int32(c.generation)); err != nil {
		c.reason = ReasonInternal
		s.abort(c)
	}
}

// endFailed ends connections that failed, in their order, as many as the part of the turn allows. It returns whether
// there are others, which end in the next turns.
func (s *Shard) endFailed() (more bool) {
	n := 0
	for ; n < len(s.outlet.failed) && s.work.goesOn(); n++ { // It grows meanwhile.
		ref := s.outlet.failed[n]
		c := s.slab.find(ref.slot, ref.generation)
		if c == nil || c.state != stateFailed {
			s.work.spendPart(1)
			continue // Its peer has closed it, or a shutdown, and it has ended.
		}
		s.doing.on(c)
		s.work.spendPart(unitsOfEnd(c))
		if c.reason.aborts() {
			s.abort(c)
		} else {
			s.end(c, c.reason)
		}
	}
	if n < len(s.outlet.failed) {
		s.outlet.failed = s.outlet.failed[n:] // Those that fail meanwhile come after them.
		return true
	}
	s.outlet.failed = shrink.Slice(s.outlet.failed, n)
	return false
}
