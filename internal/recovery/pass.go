package recovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// How much a pass does before it gives back what is left, and begins again with what has come meanwhile.
const (
	passWalks = 64 // Walks through blocks.
	passReads = 8  // Reads from Kafka.
	// How many blocks a query may walk through in a pass before others get their share.
	shareBlocks = 4
)

// pass is a limited amount of work for the queries of one lane. Each query in turn gets a share of it: the blocks that
// it needs next. All other queries of the lane that need something of such a block take part in its walk, without
// getting less later.
type pass struct {
	*worker
	st      stream
	number  uint64
	queries []*query // Some have been answered since the pass began.
	walks   int      // How many walks are left.
	reads   int      // How many reads are left.
	memory  int      // The part of Recovery.collected that was collected in this walk.
	kept    int      // What unfinished queries keep of it.
	stopped bool     // The workers have to end.
	slot    *walkSlot

	answers []settled         // Those of the walk that are not given yet.
	joins   map[string]*join  // By channel, of the block's QueryNext queries.
	indexes map[string]*index // By channel, of the block's QueryLast queries.
}

// settled is a query with its answer.
type settled struct {
	*query
	bus.Answer
}

// pass works on a lane for a limited time.
func (w *worker) pass(l *lane) {
	p := &pass{
		worker: w, st: l.g.st, number: w.r.passes.Add(1), walks: passWalks, reads: passReads,
		queries: inTurn(w.r.beginPass(l)), joins: make(map[string]*join), indexes: make(map[string]*index),
	}
	w.r.stats.Passes.Add(1)
	p.expire()
	for _, q := range p.queries {
		if p.spent() {
			break
		}
		if q.pass != p.number {
			p.share(q, l.kind)
		}
	}
	p.expire()
	w.r.endPass(l, p.rest(l.kind))
}

// spent reports whether the pass has to end.
func (p *pass) spent() bool { return p.stopped || p.walks <= 0 || p.reads <= 0 }

// share walks through the next blocks for a query.
func (p *pass) share(q *query, kind laneKind) {
	for range shareBlocks {
		if q.over.Load() || p.spent() {
			return
		}
		b, ok := p.find(q.need())
		read := !ok && kind == laneFar
		if read {
			var err error
			if b, err = p.read(q); err != nil {
				p.fail(err, q.need())
				continue
			}
		} else if !ok {
			return
		}
		p.walks--
		p.walk(b, read)
	}
}

// walk walks through a block for all queries that need something of it.
func (p *pass) walk(b source.Block, read bool) {
	var next, last []*query
	var by owners
	for _, q := range p.queries {
		if q.over.Load() || q.need() < b.From || q.need() >= b.To {
			continue
		}
		if read {
			q.kafka.Store(true)
		}
		q.pass = p.number
		by.add(q.Owner)
		if q.Kind == bus.QueryLast {
			last = append(last, q)
		} else {
			next = append(next, q)
		}
	}
	p.r.past.used(p.st, b.From, &by, time.Now())
	p.slot = p.r.slots.acquire()
	defer func() { p.slot.release() }()
	p.walker.Pause = func() bool {
		p.slot.rest()
		waits := func(q *query) bool { return !q.over.Load() }
		return slices.ContainsFunc(next, waits) || slices.ContainsFunc(last, waits)
	}
	to, err := p.collectNext(b, next)
	if err == nil && len(last) > 0 {
		err = p.collectLast(b, last)
	}
	switch {
	case err == nil && !p.st.alive():
		p.end(p.queries, bus.ResultEpoch) // The block may belong to another log.
	case errors.Is(err, source.ErrAbandoned): // All of them have been answered meanwhile.
	case err != nil && !errors.Is(err, errMemory):
		p.r.logProblem(time.Now(), err)
		p.end(slices.Concat(next, last), bus.ResultError)
	default:
		for _, q := range next {
			p.settleNext(q, to)
		}
		for _, q := range last {
			if err != nil {
				p.settled(q, q.partial(bus.ResultOverload))
				continue
			}
			p.settleLast(q, &b)
		}
	}
	b.Done()
	clear(p.joins)
	clear(p.indexes)
	p.r.collected.Add(int64(p.kept - p.memory))
	p.memory, p.kept = 0, 0
	p.answer()
	p.saveMemory()
}

// errMemory: the answers being prepared take too much memory.
var errMemory = errors.New("the answers being prepared take too much memory")

// tooMuch reports whether the answers being prepared take too much memory.
func (p *pass) tooMuch() bool { return p.r.collected.Load() > int64(p.r.o.ReadBytesMax) }

// collect counts the memory of a record that was collected.
func (p *pass) collect(r *bus.Record) {
	n := memoryOf(r)
	p.memory += n
	p.r.collected.Add(int64(n))
}

// A block of a few kilobytes may hold tens of millions of records. So the notes that a walk makes of them count as
// well: noteBytes each, whenever there are notesCounted more for a channel.
const (
	notesCounted = 1 << 10
	noteBytes    = 16
)

// note counts the memory of the notes about a channel's records, if n of them are a multiple of notesCounted. It
// reports whether it has.
func (p *pass) note(n int) bool {
	if n%notesCounted != 0 {
		return false
	}
	p.memory += notesCounted * noteBytes
	p.r.collected.Add(notesCounted * noteBytes)
	return true
}

// memoryOf returns how much memory a record of an answer takes, roughly.
func memoryOf(r *bus.Record) int {
	n := bus.RecordBytes(r)
	if len(r.JSON) > 0 && len(r.Value) > 0 && &r.JSON[0] != &r.Value[0] {
		n += len(r.JSON)
	}
	return n
}

// keep counts the memory of the records of parts, which an unfinished query keeps after the walk.
func (p *pass) keep(q *query, parts [][]bus.Record) {
	n := 0
	for _, part := range parts {
		for i := range part {
			n += memoryOf(&part[i])
		}
	}
	q.memory += n
	p.kept += n
}

// saveMemory ends queries of this pass, as far as they have collected something, if the answers being prepared take too
// much memory. Those that have to count drop their records instead.
func (p *pass) saveMemory() {
	if !p.tooMuch() {
		return
	}
	for _, q := range p.queries {
		switch {
		case q.memory == 0 || q.over.Load():
		case q.counting:
			q.dropped, q.full = true, true
			p.r.release(q)
		default:
			p.finish(q, q.partial(bus.ResultOverload))
		}
	}
}

// settled notes the answer to a query. It is given when the walk is over: what the walk has collected must not count
// any longer when whoever asked asks for more.
func (p *pass) settled(q *query, a bus.Answer) { p.answers = append(p.answers, settled{q, a}) }

// answer gives the answers that were noted.
func (p *pass) answer() {
	for _, s := range p.answers {
		p.finish(s.query, s.Answer)
		p.slot.rest() // Whoever asked may do work with the answer at once.
	}
	clear(p.answers)
	p.answers = p.answers[:0]
}

// finish answers a query of the pass.
func (p *pass) finish(q *query, a bus.Answer) {
	p.r.finish(q, a)
	p.r.release(q)
}

// end answers queries of the pass with a failure.
func (p *pass) end(list []*query, result bus.Result) {
	for _, q := range list {
		if !q.over.Load() {
			p.finish(q, failure(q, result))
		}
	}
}

// failure returns the answer of a query that cannot be answered. A QueryLast may have some of its records.
func failure(q *query, result bus.Result) bus.Answer {
	a := bus.Answer{Result: result}
	if q.Kind == bus.QueryLast {
		a.Records = q.records()
	}
	return a
}

// expire ends the queries that are canceled or whose time is over.
func (p *pass) expire() {
	now := time.Now()
	for _, q := range p.queries {
		switch {
		case q.over.Load():
		case q.canceled():
			p.finish(q, bus.Answer{Result: bus.ResultCanceled})
		case now.After(q.deadline):
			p.finish(q, q.partial(bus.ResultTimeout))
		}
	}
}

// rest returns the unanswered queries.
func (p *pass) rest(kind laneKind) *rest {
	var left rest
	for _, q := range p.queries {
		if q.over.Load() {
			p.r.release(q)
			continue
		}
		to := &left[laneFar]
		if p.inMemory(q.need()) {
			to = &left[laneNear]
		}
		if q.pass == p.number {
			to.with = append(to.with, q)
		} else {
			to.without = append(to.without, q)
		}
	}
	// Queries that change the lane come behind those that are there.
	other := &left[1-kind]
	other.with, other.without = append(other.without, other.with...), nil
	return &left
}

// fail ends the queries that the pass cannot continue with, because the block that holds an offset cannot be read.
func (p *pass) fail(err error, offset int64) {
	var lost *goneError
	switch {
	case p.r.ctx.Err() != nil:
		p.end(p.queries, bus.ResultOverload)
		p.stopped = true
	case errors.Is(err, source.ErrStreamEnded):
		p.end(p.queries, bus.ResultEpoch)
	case errors.As(err, &lost):
		p.gone(lost)
	case errors.Is(err, context.DeadlineExceeded):
		p.r.logProblem(time.Now(), err) // The error says what Kafka did in the meantime.
		p.expire()
	default:
		p.r.logProblem(time.Now(), err)
		for _, q := range p.queries {
			if q.need() == offset && !q.over.Load() {
				p.finish(q, failure(q, bus.ResultError))
			}
		}
	}
}

// gone ends the queries that need something that the log no longer has.
func (p *pass) gone(lost *goneError) {
	for _, q := range p.queries {
		switch {
		case q.over.Load() || q.need() >= lost.before:
		case q.Kind == bus.QueryLast && lost.start:
			p.finish(q, q.success()) // It has all that there is.
		default:
			p.finish(q, failure(q, bus.ResultGone))
		}
	}
}
