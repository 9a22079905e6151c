package shard

// Completions come in numbers: the recovered streams of all channels of a client that is back, and of all clients
// after a restart. A turn takes them up to a number of bytes, and a connection gets the next one when it has taken
// most of what waits for it. Otherwise a client with much to recover would be closed as slow for it, and again when
// it comes back.

const (
	// completedPerTurn bounds the bytes that a turn queues from completions.
	completedPerTurn = 256 << 10
	// replyRoom bounds what waits for a connection with a result that could also come in portions: clients wait some
	// seconds for a reply, however slow their link.
	replyRoom = 2 * replyBytes
	// A completion that waits is taken while no more than OutboundMax/roomPart waits for its connection, or while it
	// leaves half of OutboundMax free.
	roomPart = 16
)

// completions are those that came from the inbox and were not taken yet.
type completions struct {
	sender *sender

	due    []*completion            // In order; they wait for a turn.
	putOff map[uint32][]*completion // By slot: the connection had no room.

	putOffBytes int // Of all of them.
}

// takeCompletions acts on the completions that came, the first ones first: on as many as the turn has begun work for,
// and beyond that on as many as its part takes. If a turn began more than it completes, answers would come later and
// later while clients are busy, until those who wait for many are refused more.
func (s *Shard) takeCompletions() {
	s.completions.due = s.inbox.takeCompletions(s.completions.due)
	due := s.completions.due
	before, n := s.sender.bytes, 0
	s.work.beginPart()
	for ; n < len(due) && (n < s.inbox.begun || s.work.goesOn()) && s.sender.bytes-before < completedPerTurn; n++ {
		if n >= s.inbox.begun {
			s.work.spendPart(unitsAsk)
		}
		s.takeCompletion(due[n])
	}
	clear(due[:n])
	if s.completions.due = due[n:]; len(s.completions.due) == 0 {
		s.completions.due = nil
	}
}

// takeCompletion acts on a completion, or puts it off until its connection has room for it.
func (s *Shard) takeCompletion(k *completion) {
	c := s.slab.find(k.conn.slot, k.conn.generation)
	room := true
	s.opts.Memory.addAnswer(-int64(k.bytes)) // See post. From here on it is the connection's.
	switch {
	case c == nil || !c.isClient() && !c.isComing(): // One with a request waits for its token.
		k.run = nil
		s.inbox.done(1)
		return
	case !k.wait:
		room = k.bytes == 0 || c.out.cost+k.bytes <= min(replyRoom, s.opts.Limits.OutboundMax/2)
	case k.bytes == 0, s.sender.hasRoom(&c.out), c.out.cost+k.bytes <= s.opts.Limits.OutboundMax/2:
	case s.sender.parkedBytes+k.bytes > s.sender.parkedMax():
		room = false
	default:
		s.completions.putOffUntilRoom(c, k)
		return
	}
	s.inbox.done(1)
	s.doing.on(c)
	run := k.run
	k.run = nil // Whoever did the work may know k for longer, and would keep the result in memory.
	run(c, room)
}

// resumePutOff makes the completions that were put off for c due, when it has room.
func (s *Shard) resumePutOff(c *conn) {
	if c.hasPutOff && s.sender.hasRoom(&c.out) {
		list := s.completions.takePutOff(c)
		for _, k := range list {
			s.opts.Memory.addAnswer(int64(k.bytes))
		}
		s.completions.due = append(s.completions.due, list...)
	}
}

// putOffUntilRoom keeps k until c has room for it.
func (cs *completions) putOffUntilRoom(c *conn, k *completion) {
	cs.sender.parkedBytes += k.bytes
	cs.putOffBytes += k.bytes
	cs.putOff[c.slot] = append(cs.putOff[c.slot], k)
	c.hasPutOff = true
}

// takePutOff removes the completions that were put off for c, and returns them.
func (cs *completions) takePutOff(c *conn) []*completion {
	if !c.hasPutOff {
		return nil
	}
	list := cs.putOff[c.slot]
	for _, k := range list {
		cs.sender.parkedBytes -= k.bytes
		cs.putOffBytes -= k.bytes
	}
	delete(cs.putOff, c.slot)
	c.hasPutOff = false
	return list
}
