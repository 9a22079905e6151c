package shard

import "wsd/internal/bus"

// A backlog on the bus (Kafka was away, the process was stopped) can be gathered far faster than any network takes it: without a
// brake every client, however healthy, would soon have more than OutboundMax waiting and be closed as slow. So a shard leaves
// batches on the bus for a moment while clients are behind, and the ring passes the pressure on to the source, which then stops
// fetching.
//
// A slow client must not hold up the others for long. There are three cases:
//
//   - Most clients are behind together, so it is we who are too fast: the brake holds whenever they are, as long as they take bytes.
//   - Many are, though not most, and the bus holds more than half of OutboundMax, which a client in order could not take at once: the
//     same, but this and the next case share a budget of time.
//   - Some have more than half of OutboundMax waiting while the bus holds as much. The budget ends this for a client that is slower than
//     its channel, which then meets its limit.
//
// A client that conflates is in none of them: more than its keys it cannot have waiting, and it needs no brake.
//
// It never holds for longer than paceMax without letting a gather through, so that the bus sees the shard move.
const (
	pacePart  = 4  // Most or many: OutboundMax/pacePart is waiting for each client that waits for the kernel, on average,
	paceDone  = 16 // until no more than OutboundMax/paceDone is waiting for each client.
	paceMany  = 4  // Many: at least so many clients wait for the kernel,
	paceShare = 8  // and one in so many of all.
	paceMax   = 5  // 250 ms: less than any sensible bus.stall_max.
	paceIdle  = 2  // 50 to 100 ms in which no client that waits takes a byte end it early.

	paceBudget = 200 // 10 s, spent by holding,
	paceRefill = 10  // and given back at a tenth of that speed.
)

// pacing is the state of the brake.
type pacing struct {
	blocked int    // Connections that wait until the kernel takes more, and do not conflate.
	drained uint64 // Bytes that the kernel has taken from those.
	behind  int    // Connections with more than half of OutboundMax waiting, but for those that took nothing when it held for them.
	moment  uint32 // Counts the times that clients took nothing; a connection is marked with the one in which it fell behind.

	apart      int64 // Connections that conflate,
	apartBytes int64 // and what waits for them.

	together bool   // It holds for most or many clients.
	most     bool   // It holds for most.
	since    uint32 // Tick at which it began to hold.
	until    uint32 // Tick at which the brake is let go; 0: it does not hold.
	check    uint32 // Tick at which bytes must have been taken since the last look.
	seen     uint64 // drained at the last look.
	stuck    bool   // Nothing was taken at the last look.

	spent   uint32 // Ticks of the budget in use at tick spentAt.
	spentAt uint32
}

// pace reports whether the bus is to be left alone in this turn. An event or the timer brings the next one.
func (s *Shard) pace() (hold bool) {
	p := &s.pacing
	if p.drained != p.seen {
		p.seen, p.stuck, p.check = p.drained, false, s.tick+paceIdle
	}
	if p.until == 0 {
		return s.startHold()
	}
	caughtUp := p.behind == 0
	if p.together {
		caughtUp = s.outboundBytes-p.apartBytes <= (s.stats.Clients.Load()-p.apart)*int64(s.limits.OutboundMax/paceDone)
	}
	p.stuck = s.tick >= p.check
	if !caughtUp && !p.stuck && s.tick < p.until {
		return true
	}
	if !caughtUp && p.stuck {
		p.behind = 0
		p.moment++
	}
	if !p.most {
		p.spent += s.tick - p.since
	}
	p.until = 0
	return false
}

func (s *Shard) startHold() (hold bool) {
	p := &s.pacing
	if p.blocked == 0 {
		return false
	}
	next, state := s.cursor.Next()
	if state != bus.StateReady {
		return false
	}
	affordable := s.cursor.Waiting(next) > uint64(s.limits.OutboundMax/2) && p.refill(s.tick) < paceBudget
	clients, blocked := s.stats.Clients.Load()-p.apart, int64(p.blocked)
	most := blocked*2 > clients
	many := affordable && blocked >= paceMany && blocked*paceShare >= clients
	p.together = !p.stuck && (most || many) && s.outboundBytes-p.apartBytes > blocked*int64(s.limits.OutboundMax/pacePart)
	p.most = p.together && most
	if !p.together && (!affordable || p.behind == 0) {
		return false
	}
	p.since, p.until, p.check = s.tick, s.tick+paceMax, s.tick+paceIdle
	s.stats.Paced.Add(1)
	return true
}

// refill gives back what time has earned and returns what is spent.
func (p *pacing) refill(tick uint32) uint32 {
	earned := (tick - p.spentAt) / paceRefill
	p.spent -= min(p.spent, earned)
	p.spentAt += earned * paceRefill
	return p.spent
}

// next returns the tick at which pace wants to look again, 0 for none.
func (p *pacing) next() uint32 {
	if p.until == 0 {
		return 0
	}
	return min(p.until, p.check)
}

// countBlocked adds n to the connections that wait for the kernel, if c is one.
func (s *Shard) countBlocked(c *conn, n int) {
	if c.wantWritable && c.merge == nil {
		s.pacing.blocked += n
	}
}

// setMerge makes c a connection that conflates, or with nil one that does not.
func (s *Shard) setMerge(c *conn, m *merge) {
	p := &s.pacing
	if c.merge != nil {
		p.apart--
		p.apartBytes -= int64(c.outLen)
	}
	s.countBlocked(c, -1)
	c.merge = m
	s.countBlocked(c, 1)
	if c.merge != nil {
		p.apart++
		p.apartBytes += int64(c.outLen)
	}
	s.noteQueue(c)
}

// noteQueue keeps count of who is behind.
func (s *Shard) noteQueue(c *conn) {
	p := &s.pacing
	switch isBehind := c.outLen > s.limits.OutboundMax/2 && c.merge == nil; {
	case isBehind && c.behind == 0:
		c.behind = p.moment
		p.behind++
	case !isBehind && c.behind != 0:
		if c.behind == p.moment {
			p.behind--
		}
		c.behind = 0
	}
}
