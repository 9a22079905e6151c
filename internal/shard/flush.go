package shard

import (
	"bytes"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

const (
	// keepQueues is how many empty queues are kept for reuse, and keepQueueMin and keepQueueCap how short and long they may be.
	keepQueues   = 1024
	keepQueueMin = 4
	keepQueueCap = 64
)

// writePerTurn bounds the bytes that a turn writes to one connection: a long queue, or one large message, does not keep the turn from
// the others. What is left waits like what the kernel has not taken, and goes on in the next turn.
const writePerTurn = 256 << 10

// queue puts k behind what waits for c, to be sent by the next flush. It takes everything but publications to a slow client, see
// queuePublications.
func (s *Shard) queue(c *conn, k chunk) {
	if c.state == stateFree || c.state == stateDoomed {
		return
	}
	if c.out == nil {
		c.out = s.takeQueue()
	}
	c.out = append(c.out, k)
	if k.pin != 0 {
		s.pins[k.pin].holders++
	}
	s.addQueued(c, k.cost())
	s.markDirty(c)
}

// sendCopy writes b, whose memory the caller uses again, to a connection that has nothing queued; what the kernel does not take is
// copied and waits.
func (s *Shard) sendCopy(c *conn, b []byte) {
	n, err := epoll.Write(int(c.fd), b)
	switch {
	case err == nil:
		s.turn.writes++
		s.turn.bytesOut += uint64(n)
	case err != unix.EAGAIN:
		c.reason = ReasonWriteError
		s.abort(c)
		return
	}
	if n < len(b) {
		s.queue(c, chunk{bytes: bytes.Clone(b[n:])})
	}
}

// addQueued counts n more bytes, or fewer, that wait for c.
func (s *Shard) addQueued(c *conn, n int) {
	c.outLen += n
	s.outboundBytes += int64(n)
	if c.merge != nil {
		s.pacing.apartBytes += int64(n)
	}
	s.noteQueue(c)
}

// queuePong answers a ping. While a pong waits, the newest takes its place (RFC 6455 §5.5.3). So there are never more pongs than other
// chunks, and no pong makes a client slow.
func (s *Shard) queuePong(c *conn, payload []byte) {
	k := chunk{bytes: wire.AppendFrame(nil, opPong, payload), pong: true}
	last := len(c.out) - 1
	if !c.isClient() || last < 0 || !c.out[last].pong || last == 0 && c.outOff > 0 {
		s.queue(c, k)
		return
	}
	s.addQueued(c, k.cost()-c.out[last].cost())
	c.out[last] = k
}

// queueReply is queue for answers to commands and for what ends subscriptions. A client that sends and does not read is slow.
func (s *Shard) queueReply(c *conn, k chunk) {
	s.hurry(c)
	if c.isClient() && s.overLimit(c) {
		s.closeSlow(c, 0)
		return
	}
	s.queue(c, k)
}

// queuePublications is queue for a segment. A client that already has more than OutboundMax bytes waiting, the message being sent
// not counted, is slow and doomed; so one message of any size reaches a client that reads.
func (s *Shard) queuePublications(c *conn, k chunk) {
	if !c.isClient() || len(k.bytes) == 0 {
		return
	}
	s.hurry(c)
	if s.overLimit(c) {
		s.closeSlow(c, k.publications)
		return
	}
	s.queue(c, k)
}

// closeSlow dooms c for the outbound limit, which kept publications from it.
func (s *Shard) closeSlow(c *conn, publications uint32) {
	s.stats.Slow[PolicyDisconnect].Add(1)
	s.stats.Dropped.Add(uint64(publications))
	s.doom(c, ReasonSlow)
}

func (s *Shard) overLimit(c *conn) bool {
	return c.outLen > s.limits.OutboundMax && c.outLen-c.out[0].cost() > s.limits.OutboundMax
}

func (s *Shard) markDirty(c *conn) {
	if !c.dirty && !c.wantWritable {
		c.dirty = true
		s.dirty = append(s.dirty, c.slot)
	}
}

// flushDirty sends what was queued in this turn.
func (s *Shard) flushDirty() {
	for i := 0; i < len(s.dirty); i++ { //nolint:intrange // It grows meanwhile.
		c := s.slab.get(s.dirty[i])
		if !c.dirty {
			continue
		}
		c.dirty = false
		if c.state != stateFree && c.state != stateDoomed {
			s.flush(c)
			c.wrote = 0
		}
	}
	s.dirty = s.dirty[:0]
	for _, slot := range s.wrote {
		s.slab.get(slot).wrote = 0
	}
	s.wrote = s.wrote[:0]
}

// flush gives the kernel as much of c's queue as it takes, up to writePerTurn in a turn, and up to a chunk that waits.
func (s *Shard) flush(c *conn) {
	for len(c.out) > 0 {
		if c.out[0].waits {
			s.watchWritable(c, false)
			return
		}
		left := writePerTurn - int(c.wrote)
		if left == 0 {
			s.watchWritable(c, true)
			return
		}
		n, err := s.writeQueue(c, left)
		switch err {
		case nil:
			s.turn.writes++
			s.turn.bytesOut += uint64(n)
			c.wrote += uint32(n)
			if c.wantWritable && c.merge == nil {
				s.pacing.drained += uint64(n)
			}
			s.sent(c, n)
			if c.merge != nil && s.drained(c) {
				s.queueMerged(c)
			}
			if c.hasPutOff && s.hasRoom(c) {
				s.takePutOff(c)
			}
		case unix.EAGAIN:
			s.watchWritable(c, true)
			return
		default:
			if c.state != stateClosing {
				c.reason = ReasonWriteError
			}
			s.abort(c)
			return
		}
	}
	s.clearQueue(c)
	s.watchWritable(c, false)
	if c.state == stateClosing && !c.writeClosed {
		c.writeClosed = true
		epoll.CloseWrite(int(c.fd))
	}
}

// writeQueue writes up to most bytes of c's queue, up to a chunk that waits: by one write for one chunk, by one writev for several.
func (s *Shard) writeQueue(c *conn, most int) (n int, err error) {
	first := c.out[0].bytes[c.outOff:]
	if len(c.out) == 1 || len(first) >= most {
		return epoll.Write(int(c.fd), first[:min(len(first), most)])
	}
	s.iovecs.Reset()
	s.iovecs.Add(first)
	most -= len(first)
	for i := 1; i < len(c.out) && most > 0 && !c.out[i].waits; i++ {
		b := c.out[i].bytes
		if !s.iovecs.Add(b[:min(len(b), most)]) {
			break
		}
		most -= len(b)
	}
	return s.iovecs.Writev(int(c.fd))
}

// sent takes n bytes off the front of c's queue.
func (s *Shard) sent(c *conn, n int) {
	done, cost := 0, 0
	for n > 0 {
		k := c.out[done]
		rest := len(k.bytes) - int(c.outOff)
		if n < rest {
			c.outOff += uint32(n)
			break
		}
		n -= rest
		c.outOff = 0
		cost += k.cost()
		s.turn.deliveries += uint64(k.publications)
		s.unpin(k.pin)
		done++
	}
	s.addQueued(c, -cost)
	clear(c.out[:done])
	if done == len(c.out) {
		c.out = c.out[:0]
		return
	}
	c.out = c.out[done:] // The front goes when an append needs room: moving the rest down each time would be quadratic.
}

// dropQueued forgets what waits for c, except the rest of a chunk that is partly sent: without it the next frame would be read as
// part of that one.
func (s *Shard) dropQueued(c *conn) {
	keep := 0
	if c.outOff > 0 {
		keep = 1
	}
	for i := keep; i < len(c.out); i++ {
		s.stats.Dropped.Add(uint64(c.out[i].publications))
		s.addQueued(c, -c.out[i].cost())
		s.unpin(c.out[i].pin)
		c.out[i] = chunk{}
	}
	if len(c.out) > keep {
		c.out = c.out[:keep]
	}
}

// clearQueue forgets c's whole queue and keeps its memory for another connection.
func (s *Shard) clearQueue(c *conn) {
	for i := range c.out {
		s.stats.Dropped.Add(uint64(c.out[i].publications))
		s.unpin(c.out[i].pin)
	}
	if cap(c.out) >= keepQueueMin && cap(c.out) <= keepQueueCap && len(s.queues) < keepQueues {
		clear(c.out)
		s.queues = append(s.queues, c.out[:0])
	}
	c.out, c.outOff = nil, 0
	s.addQueued(c, -c.outLen)
}

func (s *Shard) takeQueue() []chunk {
	if n := len(s.queues); n > 0 {
		q := s.queues[n-1]
		s.queues = s.queues[:n-1]
		return q
	}
	return make([]chunk, 0, keepQueueMin)
}

// watchWritable starts or stops waiting until the kernel takes more of c's queue.
func (s *Shard) watchWritable(c *conn, on bool) {
	if c.wantWritable == on {
		return
	}
	s.countBlocked(c, -1)
	c.wantWritable = on
	s.countBlocked(c, 1)
	ready := uint32(epoll.Readable)
	if on {
		ready |= epoll.Writable
	}
	if err := s.poller.Modify(int(c.fd), ready, int32(c.slot), int32(c.generation)); err != nil {
		c.reason = ReasonInternal
		s.abort(c)
	}
}
