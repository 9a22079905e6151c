package shard

import "wsd/internal/bus"

// A backlog on the bus (Kafka was away, the process was stopped) can be gathered far faster than any network takes it: without a
// brake every client, however healthy, would soon have more than OutboundMax waiting and be closed as slow. So a shard leaves
// batches on the bus for a moment while clients are behind, and the ring passes the pressure on to the source, which then stops
// fetching.
//
// A slow client must not hold up the others for long. There are two cases:
//
//   - Some clients have more than half of their limit waiting, and more is on the bus: each of them gets one such moment, and no other
//     before it has caught up altogether; who is slower than its channel never does, and meets client.outbound_max. And these moments
//     take at most a quarter of the time.
//   - Many clients are behind together, so it is we who are too fast: the brake comes back as long as they take bytes.
//
// It never holds for longer than paceTicks without letting a gather through, so that the bus sees the shard move.
const (
	paceShare = 8 // Together: one of so many clients waits for the kernel,
	pacePart  = 4 // and OutboundMax/pacePart is waiting for each of them, on average.
	paceTicks = 5 // 250 ms: less than any sensible bus.stall_max.
	paceIdle  = 2 // 50 to 100 ms in which no client that waits takes a byte end it early.
	paceRest  = 3 // So many times as long as a moment lasted there is no other for clients that are behind alone.
)

// pacing is the state of the brake.
type pacing struct {
	blocked int    // Connections that wait until the kernel takes more.
	drained uint64 // Bytes that the kernel has taken from connections that waited.
	behind  int    // Connections with more than half of OutboundMax waiting that have not had their moment.
	moment  uint32 // Counts the moments given; a connection is marked with the one that it waits for.

	backlog bool   // The last gather left something on the bus.
	since   uint32 // Tick at which it began to hold.
	rest    uint32 // Tick from which a client that is behind alone may have it held again.
	until   uint32 // Tick at which the brake is let go; 0: it does not hold.
	check   uint32 // Tick at which bytes must have been taken since the last look.
	seen    uint64 // drained at the last look.
	stuck   bool   // Nothing was taken at the last look.
}

// pace reports whether the bus is to be left alone in this turn. An event or the timer brings the next one.
func (s *Shard) pace() (hold bool) {
	p := &s.pacing
	alone := p.behind > 0 && p.backlog && (p.until != 0 || s.tick >= p.rest)
	together := p.blocked > 0 && int64(p.blocked)*paceShare >= s.stats.Clients.Load() &&
		s.outboundBytes > int64(p.blocked)*int64(s.limits.OutboundMax/pacePart)
	if !alone && !together {
		s.letGo()
		return false
	}
	if p.drained != p.seen {
		p.seen, p.stuck, p.check = p.drained, false, s.tick+paceIdle
	}
	if p.until == 0 {
		if p.stuck && !alone {
			return false
		}
		if _, state := s.cursor.Next(); state != bus.StateReady {
			return false
		}
		p.since, p.until, p.check = s.tick, s.tick+paceTicks, s.tick+paceIdle
		s.stats.Paced.Add(1)
		return true
	}
	p.stuck = s.tick >= p.check
	if p.stuck || s.tick >= p.until {
		s.letGo()
		p.behind = 0
		p.moment++
		return false
	}
	return true
}

func (s *Shard) letGo() {
	p := &s.pacing
	if p.until != 0 {
		p.until, p.rest = 0, s.tick+paceRest*(s.tick-p.since)
	}
}

// next returns the tick at which pace wants to look again, 0 for none.
func (p *pacing) next() uint32 {
	if p.until == 0 {
		return 0
	}
	return min(p.until, p.check)
}

// behindBefore marks a connection that has been behind and has not caught up altogether.
const behindBefore = 1

// noteQueue keeps count of who is behind. It is called when c's queue has changed.
func (s *Shard) noteQueue(c *conn) {
	p := &s.pacing
	switch isBehind := c.outLen > s.limits.OutboundMax/2; {
	case isBehind && c.behind == 0:
		c.behind = p.moment
		p.behind++
	case !isBehind && c.behind == p.moment:
		p.behind--
		c.behind = behindBefore
	}
	if c.outLen == 0 {
		c.behind = 0
	}
}
