package client

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

func again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, os.ErrDeadlineExceeded)
}

// event handles a descriptor that is ready.
func (l *loop) event(who int32) {
	c := &l.conns[who]
	switch {
	case c.state == stateConnecting:
		l.connected(who)
		return
	case c.state == stateSecuring:
		return // The handshake's goroutine sees errors.
	case c.bad != nil && c.bad.blind:
		c.bad.rest() // Only the end of the connection is reported. What the server has said before is still to be read.
		l.watch(who, true)
	}
	// TLS may hold more than one read returns, of which epoll does not know.
	for more := true; more && c.fd >= 0; more = c.tls != nil {
		if !l.readOnce(who, len(l.buf)) {
			return
		}
	}
}

// readOnce reads at most size bytes and handles the complete frames. It reports whether there may be more.
func (l *loop) readOnce(who int32, size int) bool {
	c := &l.conns[who]
	into := l.buf
	if c.rest != nil {
		c.rest, into = grown(c.rest, restBytes)
	}
	n, err := l.read(c, into[:min(size, len(into))])
	l.now = l.e.o.Now()
	switch {
	case err != nil && again(err):
		return false
	case err == nil && n == 0 || errors.Is(err, io.EOF):
		l.broken(who, "end of the stream")
		return false
	case err != nil:
		l.broken(who, err.Error())
		return false
	}
	l.n.WireBytes += int64(n)
	b := into[:n]
	if c.rest != nil {
		b = c.rest[:len(c.rest)+n]
	}
	if c.bad != nil {
		c.bad.gotAt = l.now
	}
	used := l.consume(who, b)
	switch {
	case c.fd < 0:
	case used == len(b):
		c.rest = nil
	case c.rest == nil:
		c.rest = append(make([]byte, 0, restBytes), b[used:]...)
	default:
		c.rest = append(c.rest[:0], b[used:]...)
	}
	return true
}

// broken ends a connection that the server or the network has ended without a close frame.
func (l *loop) broken(who int32, what string) {
	switch c := &l.conns[who]; {
	case c.bad != nil:
		l.badCut(who)
	case c.state == stateHeld:
		l.disconnected(who, "1006 "+what)
	default:
		l.refused(who, what+" while "+c.state.doing(), 0)
	}
}

// consume handles the complete frames at the start of b, and returns the number of bytes it used. The client may be
// closed afterwards.
func (l *loop) consume(who int32, b []byte) (used int) {
	c := &l.conns[who]
	if c.state == stateHandshake {
		if used = l.handshake(who, b); used == 0 {
			return 0
		}
	}
	for c.fd >= 0 {
		ev, payload, n, failure := c.reader.Next(b[used:], wire.RoleClient, messageMax)
		if failure != nil {
			l.violated(who, failure)
			return used
		}
		if n == 0 {
			return used
		}
		used += n
		switch ev {
		case wire.EventText, wire.EventBinary:
			l.message(who, payload)
		case wire.EventPing:
			l.n.Pings++
			l.out = wire.AppendMasked(l.out[:0], ws.OpPong, payload, mask)
			l.send(who, l.out)
		case wire.EventClose:
			l.closeFrame(who, payload)
		case wire.EventNone, wire.EventFragment, wire.EventPong:
		case wire.EventDeflatedText, wire.EventDeflatedBinary:
			if _, payload, failure = l.inflater.Inflate(ev, payload, messageMax); failure != nil {
				l.violated(who, failure)
				return used
			}
			l.message(who, payload)
		}
	}
	return used
}

// violated ends a connection on which the server has violated the protocol.
func (l *loop) violated(who int32, failure *wire.CloseError) {
	reason := "broken frame: " + failure.Reason
	switch c := &l.conns[who]; {
	case c.bad != nil:
		l.bad.Corrupt++
		l.badCut(who)
	case c.state == stateHeld:
		l.disconnected(who, reason)
	default:
		l.attemptFailed(who, reason)
	}
}

// closeFrame answers the server's close frame and ends the connection.
func (l *loop) closeFrame(who int32, payload []byte) {
	code, text, failure := wire.CloseCode(payload)
	if failure != nil {
		l.violated(who, failure)
		return
	}
	reason := fmt.Sprintf("%d %s", code, text)
	c := &l.conns[who]
	l.out = wire.AppendMasked(l.out[:0], ws.OpClose, payload, mask)
	// Ignore the error: the connection ends anyway.
	_, _ = l.write(c, l.out)
	switch {
	case c.bad != nil:
		l.badClosed(who, code, reason)
	case c.state == stateHeld:
		l.disconnected(who, reason)
	case code >= 3500 && code < 4000 || code >= 4500 && code < 5000:
		l.giveUp(who, "close "+reason) // With these codes, clients must not reconnect.
	default:
		l.refused(who, "close "+reason, 0)
	}
}

// send writes b, which is short enough for the socket's buffer, and reports whether the connection is still open.
func (l *loop) send(who int32, b []byte) bool {
	c := &l.conns[who]
	n, err := l.write(c, b)
	switch {
	case err != nil && !again(err) && c.bad != nil && c.state == stateHeld:
		c.bad.rest() // What the server has said before is still to be read.
	case err != nil && !again(err):
		l.broken(who, "write: "+err.Error())
	case n < len(b):
		l.broken(who, "write: the server does not read")
	default:
		return true
	}
	return false
}

// record checks one record. length is the length of its value, or -1 if that is wrong.
func (l *loop) record(who int32, b []byte, length int) {
	c := &l.conns[who]
	f := l.e.o.Channels[c.channel].Format
	seq, ts, v := f.parse(b)
	n := &l.n
	if c.bad != nil {
		n = &l.bad.Records
	}
	switch {
	case c.state != stateHeld:
		n.Unexpected++ // Before the subscription is confirmed.
	case v == recordForeign:
		n.Foreign++
	case v == recordCorrupt || length != f.size:
		n.Corrupt++
	case c.bad != nil:
		l.badRecord(who, seq, ts)
	default:
		n.DeliveryBytes += int64(length)
		if seq > l.e.o.Unmeasured {
			record(l.recent.Latency, l.now-ts)
		}
		if seen := &l.e.seen[c.channel]; seq > seen.Load() {
			seen.Store(seq)
		}
		c.order.take(who, seq, l.missing, n)
	}
}

// watch lets epoll report that a client's socket is readable, or only its end.
func (l *loop) watch(who int32, on bool) {
	c := &l.conns[who]
	ready := uint32(0)
	if on {
		ready = epoll.Readable
	}
	if err := l.poller.Modify(int(c.fd), ready, who, c.fd); err != nil {
		panic(fmt.Sprintf("BUG: watch socket: %v", err))
	}
	if c.bad != nil {
		c.bad.blind = !on
	}
	if tls := c.tls; on && tls != nil {
		l.post(func(l *loop) { // What TLS holds since the client read slowly is nothing that epoll knows of.
			if l.conns[who].tls == tls {
				l.event(who)
			}
		})
	}
}
