package shard

import (
	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/routing"
	"wsd/internal/wire"
)

// A client that has missed messages, or whose stream has become another one, is told to come back, since it cannot see a gap: each
// subscription of a protocol client ends with 2500, after which the SDKs subscribe again; a raw client is closed with 1013.
//
// Everybody concerned leaves the channels at once, so that nothing of what comes after the gap reaches who has not been told of it. The
// telling is what costs: a frame and a write each. It is spread over turns, like the closes of a shutdown.

// recall is what one connection is yet to be told.
type recall struct {
	slot, generation uint32
	channels         []string // That a protocol client has left.
}

var unsubscribeInsufficient = proto.UnsubscribeInsufficientState

// reattach continues at the head of the bus after it has detached this shard. Everybody here may have missed messages.
func (s *Shard) reattach() {
	lost := s.cursor.Lag()
	s.cursor.Reattach()
	s.stats.Reattached.Add(1)
	s.logger.Warn("the shard fell behind the bus and was detached; its subscribers are told to come back", "shard", s.id,
		"batches", lost, "subscriptions", s.stats.Subscriptions.Load())
	s.slab.each(func(c *conn) { s.recall(c, func(uint32) bool { return true }) })
}

// breakStreams acts on a break that has come over the bus.
func (s *Shard) breakStreams(br *bus.Break) {
	concerned := make(map[uint32]bool)
	last := uint32(0)
	if br.Match == nil {
		if index, ok := s.channelIndex[br.Channel]; ok {
			concerned[index], last = true, index
		}
	} else {
		for name, index := range s.channelIndex {
			if !routing.Reserved(name) && br.Match(name) {
				concerned[index], last = true, index
			}
		}
	}
	isConcerned := func(channel uint32) bool { return concerned[channel] }
	switch len(concerned) {
	case 0:
	case 1: // From the end: who leaves is replaced by the last one.
		for i := len(s.channels[last].subscribers) - 1; i >= 0; i-- {
			s.recall(s.slab.get(s.channels[last].subscribers[i].slot), isConcerned)
		}
	default:
		s.slab.each(func(c *conn) { s.recall(c, isConcerned) })
	}
}

// recall takes c off the channels concerned that it is subscribed to and has it told later. A raw client leaves all of its channels.
func (s *Shard) recall(c *conn, concerned func(channel uint32) bool) {
	if !c.isClient() {
		return
	}
	s.failRecoveringOf(c, concerned)
	var channels []string
	for i := len(c.subs) - 1; i >= c.firstChannel(); i-- {
		index := c.subs[i].channel
		if !concerned(index) {
			continue
		}
		if c.merge != nil {
			s.queueMerged(c) // From before the gap, like what is queued.
			s.markDirty(c)
		}
		channels = append(channels, s.channels[index].name)
		s.unsubscribe(c, i)
		s.stats.Recalled.Add(1)
	}
	if len(channels) == 0 {
		return
	}
	if c.recall == 0 {
		s.recalls = append(s.recalls, recall{slot: c.slot, generation: c.generation})
		c.recall = uint32(len(s.recalls))
	}
	if !c.protocol {
		s.unsubscribeAll(c)
		return
	}
	r := &s.recalls[c.recall-1]
	r.channels = append(r.channels, channels...)
}

// tellPortion tells the next portion of those who are to come back. It returns whether another portion is to follow.
func (s *Shard) tellPortion() (more bool) {
	if len(s.recalls) == 0 {
		return false
	}
	for n := 0; n < closesPerTurn && s.recallNext < len(s.recalls); s.recallNext++ {
		r := &s.recalls[s.recallNext]
		if c := s.slab.get(r.slot); c.generation == r.generation && c.recall == uint32(s.recallNext)+1 {
			s.tell(c)
			n++
		}
	}
	s.endDoomed()
	if s.recallNext < len(s.recalls) {
		return true
	}
	s.recalls, s.recallNext = nil, 0
	return false
}

// tell tells c, now, what it is yet to be told. It must come before an answer to any command about a channel.
func (s *Shard) tell(c *conn) {
	if c.recall == 0 {
		return
	}
	channels := s.recalls[c.recall-1].channels
	s.recalls[c.recall-1].channels = nil
	c.recall = 0
	switch {
	case !c.isClient():
		return
	case !c.protocol:
		s.end(c, ReasonInsufficientState)
		return
	}
	e := encodings[c.variant]
	var payload []byte
	for _, name := range channels {
		if len(payload) > 0 {
			payload = append(payload, e.Separator...)
		}
		payload = e.AppendUnsubscribePush(payload, name, unsubscribeInsufficient.Code, unsubscribeInsufficient.Reason)
	}
	s.queueReply(c, chunk{bytes: wire.AppendFrame(nil, opOf(e), payload)})
}
