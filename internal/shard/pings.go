package shard

import "math/rand/v2"

// pings asks clients for signs of life, in time, and takes their answers.
type pings struct {
	limits   *Limits
	clock    *clock
	stats    *Stats
	wheel    *wheel
	emptying *emptying
	flows    *flows
	outlet   *outlet
	random   *rand.Rand
}

// schedule starts the pings of c. The first comes after a random part of the interval, so that clients which
// connected together, as they do after a restart, are not pinged together for ever.
func (ps *pings) schedule(c *conn) {
	interval := ticks(ps.limits.PingInterval)
	c.pingAt = ps.clock.tick + interval/2 + ps.random.Uint32N(interval/2+1)
	ps.wheel.rearm(c)
}

// pingFrame is what asks c for a pong.
func (c *conn) pingFrame() []byte {
	if c.nativePing {
		return pingNative
	}
	return c.speaks().ping
}

// ping sends an ordinary ping.
func (ps *pings) ping(c *conn) {
	c.pings++
	c.pingAt = ps.clock.tick + ticks(ps.limits.PongTimeout)
	ps.emptying.watch(c, 0)
	ps.flows.pinged(c, pingInFlight{tick: ps.clock.tick})
	ps.outlet.sender.pushControl(&c.out, chunk{bytes: c.pingFrame()})
	ps.outlet.markDirty(c)
}

// afterPortion sends a ping whose pong says that the client has handled the portion before it. It may take long.
func (ps *pings) afterPortion(c *conn, p pingInFlight) {
	if !c.isClient() {
		return
	}
	c.pings++
	ps.emptying.watch(c, 0)
	ps.flows.pinged(c, p)
	ps.outlet.queue(c, chunk{bytes: c.pingFrame()})
	ps.await(c)
}

// await sets the deadline of the oldest pong that c owes: longer while it handles portions.
func (ps *pings) await(c *conn) {
	timeout := ps.limits.PongTimeout
	if c.hasFlow && ps.flows.bySlot[c.slot].bytes > 0 {
		timeout = max(timeout, pongPatience)
	}
	c.pingAt = ps.clock.tick + ticks(timeout)
	ps.wheel.rearm(c)
}

// pong takes note of an answer to our oldest ping. The next ordinary ping follows one interval after the last, or
// soon if that is not known to have been lately: clients time our pings, too.
func (ps *pings) pong(c *conn) (expected bool) {
	if c.pings == 0 {
		return false
	}
	c.pings--
	interval, timeout := ticks(ps.limits.PingInterval), ticks(ps.limits.PongTimeout)
	switch {
	case c.hasFlow:
		ps.pongOfFlow(c, ps.flows.bySlot[c.slot])
	case c.pings > 0:
		ps.await(c)
	case c.emptying:
		c.pingAt = ps.clock.tick + interval/2
		ps.wheel.rearm(c)
	default:
		c.pingAt = c.pingAt - timeout + max(interval, timeout)
		// The wheel still holds the pong's deadline, which is earlier: it finds the new one there.
	}
	if c.pings == 0 {
		ps.emptying.forget(c)
	}
	return true
}

// pongOfFlow is pong for a connection with streams, which go on.
func (ps *pings) pongOfFlow(c *conn, f *flow) {
	p := f.ponged(ps.clock.tick)
	if p.recovered != RecoveryNone {
		ps.stats.Recovered[p.recovered].Add(1)
	}
	if c.pings > 0 {
		ps.await(c)
	} else {
		since := ps.clock.tick - p.tick
		c.pingAt = ps.clock.tick + max(ticks(ps.limits.PingInterval), since+1) - since
		ps.wheel.rearm(c)
	}
	ps.flows.list(c, f)
}
