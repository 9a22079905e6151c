package shard

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"wsd/internal/tlsrecord"
	"wsd/internal/wire"
)

// readable takes what the socket of c holds, at most one buffer full a turn.
func (s *Shard) readable(c *conn) {
	if c.state == stateTLS && c.secure {
		// First: one that were put into the list would be here twice in the next turn, by the list and by its event.
		if sc := s.secured.of(&c.transport); sc.computing {
			s.pauseTLS(c, sc)
			return
		}
	}
	switch {
	case c.input == inputHeld:
		s.watch(c) // Not for what it sends.
		return
	case c.input != inputNone:
		return // It is in the list.
	case c.state == stateFailed:
		return // It ends in one of the next turns, and nothing that it sends matters.
	case s.work.over && c.state == stateClosing:
		return // It comes again with the next turn's events.
	case s.work.over:
		s.work.wait(c, inputSocket)
		return
	}
	b, n, err := s.fill(c)
	opened := s.secured.takeOpened() // A client may send a byte in each.
	s.work.serve()
	s.work.spend(opened / recordsUnit)
	switch {
	case err == unix.EAGAIN:
		s.afterRead(c)
		return
	case err == unix.EPROTO:
		s.peerClosed(c, ReasonTLS)
		return
	case err == unix.ETIMEDOUT:
		s.peerClosed(c, ReasonNoProgress)
		return
	case err != nil:
		s.peerClosed(c, ReasonGone)
		return
	case n == 0:
		s.peerEnded(c)
		return
	}
	s.turn.bytesIn += uint64(n)
	s.work.spend(unitsRead + n/bytesUnitRead)
	if c.state == stateClosing {
		s.discarded(c, n+opened*tlsrecord.OverheadMax)
	} else {
		s.take(c, b)
	}
	s.afterRead(c)
}

// take acts on b, the input of c, which is not closing.
func (s *Shard) take(c *conn, b []byte) {
	switch c.state {
	case stateProxy:
		s.work.spend(unitsHandshake)
		if b = s.readProxy(c, b); len(b) > 0 {
			s.take(c, b)
		}
		return
	case stateTLS:
		s.readTLS(c, b)
		return
	case stateHead:
		s.work.spend(unitsHandshake)
		if b = s.readHead(c, b); b == nil {
			return
		}
	default:
	}
	s.readFrames(c, b)
}

// discardMax is how much is read, and discarded, from a peer that has been said goodbye to. It may have as much on its
// way. One that goes on sending has not read the goodbye; to discard what it sends until CloseGrace would cost others
// more than what it did before.
const discardMax = 1 << 20

// discarded counts what was read from a connection that is closing, as it came over the wire.
func (s *Shard) discarded(c *conn, n int) {
	if c.whole += uint32(n); c.whole > discardMax {
		s.abort(c)
	}
}

// peerEnded ends a connection whose peer has sent its end.
func (s *Shard) peerEnded(c *conn) {
	// Input that had waited may have been answered in this turn.
	if !c.out.empty() && (c.isClient() || c.state == stateClosing) {
		s.flush(c)
	}
	s.peerClosed(c, ReasonGone)
}

// fill reads n bytes and returns them with what c has kept before, so that parsing always sees one run of bytes.
//
// A little that was kept is copied into the shard's buffer first. More is read behind where it is kept: a message that
// comes in many small pieces must not be copied with each of them.
func (s *Shard) fill(c *conn) (b []byte, n int, err error) {
	kept := 0
	// No more than a record: what comes after the handshake is for the record layer. A PROXY header is shorter.
	if c.state == stateTLS || c.state == stateProxy {
		if c.in != nil {
			kept = copy(s.readBuf, c.in.bytes)
		}
		n, err = c.read(&s.secured, s.readBuf[kept:tlsrecord.RecordMax])
		return s.readBuf[:kept+max(n, 0)], n, err
	}
	if c.in != nil {
		if kept = len(c.in.bytes); kept >= keptMin {
			least := 0
			if c.secure {
				least = tlsrecord.RecordMax
			}
			room := s.inbound.room(c, least)
			n, err = c.read(&s.secured, room)
			return c.in.bytes[:kept+max(n, 0)], n, err
		}
		copy(s.readBuf, c.in.bytes)
	}
	n, err = c.read(&s.secured, s.readBuf[kept:])
	return s.readBuf[:kept+max(n, 0)], n, err
}

// peerClosed ends a connection whose peer is gone or has sent its end.
func (s *Shard) peerClosed(c *conn, reason Reason) {
	if c.state != stateClosing {
		c.reason = reason
	}
	s.work.spend(unitsOfEnd(c))
	s.finish(c)
}

// readHead looks for a complete upgrade request in b and answers it. It returns the bytes that follow it, nil if there
// is no complete one.
func (s *Shard) readHead(c *conn, b []byte) []byte {
	seen := 0
	if c.in != nil {
		seen = c.in.headSeen
	}
	length := wire.HeadLen(b, seen)
	if length == 0 && len(b) <= s.opts.Limits.HeadMax {
		s.inbound.keep(c, b)
		c.in.headSeen = len(b)
		return nil
	}
	s.inbound.drop(c)
	if length == 0 || length > s.opts.Limits.HeadMax {
		s.exceeded(QuotaHead)
		s.refuseRequest(c, headTooLong, ReasonHandshakeRejected)
		return nil
	}
	s.handshake(c, b[:length])
	if c.input == inputHeld { // It comes again, with what follows it.
		s.inbound.keep(c, b)
		return nil
	}
	s.largeInDryRun(QuotaHead, length)
	return b[length:]
}

// readFrames acts on the complete frames in b, as far as c's share of the turn goes, and keeps the rest.
func (s *Shard) readFrames(c *conn, b []byte) {
	frames, inflated := 0, s.inflated
	for len(b) > 0 && c.isClient() && c.input != inputHeld && !s.work.enough() {
		event, payload, n, closeErr := s.inbound.next(c, b, s.messageMax(c))
		if closeErr != nil {
			s.failFrame(c, closeErr)
			return
		}
		if n == 0 {
			break
		}
		b = b[n:]
		frames++
		s.turn.framesIn++
		s.work.spend(unitsFrame + n/bytesUnitFrame)
		if c.reader.Idle() {
			c.frameAt = 0 // What follows is another message, with a time of its own. The wheel will find nothing due.
		}
		s.frame(c, event, payload)
	}
	if !c.isClient() || !s.charge(c, RateFrames, frames) || !s.charge(c, RateInflated, s.inflated-inflated) {
		return
	}
	if c.input == inputHeld {
		if len(b) > 0 || c.in != nil {
			s.inbound.keep(c, b)
		}
		return
	}
	if s.work.enough() && (len(b) > 0 || c.in != nil && len(c.in.commands) > 0) {
		s.inbound.keep(c, b)
		s.work.wait(c, inputBuffer)
		return
	}
	s.keepIncomplete(c, b)
}

// keepIncomplete stores the incomplete frame in b, and times the message that it belongs to from its first byte.
func (s *Shard) keepIncomplete(c *conn, b []byte) {
	if len(b) == 0 {
		s.inbound.drop(c)
	} else {
		s.inbound.keep(c, b)
	}
	if len(b) == 0 && c.reader.Idle() {
		return
	}
	if c.frameAt == 0 {
		c.frameAt = s.tick + ticks(s.opts.Limits.FrameTimeout)
		s.wheel.rearm(c)
	}
}

// messageMax returns how many bytes a message of c may have, compressed or not. The first one of a client of the
// protocol has a limit of its own: who is not connected is to cost little.
func (s *Shard) messageMax(c *conn) int {
	if c.state == stateJoining {
		return s.opts.Limits.FirstMessageMax
	}
	return s.opts.Limits.MessageMax
}

// messageQuota returns the quota that messageMax keeps.
func messageQuota(c *conn) Quota {
	if c.state == stateJoining {
		return QuotaFirstMessage
	}
	return QuotaMessage
}

// largeFrom returns from how many bytes on largeInDryRun has to look at a message.
func largeFrom(q *Quotas) int {
	least := math.MaxInt
	for _, quota := range []Quota{QuotaMessage, QuotaFirstMessage} {
		if limit := q.Limits[quota]; limit.DryRun {
			least = min(least, int(limit.Max))
		}
	}
	return least
}

// largeInDryRun counts a request or message of n bytes, which was accepted, if it is too long by a quota in a dry run.
func (s *Shard) largeInDryRun(quota Quota, n int) {
	if limit := s.opts.Quotas.Limits[quota]; limit.DryRun && int64(n) > limit.Max {
		s.exceeded(quota)
	}
}

// failFrame ends a connection that sent what it must not.
func (s *Shard) failFrame(c *conn, closeErr *wire.CloseError) {
	reason, text := ReasonProtocolError, closeErr.Reason
	if closeErr.Code == codeTooBig {
		quota := messageQuota(c)
		if s.messageMax(c) == s.opts.Limits.MessageMax {
			quota = QuotaMessage // Also for a first message that may have as much, which a dry run lets it have.
		}
		s.exceeded(quota)
		reason = ReasonTooBig
		text = fmt.Sprintf("message too big: more than %d bytes (%s)", s.messageMax(c), quota.Option())
	}
	s.endWith(c, reason, closeErr.Code, text)
}

const (
	// inflateRatio is how many times its size a compressed message may have when inflated. Commands that repeat
	// themselves get to about 30; only what was made for it gets near to deflate's 1,032.
	inflateRatio = 100
	// inflateFree is what a message may have whatever its size.
	inflateFree = 16 << 10
)

// inflate acts on a compressed message.
func (s *Shard) inflate(c *conn, event wire.Event, payload []byte) {
	limit := s.messageMax(c)
	most := min(limit, max(inflateFree, inflateRatio*len(payload)))
	event, inflated, closeErr := s.inflater.Inflate(event, payload, most)
	switch {
	case closeErr == nil:
	case closeErr.Code == codeTooBig && most < limit:
		s.endWith(c, ReasonTooBig, closeErr.Code,
			fmt.Sprintf("compressed message of more than %d times its size", inflateRatio))
		return
	default:
		s.failFrame(c, closeErr)
		return
	}
	payload = inflated
	s.stats.Inflated.Add(1)
	s.inflated += len(payload)
	s.work.spend(unitsInflate + len(payload)/bytesUnitInflated)
	s.frame(c, event, payload)
}

// frame acts on one event of the WebSocket protocol.
func (s *Shard) frame(c *conn, event wire.Event, payload []byte) {
	s.doing.event = event
	switch event {
	case wire.EventText, wire.EventBinary:
		if len(payload) > s.largeFrom {
			s.largeInDryRun(messageQuota(c), len(payload))
		}
		if c.speaks().takesCommands {
			s.commands(c, payload)
		} else if len(s.publishers) > 0 {
			s.publishRaw(c, payload)
		}
	case wire.EventDeflatedText, wire.EventDeflatedBinary:
		if c.speaks().takesCommands || s.publishesRaw(c) { // What is ignored is not worth decompressing.
			s.inflate(c, event, payload)
		}
	case wire.EventPing:
		s.sender.pong(&c.out, payload)
		s.outlet.markDirty(c)
	case wire.EventNone, wire.EventFragment: // More is to come.
	case wire.EventPong:
		if c.nativePing {
			s.pings.pong(c) // RFC 6455 §5.5.3 allows pongs that nobody asked for.
		}
	case wire.EventClose:
		code, _, closeErr := wire.CloseCode(payload)
		if closeErr != nil {
			s.endWith(c, ReasonProtocolError, closeErr.Code, closeErr.Reason)
			return
		}
		if code == codeNoStatus {
			code = codeNormal // A close frame without a code is answered by an ordinary one.
		}
		s.endWith(c, ReasonClient, code, "")
	}
}
