package shard

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

const (
	// sparesMax bounds the empty queues that are kept for reuse, spareMin and spareMax how short and long they may be.
	sparesMax = 1024
	spareMin  = 4
	spareMax  = 64
)

// writePerTurn bounds the bytes that a turn writes to one connection: neither a long queue nor one large message keeps
// the turn from the others. What is left waits like what the kernel did not take, and goes on in the next turn.
const writePerTurn = 256 << 10

// sender owns what the outboxes of a shard share: the sums over them, the batches that their chunks hold, and memory
// for reuse. Every change of an outbox goes through it. It belongs to the shard's goroutine.
type sender struct {
	outboundMax int         // Limits.OutboundMax.
	exceeded    func() bool // Counts that a connection exceeds it; reports whether that has consequences. Nil: it has.

	bytes       int64 // Cost of all outboxes,
	shared      int64 // and of that, of chunks whose bytes other connections share,
	answers     int64 // and the bytes of those that are answers.
	parkedBytes int   // Cost of what is parked, and of the completions that were put off.
	holds       holds
	pacing      pacing
	counts      sendCounts
	sinceLap    int      // Writes since latency was counted.
	singles     singles  // Of the segment being delivered.
	layouts     *layouts // The shard's.

	secured *secured // The shard's.
	parts   [][]byte // Of a record being sealed.
	iovecs  epoll.Iovecs
	spares  [][]chunk
}

// sendCounts are added to Stats once a turn.
type sendCounts struct {
	writes, bytesOut, deliveries, conflated, dropped uint64
}

func newSender(outboundMax int) sender {
	return sender{outboundMax: outboundMax, holds: newHolds(), pacing: pacing{round: 1}}
}

// push appends k, whatever waits already. It is for what a connection must get, such as pings and close frames.
func (s *sender) push(o *outbox, k chunk) {
	if o.chunks == nil {
		o.chunks = s.spare()
	}
	o.chunks = append(o.chunks, k)
	s.holds.share(k.hold)
	s.addKind(&k, len(k.bytes))
	s.add(o, k.cost())
}

// addKind counts n more bytes of k, or fewer, if others share them or they are of an answer.
func (s *sender) addKind(k *chunk, n int) {
	switch {
	case k.hold != 0:
		s.shared += int64(n)
	case k.isAnswer():
		s.answers += int64(n)
	}
}

// offer appends k, unless more than OutboundMax waits: then the verdict is slow, and the publications count as dropped.
func (s *sender) offer(o *outbox, k chunk) verdict {
	s.sendUncompressedIfBehind(o)
	if o.exceeds(s.outboundMax) && s.over(o) {
		s.drop(k.publications)
		return verdictSlow
	}
	s.push(o, k)
	return verdictOK
}

// over reports whether o, which exceeds OutboundMax, may not have more. In a dry run it may, and counts once until it
// is empty again.
func (s *sender) over(o *outbox) bool {
	if o.counted {
		return false
	}
	if s.exceeded == nil || s.exceeded() {
		return true
	}
	o.counted = true
	return false
}

// pushControl appends k. While the kernel takes no more, it goes before everything that waits, but for what is partly
// sent and other control chunks: a ping must not wait for a backlog that the client may have, as clients time pings
// too.
func (s *sender) pushControl(o *outbox, k chunk) {
	k.kind = kindControl
	s.insert(o, k)
}

// insert adds k before the data that waits, or last while the connection is not blocked.
func (s *sender) insert(o *outbox, k chunk) {
	if o.chunks == nil {
		o.chunks = s.spare()
	}
	if o.blocked {
		o.chunks = slices.Insert(o.chunks, o.dataBegin(), k)
	} else {
		o.chunks = append(o.chunks, k)
	}
	s.addKind(&k, len(k.bytes))
	s.add(o, k.cost())
}

// replyBytesMax bounds a chunk that further replies are appended to.
const replyBytesMax = 16 << 10

// reply adds replies to commands, unless more than OutboundMax waits. Clients give a reply some seconds, so while the
// connection is blocked it overtakes the data that waits: that is of other channels, see Shard.unsubscribeCommand.
func (s *sender) reply(o *outbox, k chunk) verdict {
	s.sendUncompressedIfBehind(o)
	if o.exceeds(s.outboundMax) && s.over(o) {
		s.drop(k.publications)
		return verdictSlow
	}
	if k.kind != kindAnswer {
		k.kind = kindReply
	}
	if o.blocked {
		last := o.dataBegin() - 1
		if last > 0 || last == 0 && o.offset == 0 {
			if before := &o.chunks[last]; before.kind == k.kind && len(before.bytes)+len(k.bytes) <= replyBytesMax {
				before.bytes = append(before.bytes, k.bytes...)
				before.publications += k.publications
				s.addKind(before, len(k.bytes))
				s.add(o, len(k.bytes))
				return verdictOK
			}
		}
	}
	s.insert(o, k)
	return verdictOK
}

// pongBytesMax bounds the pongs that wait together for one connection.
const pongBytesMax = 2 << 10

// pong answers a ping. Pongs that wait together share a chunk. Beyond pongBytesMax a pong replaces the one before it
// (RFC 6455 §5.5.3 allows to answer the newest ping only), so that no flood of pings makes a client slow.
func (s *sender) pong(o *outbox, payload []byte) {
	last := len(o.chunks) - 1
	if o.blocked {
		last = o.dataBegin() - 1
	}
	if last < 0 || o.chunks[last].pong == 0 || last == 0 && o.offset > 0 {
		s.pushControl(o, chunk{bytes: wire.AppendFrame(nil, opPong, payload), pong: 1})
		return
	}
	k := &o.chunks[last]
	before := k.cost()
	if len(k.bytes)+headerMax+len(payload) > pongBytesMax {
		k.bytes = k.bytes[:k.pong-1]
	}
	k.pong = uint16(len(k.bytes)) + 1
	k.bytes = wire.AppendFrame(k.bytes, opPong, payload)
	s.add(o, k.cost()-before)
}

// writeNow writes b past an empty outbox and returns how much was taken. The caller pushes the rest.
func (s *sender) writeNow(t *transport, b []byte) (n int, v verdict) {
	n, err := t.write(s.secured, b)
	switch {
	case err == nil:
		s.counts.writes++
		s.counts.bytesOut += uint64(n)
		s.sinceLap++
	case err != unix.EAGAIN:
		return 0, verdictOf(err)
	}
	return n, verdictOK
}

// writeCopy writes b, whose memory the caller uses again, past an empty outbox. What is not taken is copied and waits.
func (s *sender) writeCopy(o *outbox, t *transport, b []byte) verdict {
	n, v := s.writeNow(t, b)
	if v == verdictOK && n < len(b) {
		s.push(o, chunk{bytes: bytes.Clone(b[n:])})
	}
	return v
}

// pushRest pushes k, of which n bytes are written.
func (s *sender) pushRest(o *outbox, k chunk, n int) {
	s.push(o, k)
	o.offset = uint32(n)
	o.wrote += uint32(n)
}

// flush gives the transport as much of the outbox as it takes, at most writePerTurn in a turn, and up to a deferred
// chunk. Afterwards o.blocked says whether to go on when the socket is writable.
func (s *sender) flush(o *outbox, t *transport) verdict {
	if s.secured.holds(t) {
		if err := s.secured.drain(t); err == unix.EAGAIN {
			s.setBlocked(o, true)
			return verdictOK
		} else if err != nil {
			return verdictOf(err)
		}
	}
	for !o.empty() && !o.chunks[0].deferred {
		left := writePerTurn - int(o.wrote)
		if left == 0 {
			s.setBlocked(o, true)
			return verdictOK
		}
		n, err := s.writeQueue(o, t, left)
		switch err {
		case nil:
			s.counts.writes++
			s.counts.bytesOut += uint64(n)
			s.sinceLap++
			o.wrote += uint32(n)
			if o.blocked && o.merge == nil {
				s.pacing.progress += uint64(n)
			}
			s.sent(o, n)
			if s.mergedFits(o) {
				s.queueMerged(o)
			}
		case unix.EAGAIN:
			s.setBlocked(o, true)
			return verdictOK
		default:
			return verdictOf(err)
		}
	}
	if o.empty() {
		s.recycle(o)
	}
	s.setBlocked(o, s.secured.holds(t))
	return verdictOK
}

// writeQueue writes up to bytesMax bytes of the queue, up to a deferred chunk: by one write for one chunk, by one
// writev for several.
func (s *sender) writeQueue(o *outbox, t *transport, bytesMax int) (n int, err error) {
	first := o.chunks[0].bytes[o.offset:]
	if len(o.chunks) == 1 || len(first) >= bytesMax {
		return t.write(s.secured, first[:min(len(first), bytesMax)])
	}
	if t.secure {
		return s.sealQueue(o, t, bytesMax)
	}
	s.iovecs.Reset()
	s.iovecs.Add(first)
	bytesMax -= len(first)
	for i := 1; i < len(o.chunks) && bytesMax > 0 && !o.chunks[i].deferred; i++ {
		b := o.chunks[i].bytes
		if !s.iovecs.Add(b[:min(len(b), bytesMax)]) {
			break
		}
		bytesMax -= len(b)
	}
	return t.writev(&s.iovecs)
}

// sent takes n written bytes off the front of the queue.
func (s *sender) sent(o *outbox, n int) {
	done, cost := 0, 0
	for n > 0 {
		k := o.chunks[done]
		rest := len(k.bytes) - int(o.offset)
		if n < rest {
			o.offset += uint32(n)
			break
		}
		n -= rest
		o.offset = 0
		cost += k.cost()
		s.addKind(&k, -len(k.bytes))
		s.counts.deliveries += uint64(k.publications)
		s.holds.dropSent(k.hold)
		done++
	}
	s.add(o, -cost)
	clear(o.chunks[:done])
	if done == len(o.chunks) {
		o.chunks = o.chunks[:0]
		return
	}
	// An append that needs room frees the front: moving the rest down each time would be quadratic.
	o.chunks = o.chunks[done:]
}

// replace puts b in place of the deferred chunk whose bytes are plain, and reports whether there is one.
func (s *sender) replace(o *outbox, plain, b []byte) bool {
	for i := len(o.chunks) - 1; i >= 0; i-- {
		k := &o.chunks[i]
		if k.deferred && &k.bytes[0] == &plain[0] {
			s.addKind(k, len(b)-len(k.bytes))
			s.add(o, len(b)-len(k.bytes))
			k.bytes, k.deferred = b, false
			return true
		}
	}
	return false
}

// dropWhere drops the chunks that fn selects, but for the rest of one that is partly sent: without it the client would
// read the next frame as part of that one.
func (s *sender) dropWhere(o *outbox, fn func(*chunk) bool) {
	kept := o.chunks[:0]
	for i, k := range o.chunks {
		if i == 0 && o.offset > 0 || !fn(&k) {
			kept = append(kept, k)
			continue
		}
		s.drop(k.publications)
		s.addKind(&k, -len(k.bytes))
		s.add(o, -k.cost())
		s.holds.drop(k.hold)
	}
	clear(o.chunks[len(kept):])
	o.chunks = kept
}

// dropChannel drops what waits and what was merged of one channel, and gives the connection what was merged of others
// if there is room for it now.
func (s *sender) dropChannel(o *outbox, channel uint32) {
	s.sendUncompressedIfBehind(o)
	s.dropWhere(o, func(k *chunk) bool { return k.channel == channel+1 })
	if o.merge != nil {
		s.dropMergedOf(o, channel)
	}
	if s.mergedFits(o) {
		s.queueMerged(o)
	}
}

// finish prepares the outbox for the last bytes of a connection: what waits is dropped, or all of it becomes ready to
// be sent.
func (s *sender) finish(o *outbox, drop bool) {
	if drop {
		s.dropMerged(o)
		s.dropWhere(o, func(*chunk) bool { return true })
	}
	s.queueMerged(o)
	s.sendUncompressed(o)
}

// discard empties the outbox of a connection whose socket is closed. It is all that the sender has to undo for it.
func (s *sender) discard(o *outbox) {
	s.dropMerged(o)
	for i := range o.chunks {
		s.drop(o.chunks[i].publications)
		s.addKind(&o.chunks[i], -len(o.chunks[i].bytes))
		s.holds.drop(o.chunks[i].hold)
	}
	s.recycle(o)
	s.setBlocked(o, false)
}

// recycle forgets the queue and keeps its memory for another connection.
func (s *sender) recycle(o *outbox) {
	if cap(o.chunks) >= spareMin && cap(o.chunks) <= spareMax && len(s.spares) < sparesMax {
		clear(o.chunks)
		s.spares = append(s.spares, o.chunks[:0])
	}
	o.chunks, o.offset, o.counted = nil, 0, false
	s.add(o, -o.cost)
}

func (s *sender) spare() []chunk {
	if n := len(s.spares); n > 0 {
		q := s.spares[n-1]
		s.spares = s.spares[:n-1]
		return q
	}
	return make([]chunk, 0, spareMin)
}

// hasRoom reports whether o can be given the result of a completion, whatever its size.
func (s *sender) hasRoom(o *outbox) bool { return o.cost <= s.outboundMax/roomPart }

// drop counts publications that a connection does not get.
func (s *sender) drop(publications uint32) { s.counts.dropped += uint64(publications) }

// add counts n more bytes, or fewer, that wait in o.
func (s *sender) add(o *outbox, n int) {
	o.cost += n
	s.bytes += int64(n)
	if o.merge != nil {
		s.pacing.conflatingBytes += int64(n)
	}
	s.noteBehind(o)
}

// setBlocked notes whether the kernel takes no more of o for now.
func (s *sender) setBlocked(o *outbox, blocked bool) {
	if o.blocked == blocked {
		return
	}
	s.tally(o, -1)
	o.blocked = blocked
	s.tally(o, 1)
}

// setMerge makes o conflate, or with nil not.
func (s *sender) setMerge(o *outbox, m *merge) {
	s.tally(o, -1)
	o.merge = m
	s.tally(o, 1)
	s.noteBehind(o)
}
