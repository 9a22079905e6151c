package shard

import "time"

// A deadline for what a client has to answer, a ping or a close frame, counts from when the bytes have left, not from
// when they were queued: before them others may have to leave that are allowed to wait. Of those the kernel knows. So
// when such a deadline is over while bytes still leave, it begins again. A client that takes nothing has no such
// excuse.

// closingMax bounds how long a closing connection may go on taking bytes.
const closingMax = 30 * time.Second

// emptying is what is known of connections whose deadlines wait for bytes to leave.
type emptying map[uint32]departure // By slot.

type departure struct {
	acked uint64 // Bytes that the peer had acknowledged at the last look.
	end   uint32 // Tick from which on the deadline is final; 0: none.
}

// watch is called when a deadline of c begins. It notes whether bytes have yet to leave; at end the deadline is final.
func (e emptying) watch(c *conn, end uint32) {
	if acked, all := c.acked(); !all || !c.out.empty() {
		e[c.slot] = departure{acked, end}
		c.emptying = true
	}
}

// late is watch for a deadline that is over, of which nothing was noted when it began: most connections close at once,
// and a look costs them a system call. It reports whether bytes have yet to leave, so that the deadline begins again.
func (e emptying) late(c *conn, end uint32) bool {
	if c.emptying {
		return false
	}
	e.watch(c, end)
	return c.emptying
}

// forget drops what is known of c.
func (e emptying) forget(c *conn) {
	if c.emptying {
		delete(e, c.slot)
		c.emptying = false
	}
}

// extends reports whether a deadline of c that is over begins again: bytes still leave, or the last ones have left
// since the last look.
func (e emptying) extends(c *conn, tick uint32) bool {
	if !c.emptying {
		return false
	}
	d := e[c.slot]
	acked, all := c.acked()
	switch {
	case d.end != 0 && tick >= d.end, acked == d.acked:
		return false
	case all && c.out.empty():
		e.forget(c)
	default:
		e[c.slot] = departure{acked, d.end}
	}
	return true
}
