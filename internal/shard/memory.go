package shard

import (
	"cmp"
	"slices"
	"sync/atomic"

	"wsd/internal/bus"
)

// Memory is the account of what all shards hold for their connections alone: replies, recovered publications, merged
// records, what is parked, answers on their way to the loop, what tokens said, and what clients have sent and was not
// acted on. Messages
// that connections share do not count here, but in the ring or as pinned; their places in the queues do. One Memory is
// shared by all shards.
//
// From tightPart of the limit on, nobody gets large answers; from fullPart on, each shard closes the connections that
// hold most, down to its part of shedPart. A queue counts here however small it is, so that many small ones do not add
// up to what no limit of a single connection sees.
type Memory struct {
	Limit  int64 // In bytes. Fixed.
	used   atomic.Int64
	logged seldom
}

// Parts of the limit, in percent.
const (
	shedPart  = 75
	tightPart = 80
	fullPart  = 90
)

// Used returns how many bytes the connections hold.
func (m *Memory) Used() int64 { return m.used.Load() }

// admit returns an answer, or that there is too much work while memory is tight: many answers may be under way that
// were asked for while it was not, and each becomes a reply of its own. Any goroutine.
func (m *Memory) admit(a bus.Answer) bus.Answer {
	if len(a.Records) > 0 && m.over(tightPart) {
		return bus.Answer{Result: bus.ResultOverload}
	}
	return a
}

func (m *Memory) add(n int64) {
	if n != 0 {
		m.used.Add(n)
	}
}

// over reports whether more than a part of the limit is used.
func (m *Memory) over(part int64) bool { return m.used.Load() > m.Limit/100*part }

// ownMemory returns what the shard's connections hold alone.
func (s *Shard) ownMemory() int64 {
	return s.sender.bytes - s.sender.shared + int64(s.sender.parkedBytes) + s.inbound.bytes +
		s.identities.bytes
}

// account tells the process's account what the turn has changed, and makes room if it is full.
func (s *Shard) account() {
	own := s.ownMemory()
	if own == s.accounted {
		return
	}
	s.opts.Memory.add(own - s.accounted)
	s.accounted = own
	if own > 0 && s.opts.Memory.over(fullPart) {
		s.shed()
	}
}

// shed closes the connections that hold most, until this shard's part of what is too much is free. They get no reason:
// mostly they do not read, and what waits for them is what has to go.
func (s *Shard) shed() {
	m := s.opts.Memory
	most := s.accounted * (m.Limit / 100 * shedPart) / max(m.Used(), 1)
	type holder struct {
		bytes int64
		slot  uint32
	}
	var holders []holder
	s.slab.each(func(c *conn) {
		if n := s.held(c); n > 0 {
			holders = append(holders, holder{n, c.slot})
		}
	})
	slices.SortFunc(holders, func(a, b holder) int { return cmp.Compare(b.bytes, a.bytes) })
	closed := 0
	for _, h := range holders {
		if s.ownMemory() <= most {
			break
		}
		c := s.slab.get(h.slot)
		if c.state != stateClosing {
			c.reason = ReasonMemory
		}
		s.abort(c)
		closed++
	}
	own := s.ownMemory()
	m.add(own - s.accounted)
	s.accounted = own
	if m.logged.allows() {
		s.opts.Logger.Warn("memory for clients is short: closed those that hold most", "shard", s.opts.ID,
			"closed", closed, "used", m.Used(), "limit", m.Limit,
			"metric", "wsd_closed_total{reason=memory} counts them; this line comes once a minute at most")
	}
}

// held returns what c holds alone.
func (s *Shard) held(c *conn) int64 {
	n := s.inbound.memory(c) + s.identities.memory(c)
	for i := range c.out.chunks {
		if k := &c.out.chunks[i]; k.hold == 0 {
			n += int64(k.cost())
		} else {
			n += chunkOverhead // Its place in the queue.
		}
	}
	if c.out.merge != nil {
		n += int64(c.out.merge.cost)
	}
	if c.hasPutOff {
		for _, k := range s.completions.putOff[c.slot] {
			n += int64(k.bytes)
		}
	}
	if len(s.recoveries.waiting) > 0 {
		for _, sub := range c.subs {
			if rec := s.recoveries.of(c, sub.channel); rec != nil {
				n += int64(rec.parked.cost)
			}
		}
	}
	return n
}
