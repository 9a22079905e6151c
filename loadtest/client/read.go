package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// event handles a descriptor that is ready.
func (l *loop) event(who int32) {
	c := &l.conns[who]
	if c.state == stateConnecting {
		l.connected(who)
		return
	}
	into := l.buf
	if c.rest != nil {
		c.rest = slices.Grow(c.rest, restBytes)
		into = c.rest[len(c.rest):cap(c.rest)]
	}
	n, err := epoll.Read(int(c.fd), into)
	l.now = l.e.o.Now()
	switch {
	case err != nil && again(err):
		return
	case err != nil:
		l.broken(who, err.Error())
		return
	case n == 0:
		l.broken(who, "end of the stream")
		return
	}
	l.n.WireBytes += int64(n)
	b := into[:n]
	if c.rest != nil {
		b = c.rest[:len(c.rest)+n]
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
}

// broken ends a connection that the server or the network has ended without a close frame.
func (l *loop) broken(who int32, what string) {
	if l.conns[who].state == stateHeld {
		l.disconnected(who, "1006 "+what)
	} else {
		l.refused(who, what+" while "+l.conns[who].state.doing(), 0)
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
	if l.conns[who].state == stateHeld {
		l.disconnected(who, reason)
	} else {
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
	_, _ = epoll.Write(int(c.fd), l.out)
	switch {
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
	n, err := epoll.Write(int(l.conns[who].fd), b)
	switch {
	case err != nil && !again(err):
		l.broken(who, "write: "+err.Error())
	case n < len(b):
		l.broken(who, "write: the server does not read")
	default:
		return true
	}
	return false
}

// message handles one complete message.
func (l *loop) message(who int32, payload []byte) {
	if l.e.o.Protocol == Raw {
		l.record(who, payload, len(payload))
		return
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(payload, []byte("\n")), []byte("\n")) {
		if l.conns[who].fd < 0 {
			return
		}
		l.object(who, line)
	}
}

// Beginnings of objects of the JSON protocol. The server writes no white space; with white space an object would count
// as unexpected.
var (
	pushStart  = []byte(`{"push":`)
	valueStart = []byte(seqKey)
)

// object handles one object of the JSON protocol.
func (l *loop) object(who int32, line []byte) {
	if string(line) == "{}" {
		l.n.Pings++
		l.send(who, l.pong)
		return
	}
	c := &l.conns[who]
	if !bytes.HasPrefix(line, pushStart) {
		l.reply(who, line)
		return
	}
	start := bytes.Index(line, valueStart)
	if start < 0 {
		l.n.Unexpected++
		return
	}
	size := l.e.o.Channels[c.channel].Format.size
	// A comma or brace follows the value. Anything else means that the value is longer.
	if end := start + size; end < len(line) && (line[end] == ',' || line[end] == '}') {
		l.record(who, line[start:end], size)
	} else {
		l.record(who, line[start:], -1)
	}
}

// reply handles the reply to the connect or the subscribe command.
func (l *loop) reply(who int32, line []byte) {
	var r struct {
		ID    uint32
		Error *struct {
			Code      uint32
			Message   string
			Temporary bool
		}
	}
	c := &l.conns[who]
	switch err := json.Unmarshal(line, &r); {
	case c.state != stateCommands || err != nil:
		l.n.Unexpected++
	case r.Error != nil && (r.Error.Temporary || r.Error.Code < 100):
		l.refused(who, fmt.Sprintf("error %d %s", r.Error.Code, r.Error.Message), 0)
	case r.Error != nil:
		l.giveUp(who, fmt.Sprintf("error %d %s", r.Error.Code, r.Error.Message))
	case r.ID == 2:
		l.held(who)
	}
}

// record checks one record. length is the length of its value, or -1 if that is wrong.
func (l *loop) record(who int32, b []byte, length int) {
	c := &l.conns[who]
	f := l.e.o.Channels[c.channel].Format
	seq, ts, v := f.parse(b)
	switch {
	case c.state != stateHeld:
		l.n.Unexpected++ // Before the subscription is confirmed.
	case v == recordForeign:
		l.n.Foreign++
	case v == recordCorrupt || length != f.size:
		l.n.Corrupt++
	default:
		l.n.DeliveryBytes += int64(length)
		if seq > l.e.o.Unmeasured {
			record(l.latency, l.now-ts)
		}
		if seen := &l.e.seen[c.channel]; seq > seen.Load() {
			seen.Store(seq)
		}
		c.order.take(who, seq, l.missing, &l.n)
	}
}
