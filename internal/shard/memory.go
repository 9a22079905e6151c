package shard

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"wsd/internal/bus"
	"wsd/internal/stats"
)

// Memory is the account of what all shards hold for their connections alone: replies, recovered publications, merged
// records, what is parked, answers on their way to the loop, what tokens said, TLS handshakes, what clients have sent
// and was not acted on, and their calls of the backend. Requests of the server API count here, too. Messages that
// connections share do not, but in the ring or as pinned; their places in the queues do. One Memory is shared by all
// shards.
//
// From tightPart of the limit on, nobody gets large answers; from fullPart on, each shard closes the connections that
// hold most, down to its part of shedPart. A queue counts here however small it is, so that many small ones do not add
// up to what no limit of a single connection sees.
//
// Answers, which are histories and recovered publications, have a part of it that they do not exceed by more than what
// is under way in the same moment: a command of 60 bytes asks for a megabyte, and clients that ask and do not read must
// not take the memory that all others need.
type Memory struct {
	Limit        int64 // In bytes. Fixed.
	AnswersLimit int64 // The same for answers; 0: none but Limit. Fixed.
	used         atomic.Int64
	answers      atomic.Int64
	requests     atomic.Int64 // What Reserve has counted.
	logged       stats.Seldom
}

// Parts of the limit, in percent.
const (
	shedPart     = 75
	tightPart    = 80
	fullPart     = 90
	requestsPart = 25 // What requests of the server API may have together.
)

// answersPatience is for how long answers may be full before those that hold most of them are closed.
const answersPatience = 3 * time.Second

// Used returns how many bytes the connections hold.
func (m *Memory) Used() int64 { return m.used.Load() }

// Answers returns how many of them are histories and recovered publications.
func (m *Memory) Answers() int64 { return m.answers.Load() }

// refusesAnswers reports whether there is no memory for answers, and counts it. Any goroutine.
func (s *Shard) refusesAnswers() bool {
	m := s.opts.Memory
	return m.over(tightPart) && s.exceeded(QuotaMemory) ||
		m.AnswersLimit > 0 && m.answers.Load() >= m.AnswersLimit && s.exceeded(QuotaAnswers)
}

// admit returns an answer, or that there is too much work while there is no memory for it: many answers may be under
// way that were asked for while there was, and each becomes a reply of its own. Any goroutine.
func (s *Shard) admit(a bus.Answer) bus.Answer {
	if len(a.Records) > 0 && s.refusesAnswers() {
		return bus.Answer{Result: bus.ResultOverload}
	}
	return a
}

func (m *Memory) add(n int64) {
	if n != 0 {
		m.used.Add(n)
	}
}

// addAnswer counts n more bytes of answers, or fewer, that are on their way to a shard or wait there for room. Any
// goroutine.
func (m *Memory) addAnswer(n int64) {
	if n != 0 {
		m.used.Add(n)
		m.answers.Add(n)
	}
}

// Reserve counts n bytes that requests of the server API hold. It returns false, and counts nothing, if they would hold
// more than their part, or if there is no memory for clients' answers either. Any goroutine.
func (m *Memory) Reserve(n int64) bool {
	if m.requests.Add(n) > m.Limit/100*requestsPart || m.over(tightPart) {
		m.requests.Add(-n)
		return false
	}
	m.used.Add(n)
	return true
}

// Release counts n bytes less that requests of the server API hold. Any goroutine.
func (m *Memory) Release(n int64) {
	m.requests.Add(-n)
	m.used.Add(-n)
}

// Requests returns how many bytes requests of the server API hold.
func (m *Memory) Requests() int64 { return m.requests.Load() }

// over reports whether more than a part of the limit is used.
func (m *Memory) over(part int64) bool { return m.used.Load() > m.Limit/100*part }

// ownMemory returns what the shard's connections hold alone.
func (s *Shard) ownMemory() int64 {
	return s.sender.bytes - s.sender.shared + int64(s.sender.parkedBytes) + s.inbound.bytes +
		s.secured.bytes + s.identities.bytes + s.calls.bytes
}

// ownAnswers returns what the shard's connections hold of answers.
func (s *Shard) ownAnswers() int64 {
	return s.sender.answers + int64(s.completions.putOffBytes) + s.identities.answers
}

// settle tells the process's account what has changed.
func (s *Shard) settle() {
	own, answers := s.ownMemory(), s.ownAnswers()
	s.opts.Memory.add(own - s.accounted)
	if answers != s.accountedAnswers {
		s.opts.Memory.answers.Add(answers - s.accountedAnswers)
	}
	s.accounted, s.accountedAnswers = own, answers
}

// account tells the process's account what the turn has changed, and makes room if it is full.
func (s *Shard) account() {
	before := s.accounted
	s.settle()
	if s.accountedAnswers > 0 || s.answersFull != 0 {
		defer s.shedAnswers()
	}
	switch {
	case s.accounted == before || s.accounted == 0 || !s.opts.Memory.over(fullPart):
	case !s.opts.Quotas.Limits[QuotaMemory].DryRun:
		s.exceeded(QuotaMemory)
		s.shed()
	case s.fullTick != s.tick:
		s.fullTick = s.tick
		s.exceeded(QuotaMemory) // Once a tick.
	}
}

// shed closes the connections that hold most, until this shard's part of what is too much is free. They get no reason:
// mostly they do not read, and what waits for them is what has to go.
func (s *Shard) shed() {
	m := s.opts.Memory
	most := partOf(m.Limit, s.accounted, m.Used())
	s.closeHolders(QuotaMemory, most, s.ownMemory, s.held)
}

// shedAnswers is shed for answers, when they have been full for answersPatience: clients that ask and do not read must
// not keep the others from theirs. Clients that read have taken theirs by then, or hold less.
func (s *Shard) shedAnswers() {
	m := s.opts.Memory
	if s.accountedAnswers == 0 || m.AnswersLimit == 0 || m.Answers() <= m.AnswersLimit/100*fullPart {
		s.answersFull = 0
		return
	}
	if s.answersFull == 0 {
		s.answersFull = s.tick + ticks(answersPatience)
	}
	if s.tick < s.answersFull {
		return
	}
	s.answersFull = 0
	if !s.exceeded(QuotaAnswers) {
		return
	}
	most := partOf(m.AnswersLimit, s.accountedAnswers, m.Answers())
	s.closeHolders(QuotaAnswers, most, s.ownAnswers, s.heldAnswers)
}

// partOf returns what a shard that holds own of the used bytes may keep: its part of shedPart of a limit. The product
// of two byte counts has more than 64 bits, on machines with some GiB for clients.
func partOf(limit, own, used int64) int64 {
	return int64(float64(limit/100*shedPart) * (float64(own) / float64(max(used, 1))))
}

// closeHolders closes, for a quota, the connections of which held returns most, until own returns no more than most.
func (s *Shard) closeHolders(quota Quota, most int64, own func() int64, held func(*conn) int64) {
	m := s.opts.Memory
	type holder struct {
		bytes int64
		slot  uint32
	}
	var holders []holder
	s.slab.each(func(c *conn) {
		if n := held(c); n > 0 {
			holders = append(holders, holder{n, c.slot})
		}
	})
	slices.SortFunc(holders, func(a, b holder) int { return cmp.Compare(b.bytes, a.bytes) })
	closed := 0
	for _, h := range holders {
		if own() <= most {
			break
		}
		c := s.slab.get(h.slot)
		if c.state != stateClosing {
			c.reason = ReasonMemory
		}
		s.abort(c)
		closed++
	}
	s.settle()
	if m.logged.Allows() {
		s.opts.Logger.Warn("memory for clients is short: closed those that hold most", "option", quota.Option(),
			"shard", s.opts.ID, "closed", closed, "used", m.Used(), "limit", m.Limit,
			"answers", m.Answers(), "answers_limit", m.AnswersLimit,
			"metric", "wsd_closed_total{reason=memory} counts them; this line comes once a minute at most")
	}
}

// heldAnswers returns what c holds of answers.
func (s *Shard) heldAnswers(c *conn) (n int64) {
	for i := range c.out.chunks {
		if k := &c.out.chunks[i]; k.hold == 0 && k.isAnswer() {
			n += int64(len(k.bytes))
		}
	}
	if c.hasPutOff {
		for _, k := range s.completions.putOff[c.slot] {
			n += int64(k.bytes)
		}
	}
	return n + s.identities.answersOf(c)
}

// held returns what c holds alone.
func (s *Shard) held(c *conn) int64 {
	n := s.inbound.memory(c) + s.secured.memory(&c.transport) + s.identities.memory(c) + s.calls.memory(c)
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
