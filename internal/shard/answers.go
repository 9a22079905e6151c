package shard

import (
	"slices"

	"wsd/internal/bus"
)

// Answers come in numbers: for all channels of a client that is back, and for all clients after a restart. A turn takes them up to a number
// of bytes, and a connection gets the next one when it has taken most of what waits for it; else a client with much to recover would be
// closed as slow for it, and would be again when it comes back.

const (
	// answersPerTurn is how many bytes of replies a turn makes of answers.
	answersPerTurn = 256 << 10
	// An answer is taken while no more than OutboundMax/answerPart waits for its connection, or while it leaves half of OutboundMax free.
	answerPart = 16
)

// answer is one on its way to a connection.
type answer struct {
	bus.Answer
	slot, generation uint32
	take             func(bus.Answer) // By the shard's goroutine.
	next             *answer
}

// bytes returns how much memory the answer's records take.
func (a *answer) bytes() (n int) {
	for i := range a.Records {
		n += len(a.Records[i].Value) + len(a.Records[i].JSON) + chunkOverhead
	}
	return n
}

// postAnswer hands an answer for c to the shard. Any goroutine.
func (s *Shard) postAnswer(a *answer) {
	for {
		a.next = s.answers.Load()
		if s.answers.CompareAndSwap(a.next, a) {
			break
		}
	}
	s.post(requestAnswers)
}

// takeAnswers acts on the answers that came, the first ones first, as many as a turn takes. The others stay in Shard.answered.
func (s *Shard) takeAnswers() {
	known := len(s.answered)
	for a := s.answers.Swap(nil); a != nil; a = a.next {
		s.answered = append(s.answered, a)
	}
	slices.Reverse(s.answered[known:])
	before, n := s.outboundBytes, 0
	for ; n < len(s.answered) && s.outboundBytes-before < answersPerTurn; n++ {
		s.takeAnswer(s.answered[n])
	}
	clear(s.answered[:n])
	if s.answered = s.answered[n:]; len(s.answered) == 0 {
		s.answered = nil
	}
	s.endDoomed()
}

// takeAnswer acts on an answer, or puts it off until its connection has room for it.
func (s *Shard) takeAnswer(a *answer) {
	c := s.slab.find(a.slot, a.generation)
	if c == nil || !c.isClient() {
		return
	}
	size := a.bytes()
	if size == 0 || s.hasRoom(c) || c.outLen+size <= s.limits.OutboundMax/2 {
		a.take(a.Answer)
		return
	}
	if s.heldBytes+size > s.limits.OutboundMax*heldMany {
		a.take(bus.Answer{Result: bus.ResultOverload})
		return
	}
	s.heldBytes += size
	s.putOff[c.slot] = append(s.putOff[c.slot], a)
	c.hasPutOff = true
}

// hasRoom reports whether c can be given an answer of any size.
func (s *Shard) hasRoom(c *conn) bool { return c.outLen <= s.limits.OutboundMax/answerPart }

// takePutOff has the answers that were put off for c looked at again.
func (s *Shard) takePutOff(c *conn) {
	s.answered = append(s.answered, s.dropPutOff(c)...)
}

// dropPutOff forgets the answers that were put off for c, and returns them.
func (s *Shard) dropPutOff(c *conn) []*answer {
	if !c.hasPutOff {
		return nil
	}
	list := s.putOff[c.slot]
	for _, a := range list {
		s.heldBytes -= a.bytes()
	}
	delete(s.putOff, c.slot)
	c.hasPutOff = false
	return list
}
