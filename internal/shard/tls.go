package shard

import (
	"bytes"
	"context"
	"log/slog"

	"wsd/internal/epoll"
	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
	"wsd/internal/wire"
)

// TLS is which listeners of a shard speak TLS, and who does their handshakes.
type TLS struct {
	// Handshakes does the handshakes; nil: no listener speaks TLS. It is shared by all shards.
	Handshakes *tlshandshake.Pool
	// From is the index of the first listener that speaks TLS; all that follow do.
	From int
}

// speaks reports whether the listener with the given index speaks TLS.
func (o *TLS) speaks(listener int) bool { return o.Handshakes != nil && listener >= o.From }

// A connection of a TLS port begins in stateTLS. The loop collects the client's first record; then a goroutine of the
// pool computes, step by step. While it does, nothing is read from the connection. When it is done, the connection goes
// on in stateHead as any other, with a transport that opens and seals records.

// recordType is that of handshake messages, with which every TLS connection begins.
const recordType = 22

var notTLS = &wire.Reject{Cause: causeNotTLS, Status: 400,
	Body: "This port speaks TLS: use wss:// or https:// instead of ws:// or http://."}

// readTLS takes what a client has sent in its handshake. b has at most tlsrecord.RecordMax bytes.
func (s *Shard) readTLS(c *conn, b []byte) {
	if !c.secure && b[0] != recordType {
		s.refuseNotTLS(c, b)
		return
	}
	whole, ok := wholeRecords(b)
	if !ok {
		s.peerClosed(c, ReasonTLS)
		return
	}
	if whole == 0 {
		s.inbound.keep(c, b)
		s.awaitRecord(c)
		return
	}
	if c.in != nil && c.in.lowWater {
		c.in.lowWater = false
		epoll.SetLowWater(int(c.fd), 1)
	}
	records := bytes.Clone(b[:whole])
	if whole < len(b) {
		s.inbound.keep(c, b[whole:])
	} else {
		s.inbound.drop(c)
	}
	if !c.secure {
		s.beginTLS(c, records)
		return
	}
	sc := s.secured.of(&c.transport)
	sc.computing = true
	sc.handshake.Feed(records)
}

// awaitRecord has c's socket reported only when the rest of the record that it has begun is there: a client that sends
// its ClientHello byte by byte costs two reads, not one for each byte.
func (s *Shard) awaitRecord(c *conn) {
	missing := tlsrecord.HeaderLen - len(c.in.bytes)
	if missing <= 0 {
		missing += int(c.in.bytes[3])<<8 + int(c.in.bytes[4])
	}
	c.in.lowWater = true
	epoll.SetLowWater(int(c.fd), missing)
}

// refuseNotTLS ends a connection whose client does not speak TLS: with an HTTP response if it speaks HTTP.
func (s *Shard) refuseNotTLS(c *conn, b []byte) {
	if r := wire.RefuseProxy(b); r != nil {
		s.inbound.drop(c)
		s.refuseRequest(c, r, ReasonHandshakeRejected)
		return
	}
	if b[0] < 'A' || b[0] > 'Z' { // Methods are of these letters.
		s.peerClosed(c, ReasonTLS)
		return
	}
	s.inbound.drop(c)
	s.refuseRequest(c, notTLS, ReasonHandshakeRejected)
}

// wholeRecords returns how many bytes at the start of b are complete records. ok is false if no record of a handshake
// can be so.
func wholeRecords(b []byte) (n int, ok bool) {
	for len(b)-n >= tlsrecord.HeaderLen {
		length := tlsrecord.HeaderLen + int(b[n+3])<<8 + int(b[n+4])
		if b[n+1] != 3 || length > tlsrecord.RecordMax {
			return 0, false
		}
		if len(b)-n < length {
			break
		}
		n += length
	}
	return n, true
}

// beginTLS begins the handshake with the client's first records.
func (s *Shard) beginTLS(c *conn, records []byte) {
	k := s.inbox.begin(c)
	if k == nil {
		c.reason = ReasonInternal
		s.abort(c)
		return
	}
	sc := s.secured.add(&c.transport)
	sc.computing = true
	s.secured.setHandshake(sc, s.opts.TLS.Handshakes.Begin(records, s.reportTo(k)))
	if sc.handshake == nil {
		s.inbox.done(1)
		c.reason = ReasonTLS
		s.abort(c)
	}
}

// reportTo returns a function that brings a step of a handshake to the loop. Any goroutine may call it.
func (s *Shard) reportTo(k *completion) func(tlshandshake.Step) {
	return func(step tlshandshake.Step) {
		k.post(0, false, func(c *conn, _ bool) { s.stepTLS(c, &step) })
	}
}

// stepTLS acts on a step of c's handshake.
func (s *Shard) stepTLS(c *conn, step *tlshandshake.Step) {
	sc := s.secured.of(&c.transport)
	if len(step.Out) > 0 {
		if err := s.secured.send(&c.transport, sc, step.Out); err != nil {
			c.reason = verdictOf(err).reason()
			s.abort(c)
			return
		}
	}
	sc.computing = false
	if sc.paused {
		sc.paused = false
		s.watch(c)
	} else {
		s.blockIfHeld(c)
	}
	switch {
	case c.state == stateFree:
	case !step.Done:
		k := s.inbox.begin(c)
		if k == nil {
			c.reason = ReasonInternal
			s.abort(c)
			return
		}
		sc.handshake.Await(s.reportTo(k))
	case step.Err != nil:
		s.secured.setHandshake(sc, nil)
		if s.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
			s.opts.Logger.Debug("TLS handshake failed", "client", s.proxied.client(c), "error", step.Err,
				"shard", s.opts.ID)
		}
		s.peerClosed(c, ReasonTLS)
	default:
		s.endTLS(c, sc, step)
	}
}

// endTLS goes on after a handshake that succeeded, with what the client has sent behind its last message.
func (s *Shard) endTLS(c *conn, sc *secureConn, step *tlshandshake.Step) {
	s.secured.setHandshake(sc, nil)
	sc.records, sc.fresh = step.Conn, true
	rest := step.Rest
	if c.in != nil {
		rest = append(rest, c.in.bytes...)
		s.inbound.drop(c)
	}
	s.secured.keepPartial(sc, rest)
	c.state = stateHead
	s.readable(c)
}

// pauseTLS leaves what the client sends in its socket while its handshake computes. The socket is still watched for
// its failure.
func (s *Shard) pauseTLS(c *conn, sc *secureConn) {
	if sc.paused {
		s.peerClosed(c, ReasonGone) // Nothing else is reported.
		return
	}
	sc.paused = true
	if err := s.poller.Modify(int(c.fd), 0, int32(c.slot), int32(c.generation)); err != nil {
		c.reason = ReasonInternal
		s.abort(c)
	}
}

// blockIfHeld has a connection wait until its socket is writable, if sealed bytes wait.
func (s *Shard) blockIfHeld(c *conn) {
	if c.state != stateFree && s.secured.holds(&c.transport) && !c.out.blocked && c != s.accepting.opening {
		s.sender.setBlocked(&c.out, true)
		s.watch(c)
	}
}

// afterRead does what a read of a secure transport leaves to do.
func (s *Shard) afterRead(c *conn) {
	if c.state == stateFree || !c.secure {
		return
	}
	s.blockIfHeld(c)
	if c.state == stateFree || !s.secured.ended(&c.transport) || c.input != inputNone {
		return
	}
	if c.state == stateClosing {
		s.peerEnded(c)
		return
	}
	s.work.wait(c, inputSocket) // No event may come for it.
}
