package shard

import (
	"bytes"
	"slices"
	"unsafe"

	"wsd/internal/wire"
)

// inbound owns what connections have sent and the shard has not acted on: incomplete requests, frames and messages, and
// input that waits for the next turn. Every change goes through it, so that its sum is exact.
type inbound struct {
	bytes int64          // Memory of all connections' input.
	held  map[uint32]int // By slot: bytes of the command of a held connection, see hold.go.
}

// incomplete is what a connection has sent and was not acted on: a request or frame that is not complete, or input that
// waits for the next turn.
type incomplete struct {
	bytes    []byte
	headSeen int    // Of a request: bytes already searched for its end.
	commands []byte // Of a complete message: those that a turn has left for the next one. They come before bytes.
	lowWater bool   // The socket is reported only when the rest of a record is there, see awaitRecord.
}

func (in *incomplete) memory() int64 {
	if in == nil {
		return 0
	}
	return int64(unsafe.Sizeof(*in)) + int64(cap(in.bytes)) + int64(cap(in.commands))
}

// memory returns how much of the sum is c's.
func (ib *inbound) memory(c *conn) int64 {
	n := c.in.memory() + int64(c.reader.Held())
	if c.input == inputHeld {
		n += int64(ib.held[c.slot])
	}
	return n
}

// hold notes that a command of n bytes waits for c's token. The command is decoded, so it takes about as much.
func (ib *inbound) hold(c *conn, n int) {
	if ib.held == nil {
		ib.held = make(map[uint32]int)
	}
	ib.bytes += int64(n - ib.held[c.slot])
	ib.held[c.slot] = n
}

// release drops what hold has noted.
func (ib *inbound) release(c *conn) {
	if n, ok := ib.held[c.slot]; ok {
		ib.bytes -= int64(n)
		delete(ib.held, c.slot)
	}
}

// keptMin is how much must be kept to be read behind in place.
const keptMin = 4 << 10

// keep stores b, which begins with what c has kept before or is a later part of it.
func (ib *inbound) keep(c *conn, b []byte) {
	before := c.in.memory()
	if c.in == nil {
		c.in = new(incomplete)
	}
	in := c.in
	switch {
	case len(b) == 0:
		in.bytes = nil
	case len(in.bytes) > 0 && &in.bytes[0] == &b[0]: // It is where it was read.
		in.bytes = in.bytes[:len(b)]
	case cap(in.bytes) > keptMin && len(b) < cap(in.bytes)/4:
		in.bytes = append([]byte(nil), b...) // A small message does not keep the memory of a large one.
	default:
		in.bytes = append(in.bytes[:0], b...)
	}
	ib.bytes += c.in.memory() - before
}

// room returns where to read behind what is kept of c: as much as that is, so that a message is moved a few times only,
// however many pieces it comes in, and not less than least.
func (ib *inbound) room(c *conn, least int) []byte {
	in := c.in
	n := len(in.bytes)
	if cap(in.bytes)-n < max(n/4, least) {
		before := in.memory()
		in.bytes = slices.Grow(in.bytes, max(n, least))
		ib.bytes += in.memory() - before
	}
	return in.bytes[n:cap(in.bytes)]
}

// keepCommands stores a copy of the commands of a message that the turn has left.
func (ib *inbound) keepCommands(c *conn, rest []byte) {
	before := c.in.memory()
	if c.in == nil {
		c.in = new(incomplete)
	}
	c.in.commands = bytes.Clone(rest)
	ib.bytes += c.in.memory() - before
}

// takeCommands returns what keepCommands stored, which the caller may store again by leaveCommands.
func (ib *inbound) takeCommands(c *conn) (rest []byte) {
	rest = c.in.commands
	ib.leaveCommands(c, nil)
	return rest
}

// leaveCommands stores the rest of what takeCommands returned.
func (ib *inbound) leaveCommands(c *conn, rest []byte) {
	before := c.in.memory()
	c.in.commands = rest
	ib.bytes += c.in.memory() - before
}

// drop forgets what is kept of c, but for a fragmented message.
func (ib *inbound) drop(c *conn) {
	ib.bytes -= c.in.memory()
	c.in = nil
}

// next is Reader.Next for c's frames.
func (ib *inbound) next(c *conn, b []byte, messageMax int) (wire.Event, []byte, int, *wire.CloseError) {
	before := c.reader.Held()
	event, payload, n, err := c.reader.Next(b, wire.RoleServer, messageMax)
	ib.bytes += int64(c.reader.Held() - before)
	return event, payload, n, err
}

// forget drops all that c has sent, as it ends.
func (ib *inbound) forget(c *conn) {
	ib.bytes -= ib.memory(c)
	c.in, c.reader = nil, wire.Reader{}
}
