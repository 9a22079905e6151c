package shard

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"wsd/internal/wire"
)

const (
	handshakeTimeout = 10 * time.Second
	headMax          = 4 << 10 // Bytes of an upgrade request.
	messageMax       = 4 << 10 // Bytes of a message of a client. Clients have nothing to say; it is read and dropped.
	readBytes        = 256     // Buffer of a client; it grows to a frame of messageMax.
	channelMax       = 255     // Bytes of a channel's name.
	path             = "/ws"
)

// client is one connection.
type client struct {
	conn    net.Conn
	channel string
	queue   queue
	index   int         // Place in the hub's list; guarded by the hub's lock; -1: not there.
	slow    atomic.Bool // Whether it was closed because its queue was full.
}

// serve is the life of a connection: it is the reading goroutine.
func (s *Shard) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !s.await(conn) {
		return
	}
	c := &client{conn: conn, index: -1}
	buf, have, ok := s.handshake(c)
	s.answered(conn)
	if !ok {
		return
	}
	defer c.queue.close()
	defer s.hub.remove(c)
	s.read(c, buf, have)
}

var (
	rejectPath = &wire.Reject{Status: http.StatusNotFound, Body: "Connect to " + path + "?channel=NAME."}
	rejectCPU  = &wire.Reject{Status: http.StatusServiceUnavailable, Body: "The CPU is overloaded; try again."}
	rejectFull = &wire.Reject{Status: http.StatusServiceUnavailable, Body: "The shard is full; try again."}
)

// handshake reads the upgrade request and answers it. It returns what the client sent after it.
func (s *Shard) handshake(c *client) (buf []byte, have int, ok bool) {
	// If it fails, so does the read.
	_ = c.conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	buf = make([]byte, readBytes)
	length := 0
	for length == 0 {
		n, err := c.conn.Read(buf[have:])
		from := have
		have += n
		if length = wire.HeadLen(buf[:have], from); length > 0 {
			break
		}
		if err != nil || have >= headMax {
			return nil, 0, false
		}
		if have == len(buf) {
			buf = slices.Grow(buf, len(buf))[:2*len(buf)]
		}
	}
	response, rejected := wire.Handshake(nil, buf[:length], func(r *wire.Request) (wire.Accept, error) {
		query, err := url.ParseQuery(r.RawQuery)
		c.channel = query.Get("channel")
		switch {
		case r.Path != path || err != nil || c.channel == "" || len(c.channel) > channelMax:
			return wire.Accept{}, rejectPath
		case s.gate.Overloaded():
			return wire.Accept{}, rejectCPU
		case s.stat.Connections.Load() >= int64(s.o.ConnectionsMax):
			return wire.Accept{}, rejectFull
		}
		return wire.Accept{}, nil
	})
	if rejected == nil && !s.start(c, response) {
		response, rejected = wire.AppendReject(nil, rejectFull), rejectFull
	}
	if rejected != nil {
		s.stat.Refused.Add(1)
		_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, _ = c.conn.Write(response) // It is closed anyway.
		return nil, 0, false
	}
	return buf, copy(buf, buf[length:have]), true
}

// start begins to write to a client and subscribes it.
func (s *Shard) start(c *client, response []byte) bool {
	if s.pool == nil {
		q := newChannelQueue(s.o.Queue)
		c.queue = q
		if !s.hub.add(c, response) {
			return false
		}
		s.running.Go(func() { q.write(c.conn, s.o.PingInterval) })
		return true
	}
	q := &poolQueue{conn: c.conn, pool: s.pool, max: s.o.Queue}
	c.queue = q
	if !s.hub.add(c, response) {
		return false
	}
	// A timer pings, so that no goroutine waits for that.
	var timer *time.Timer
	timer = time.AfterFunc(s.o.PingInterval, func() {
		if q.put(wire.AppendFrame(nil, ws.OpPing, nil)) {
			timer.Reset(s.o.PingInterval)
		}
	})
	q.timer = timer
	return true
}

// read reads frames until the connection ends.
func (s *Shard) read(c *client, buf []byte, have int) {
	var reader wire.Reader
	for {
		used := 0
		for {
			ev, payload, n, failure := reader.Next(buf[used:have], wire.RoleServer, messageMax)
			if failure != nil {
				s.end(c, failure.Code, failure.Reason)
				return
			}
			if n == 0 {
				break
			}
			used += n
			switch ev {
			case wire.EventPing:
				c.queue.put(wire.AppendFrame(nil, ws.OpPong, payload))
			case wire.EventClose:
				code, _, failure := wire.CloseCode(payload)
				if failure != nil {
					code = failure.Code
				}
				s.end(c, code, "")
				return
			default: // A pong only proves that the client is there; what clients say is dropped.
			}
		}
		have = copy(buf, buf[used:have])
		if have == len(buf) {
			buf = slices.Grow(buf, len(buf))[:2*len(buf)]
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(2*s.o.PingInterval + handshakeTimeout))
		n, err := c.conn.Read(buf[have:])
		if have += n; err != nil {
			if isTimeout(err) {
				s.end(c, uint16(ws.StatusPolicyViolation), "no pong")
			}
			return
		}
	}
}

// end sends a close frame after what waits. The caller closes the connection.
func (s *Shard) end(c *client, code uint16, reason string) {
	s.hub.remove(c)
	c.queue.close()
	_ = send(c.conn, net.Buffers{wire.AppendClose(nil, code, reason)}) // The connection ends anyway.
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
