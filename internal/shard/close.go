package shard

import (
	"context"
	"log/slog"

	"wsd/internal/proto"
	"wsd/internal/shrink"
	"wsd/internal/tlsrecord"
	"wsd/internal/wire"
)

// A connection ends in one of three ways:
//
//   - end: an orderly close. What is queued stays or goes as the reason says, a close frame follows, our side is shut
//     when all is sent, and the socket is closed when the peer has closed too, or after CloseGrace.
//   - fail: the same, put off to the end of the turn, for code that is walking a channel's subscribers. If many fail at
//     once, some end in the next turns.
//   - abort: at once. Unsent bytes are dropped and the peer gets a reset.
//
// Whichever it is, leave undoes what the shard keeps for a connection, and sender.discard what it was to be sent.

// end closes c for reason, telling the client why.
func (s *Shard) end(c *conn, reason Reason) {
	code, text := c.speaks().closeCode(reason)
	s.endWith(c, reason, code, text)
}

// endSaying is end with what was wrong, which the close frame's text and the log say beside the reason.
func (s *Shard) endSaying(c *conn, reason Reason, what string) {
	code, text := c.speaks().closeCode(reason)
	if s.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		s.opts.Logger.Debug("closing a connection", "address", s.proxied.client(c), "reason", reason, "what", what)
	}
	if what != "" {
		text += ": " + what
	}
	s.endWith(c, reason, code, text)
}

// endWith is end with a close code of the caller's; code 0 sends no close frame.
func (s *Shard) endWith(c *conn, reason Reason, code uint16, text string) {
	if c.state == stateClosing || c.state == stateFree {
		return
	}
	s.beginClosing(c, reason)
	if code != 0 {
		s.outlet.queue(c, chunk{bytes: wire.AppendClose(nil, code, text)})
		return
	}
	s.outlet.markDirty(c) // The flush shuts our side.
}

// endAsTold is endWith with a code that the application chose. Code 3000 says nothing about why: it sends no close
// frame, so that clients take it for a lost connection, as with Centrifugo.
func (s *Shard) endAsTold(c *conn, reason Reason, code uint16, text string) {
	if code == proto.DisconnectClosed.Code {
		code = 0
	}
	s.endWith(c, reason, code, text)
}

// beginClosing takes c out of everything but the flush and the wheel.
func (s *Shard) beginClosing(c *conn, reason Reason) {
	if c.input == inputHeld {
		if s.unhold(c); c.state == stateFree {
			return
		}
	}
	s.sender.finish(&c.out, reason.dropsQueue())
	s.leave(c)
	c.state, c.reason = stateClosing, reason
	c.pingAt, c.frameAt, c.whole = 0, 0, 0
	c.deadline = s.tick + ticks(s.opts.Limits.CloseGrace)
	s.wheel.rearm(c)
}

// leave undoes what the shard keeps for c beside its outbox, its timer and its socket. It does nothing the second time.
func (s *Shard) leave(c *conn) {
	s.endHandshake(c)
	s.secured.abandon(&c.transport)
	s.channels.unsubscribeAll(c)
	s.forgetIdentity(c)
	s.calls.forget(c)
	s.inbox.done(len(s.completions.takePutOff(c)))
	s.recalls.forget(c)
	s.resyncs.forget(c)
	s.emptying.forget(c)
	s.flows.forget(c)
	delete(s.dryRuns, c.slot)
	delete(s.publishers, c.slot)
	if c.isClient() || c.state == stateFailed {
		s.countClients(-1)
	}
	s.inbound.forget(c)
}

// finish closes the socket of c in order: the kernel sends what it still holds.
func (s *Shard) finish(c *conn) {
	s.secured.say(&c.transport, tlsrecord.AlertCloseNotify)
	s.release(c, (*transport).close)
}

// abort closes the socket of c at once with a reset, so that the kernel frees what a peer that does not read would
// hold.
func (s *Shard) abort(c *conn) { s.release(c, (*transport).reset) }

func (s *Shard) release(c *conn, closeSocket func(*transport)) {
	if c.state == stateFree {
		return
	}
	s.sender.discard(&c.out) // First: what is merged is not looked through for each channel that c leaves.
	s.leave(c)
	s.wheel.disarm(c)
	s.secured.forget(&c.transport)
	closeSocket(&c.transport) // Also takes it out of the epoll instance.
	if c.reason == ReasonNone {
		c.reason = ReasonGone
	}
	s.stats.Closed[c.reason].Add(1)
	s.leavePlace(c)
	s.proxied.forget(c)
	s.countConnections(-1)
	s.accepting.closed++
	// The slot is free again only after the turn: events and lists of this turn may still name it.
	c.state, c.fd = stateFree, -1
	s.released = append(s.released, c.slot)
}

// reclaim makes the slots released in this turn free for new connections.
func (s *Shard) reclaim() {
	for _, slot := range s.released {
		s.slab.put(s.slab.get(slot))
	}
	s.released = shrink.Slice(s.released, len(s.released))
}

// countConnections counts n more connections, or fewer.
func (s *Shard) countConnections(n int) {
	s.connections += n
	s.stats.Connections.Store(int64(s.connections))
	s.opts.Descriptors.open.Add(int64(n))
}
