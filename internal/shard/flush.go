package shard

import "wsd/internal/epoll"

// queue has k sent by the turn's flush, whatever waits already: for what a connection must get.
func (s *Shard) queue(c *conn, k chunk) {
	if c.state != stateFree && c.state != stateFailed {
		s.sender.push(&c.out, k)
		s.markDirty(c)
	}
}

// queueReply has replies to commands sent by the turn's flush, unless too much waits already: a client that sends and
// does not read is slow.
func (s *Shard) queueReply(c *conn, k chunk) {
	if !c.isClient() {
		return
	}
	if v := s.sender.reply(&c.out, k); v != verdictOK {
		s.fail(c, v)
		return
	}
	s.markDirty(c)
}

// offer has k sent by the turn's flush, unless too much waits already: then c fails.
func (s *Shard) offer(c *conn, k chunk) {
	if !c.isClient() || len(k.bytes) == 0 {
		return
	}
	if v := s.sender.offer(&c.out, k); v != verdictOK {
		s.fail(c, v)
		return
	}
	s.markDirty(c)
}

// markDirty has the turn's flush look at c, unless it waits until its socket is writable.
func (s *Shard) markDirty(c *conn) {
	if !c.out.listed && !c.out.blocked {
		c.out.listed = true
		s.dirty = append(s.dirty, c.slot)
	}
}

// flushDirty sends what was queued in this turn.
func (s *Shard) flushDirty() {
	for i := 0; i < len(s.dirty); i++ { //nolint:intrange // It grows meanwhile.
		c := s.slab.get(s.dirty[i])
		if !c.out.listed {
			continue
		}
		c.out.listed = false
		if c.state != stateFree {
			s.flush(c)
			c.out.wrote = 0
		}
	}
	s.dirty = s.dirty[:0]
	for _, slot := range s.wrote {
		s.slab.get(slot).out.wrote = 0
	}
	s.wrote = s.wrote[:0]
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
	if c.state == stateClosing && c.out.empty() {
		c.shutdown()
	}
}

// watch has the loop woken for what c waits for.
func (s *Shard) watch(c *conn) {
	ready := uint32(epoll.Readable)
	if c.out.blocked {
		ready |= epoll.Writable
	}
	if err := s.poller.Modify(int(c.fd), ready, int32(c.slot), int32(c.generation)); err != nil {
		c.reason = ReasonInternal
		s.abort(c)
	}
}

// fail ends c for the verdict of an operation on its outbox, at the end of the turn: whoever asked may be walking a
// channel's subscribers, which the end of a connection changes. Until then nothing is queued for it, and nothing that
// it sends is read.
func (s *Shard) fail(c *conn, v verdict) { s.failFor(c, v.reason()) }

// failFor is fail for a reason of the caller's.
func (s *Shard) failFor(c *conn, reason Reason) {
	if !c.isClient() {
		return
	}
	if reason == ReasonSlow {
		s.stats.Slow[PolicyDisconnect].Add(1)
	}
	c.state, c.reason = stateFailed, reason
	s.failed = append(s.failed, c.slot)
}

// endFailed ends the connections that failed in this turn.
func (s *Shard) endFailed() {
	for i := 0; i < len(s.failed); i++ { //nolint:intrange // It grows meanwhile.
		c := s.slab.get(s.failed[i])
		switch {
		case c.state != stateFailed:
		case c.reason.aborts():
			s.abort(c)
		default:
			s.end(c, c.reason)
		}
	}
	s.failed = s.failed[:0]
}
