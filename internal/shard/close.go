package shard

import (
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/epoll"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

// pings are the frames that ask a client for a pong, in-band by its variant.
var (
	pings = [bus.VariantCount][]byte{
		bus.VariantJSON:     wire.AppendFrame(nil, ws.OpText, []byte(proto.JSON.Ping)),
		bus.VariantProtobuf: wire.AppendFrame(nil, ws.OpBinary, []byte(proto.Protobuf.Ping)),
	}
	pingNative = wire.AppendFrame(nil, ws.OpPing, nil)
)

// A connection ends in one of three ways:
//
//   - end: an orderly close. What is queued stays or goes as the reason says, a close frame follows, our side is shut when all is
//     sent, and the socket is closed when the peer has closed too, or after CloseGrace.
//   - doom: the same, put off to the end of the current part of the turn, for code that is walking a channel's subscribers.
//   - abort: at once. Unsent bytes are dropped and the peer gets a reset.

// end closes c for reason, telling the client why.
func (s *Shard) end(c *conn, reason Reason) {
	k := closings[reason]
	code, text := k.raw, k.rawText
	if c.protocol && k.protocol.Code != 0 {
		code, text = k.protocol.Code, k.protocol.Reason
	}
	s.endWith(c, reason, code, text)
}

// endWith is end with a close code of the caller's; code 0 sends no close frame.
func (s *Shard) endWith(c *conn, reason Reason, code uint16, text string) {
	if c.state == stateClosing || c.state == stateFree {
		return
	}
	s.beginClosing(c, reason)
	if reason.dropsQueue() {
		s.dropQueued(c)
	}
	if code != 0 {
		s.queue(c, chunk{bytes: wire.AppendClose(nil, code, text)})
		return
	}
	s.markDirty(c) // The flush shuts our side.
}

// beginClosing takes c out of everything but the flush and the wheel.
func (s *Shard) beginClosing(c *conn, reason Reason) {
	switch {
	case c.merge == nil:
	case reason.dropsQueue():
		s.dropMerged(c)
	default:
		s.queueMerged(c)
	}
	s.unsubscribeAll(c)
	s.dropPutOff(c)
	s.stopWaiting(c)
	if c.isClient() {
		s.countClients(-1)
	}
	c.state, c.reason = stateClosing, reason
	c.in, c.reader = nil, wire.Reader{}
	c.pingAt, c.frameAt = 0, 0
	c.deadline = s.tick + ticks(s.limits.CloseGrace)
	s.rearm(c)
}

func (c *conn) isClient() bool {
	return c.state == stateRaw || c.state == stateJoining || c.state == stateJoined
}

// doom ends c when the current part of the turn is over.
func (s *Shard) doom(c *conn, reason Reason) {
	if !c.isClient() {
		return
	}
	// Until then nothing is queued for it, and nothing it sends is read.
	s.countClients(-1)
	c.state, c.reason = stateDoomed, reason
	s.doomed = append(s.doomed, c.slot)
}

// endDoomed ends the connections that were doomed.
func (s *Shard) endDoomed() {
	for i := 0; i < len(s.doomed); i++ { //nolint:intrange // It grows meanwhile.
		c := s.slab.get(s.doomed[i])
		if c.state != stateDoomed {
			continue
		}
		if c.reason == ReasonWriteError || c.reason == ReasonGone {
			s.abort(c)
			continue
		}
		s.end(c, c.reason)
	}
	s.doomed = s.doomed[:0]
}

// finish closes the socket of c in order: the kernel sends what it still holds.
func (s *Shard) finish(c *conn) { s.release(c, epoll.Close) }

// abort closes the socket of c at once with a reset, so that the kernel frees what a peer that does not read would hold.
func (s *Shard) abort(c *conn) { s.release(c, epoll.Reset) }

func (s *Shard) release(c *conn, closeSocket func(int)) {
	if c.state == stateFree {
		return
	}
	if c.merge != nil {
		s.dropMerged(c)
	}
	s.unsubscribeAll(c)
	s.dropPutOff(c)
	if c.isClient() {
		s.countClients(-1)
	}
	if len(s.resynced) > 0 {
		delete(s.resynced, c.slot)
	}
	s.disarm(c)
	s.clearQueue(c)
	s.countBlocked(c, -1)
	c.wantWritable = false
	closeSocket(int(c.fd)) // Also takes it out of the epoll instance.
	if c.reason == ReasonNone {
		c.reason = ReasonGone
	}
	s.stats.Closed[c.reason].Add(1)
	s.stats.Connections.Add(-1)
	s.descriptors.open.Add(-1)
	s.closedInTurn++
	// The slot is free again only after the turn: events and lists of this turn may still name it.
	c.state, c.fd, c.in, c.subs, c.reader = stateFree, -1, nil, nil, wire.Reader{}
	s.released = append(s.released, c.slot)
}

// reclaim makes the slots released in this turn free for new connections.
func (s *Shard) reclaim() {
	for _, slot := range s.released {
		s.slab.put(s.slab.get(slot))
	}
	s.released = s.released[:0]
}
