package recovery

import (
	"context"
	"errors"
	"time"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// worker makes passes.
type worker struct {
	r      *Recovery
	reader *source.Reader
	walker *source.Walker
}

const (
	// rangesMax times PublicationsMax is how many offsets one read from Kafka may cover.
	rangesMax = 16
	// deadlineStep is the multiple to which a read's deadline is rounded up, so that many queries do not each end a
	// read of their own.
	deadlineStep = 250 * time.Millisecond
)

// pass is one walk over the blocks of a stream, from the newest one that somebody asks for down.
type pass struct {
	*worker
	st        stream
	wants     map[string][]*want // By channel: the wants with unanswered queries.
	active    int                // How many wants there are.
	collected int                // The part of Recovery.collected that is this pass's.
	ranges    int64              // How many ranges the next read covers if no query says how far down it must go.
}

// pass answers the queries of a group. It stops early if it has read from Kafka and others wait, which may need less.
func (w *worker) pass(g *group) {
	p := &pass{worker: w, st: g.st, wants: make(map[string][]*want), ranges: 1}
	for _, q := range w.r.takeQueries(g) {
		p.add(q)
	}
	for p.active > 0 {
		read, err := p.step()
		if err != nil {
			p.fail(err)
			continue
		}
		if read && w.r.crowded(g) {
			break
		}
	}
	w.r.collected.Add(-int64(p.collected))
	w.r.endPass(g, p.rest())
}

func (p *pass) add(q *query) {
	list := p.wants[q.Channel]
	if q.Kind == bus.QueryAll {
		for _, w := range list {
			if w.kind == bus.QueryAll {
				w.add(q)
				return
			}
		}
	}
	w := newWant(q.Kind)
	w.add(q)
	p.wants[q.Channel] = append(list, w)
	p.active++
}

// rest returns the unanswered queries.
func (p *pass) rest() (list []*query) {
	p.each(func(w *want) { list = append(list, w.queries...) })
	return list
}

// each calls fn for every want.
func (p *pass) each(fn func(*want)) {
	for _, list := range p.wants {
		for _, w := range list {
			fn(w)
		}
	}
}

// step walks through one block and answers the queries that need no more. Read reports that the block came from Kafka.
func (p *pass) step() (read bool, err error) {
	top, lowest := int64(0), int64(-1)
	p.each(func(w *want) {
		top = max(top, w.down)
		if w.kind != bus.QueryLast && (lowest < 0 || w.after < lowest) {
			lowest = w.after
		}
	})
	b, read, err := p.block(top, lowest)
	if err != nil {
		return read, err
	}
	err = p.collect(b, top)
	b.Done()
	if err != nil {
		return read, err
	}
	if !has(p.st.Stream, p.st.epoch) {
		return read, source.ErrStreamEnded // The block may belong to another log.
	}
	now := time.Now()
	p.update(func(w *want) {
		if w.down > b.From {
			w.covered(b.From)
		}
		p.settle(w, b.First && w.down == b.From, now)
	})
	return read, p.checkCollected()
}

// update calls fn for every want and drops those that have no queries left.
func (p *pass) update(fn func(*want)) {
	for channel, list := range p.wants {
		kept := list[:0]
		for _, w := range list {
			if fn(w); len(w.queries) > 0 {
				kept = append(kept, w)
			} else {
				p.active--
			}
		}
		if p.wants[channel] = kept; len(kept) == 0 {
			delete(p.wants, channel)
		}
	}
}

// block returns the block that holds the offset before top. Lowest is how far down the queries go, or -1 if none of
// them knows.
func (p *pass) block(top, lowest int64) (b source.Block, read bool, err error) {
	if b, ok := p.r.o.Source.Recent(p.st.Stream, top); ok {
		return b, false, nil
	}
	now := time.Now()
	b, ok, below := p.r.past.find(p.st, top, now)
	if ok {
		return b, false, nil
	}
	size := int64(p.r.o.PublicationsMax)
	from := top - p.ranges*size
	if lowest >= 0 {
		from = min(max(lowest, top-rangesMax*size), top-1)
	}
	p.ranges = min(2*p.ranges, rangesMax)
	from = max(from-from%size, below, 0)
	b, err = p.read(from, top)
	if errors.Is(err, source.ErrRangeBytes) && top-from > size {
		from = max((top-1)-(top-1)%size, below)
		b, err = p.read(from, top)
	}
	if errors.Is(err, source.ErrRangeBytes) && lowest > from {
		b, err = p.read(lowest, top) // No more than the queries ask for.
	}
	if err != nil {
		return source.Block{}, true, err
	}
	if has(p.st.Stream, p.st.epoch) {
		p.r.past.add(p.st, b, now)
		p.r.startClock() // The clock may just have stopped because nothing was kept.
	}
	return b, true, nil
}

// read reads a range from Kafka. It gives up at the earliest deadline of the queries.
func (p *pass) read(from, to int64) (source.Block, error) {
	var deadline time.Time
	p.each(func(w *want) {
		for _, q := range w.queries {
			q.kafka = true
			if deadline.IsZero() || q.deadline.Before(deadline) {
				deadline = q.deadline
			}
		}
	})
	ctx, cancel := context.WithDeadline(p.r.ctx, deadline.Truncate(deadlineStep).Add(deadlineStep))
	defer cancel()
	before := p.reader.Requests()
	b, err := p.reader.Read(ctx, p.st.Stream, from, to, p.r.o.ReadBytesMax/p.r.o.Concurrency)
	p.r.stats.Reads.Add(1)
	p.r.stats.Fetches.Add(p.reader.Requests() - before)
	p.r.stats.ReadBytes.Add(uint64(b.Bytes()))
	return b, err
}

// collect adds the records of a block below top to the wants that need them.
func (p *pass) collect(b source.Block, top int64) error {
	from := top
	p.each(func(w *want) { from = min(from, w.after) })
	p.walker.Open(p.st.Stream, b, max(from, b.From), min(top, b.To))
	slot := p.r.slots.acquire()
	defer func() { slot.release() }()
	for p.walker.Next() {
		slot.walked()
		list := p.wants[string(p.walker.Channel())]
		if len(list) == 0 {
			continue
		}
		var record bus.Record
		for _, w := range list {
			if !w.wants(p.walker.Offset()) {
				continue
			}
			if record.Offset == 0 {
				record = p.walker.Record()
				p.collected += sizeOf(&record)
				p.r.collected.Add(int64(sizeOf(&record)))
			}
			w.take(record)
		}
	}
	return p.walker.Err()
}

// settle answers the queries of w that need no more than what has been collected, and fails those that exceed a limit.
// First reports that the log has nothing below.
func (p *pass) settle(w *want, first bool, now time.Time) {
	o := &p.r.o
	switch w.kind {
	case bus.QueryFirst:
		w.keepFirst(w.queries[0].RecordsMax)
	case bus.QueryLast:
		if len(w.records) >= w.queries[0].RecordsMax || first {
			w.down = w.after
		}
	case bus.QueryAll:
	}
	within := len(w.records) <= o.PublicationsMax && w.bytes <= o.BytesMax
	kept := w.queries[:0]
	lowest := int64(-1)
	for _, q := range w.queries {
		after := int64(q.After) // See want.add.
		a, ok := bus.Answer{}, true
		switch {
		case w.kind == bus.QueryAll && !within && p.over(w, q):
			a.Result = bus.ResultLimit
		case w.down <= after:
			a = p.complete(w, q)
		case first:
			a.Result = bus.ResultGone
		case now.After(q.deadline):
			a.Result = bus.ResultTimeout
		default:
			ok = false
		}
		if ok {
			p.r.finish(q, a)
			continue
		}
		kept = append(kept, q)
		if lowest < 0 || after < lowest {
			lowest = after
		}
	}
	clear(w.queries[len(kept):])
	w.queries, w.after = kept, lowest
}

// over reports whether an answer to q would exceed a limit.
func (p *pass) over(w *want, q *query) bool {
	list := w.recordsOf(q)
	bytes := 0
	for i := range list {
		bytes += sizeOf(&list[i])
	}
	return len(list) > q.RecordsMax || bytes > p.r.o.BytesMax
}

// complete returns the answer to q. All its records have been collected.
func (p *pass) complete(w *want, q *query) bus.Answer {
	list := w.recordsOf(q)
	if n := len(list) - q.RecordsMax; n > 0 {
		switch w.kind {
		case bus.QueryAll:
			return bus.Answer{Result: bus.ResultLimit}
		case bus.QueryFirst:
			list = list[:q.RecordsMax:q.RecordsMax]
		case bus.QueryLast:
			list = list[n:]
		}
	}
	bytes := 0
	for i := range list {
		if bytes += sizeOf(&list[i]); bytes > p.r.o.BytesMax {
			return bus.Answer{Result: bus.ResultLimit}
		}
	}
	return bus.Answer{Records: list}
}

// checkCollected fails if the answers being prepared hold too many bytes.
func (p *pass) checkCollected() error {
	if p.r.collected.Load() > int64(p.r.o.ReadBytesMax) {
		return errCollected
	}
	return nil
}

var errCollected = errors.New("the answers being prepared hold too many bytes")

// fail answers the queries that the pass cannot continue with: all of them or, after a timeout, those whose time is
// over.
func (p *pass) fail(err error) {
	result := bus.ResultError
	now := time.Now()
	switch {
	case p.r.ctx.Err() != nil, errors.Is(err, errCollected):
		result = bus.ResultOverload
	case errors.Is(err, source.ErrRangeGone):
		result = bus.ResultGone
	case errors.Is(err, source.ErrRangeBytes):
		result = bus.ResultLimit
	case errors.Is(err, source.ErrStreamEnded):
		result = bus.ResultEpoch
	case errors.Is(err, context.DeadlineExceeded):
		result = bus.ResultTimeout
		p.r.logProblem(now, err) // The error says what Kafka did in the meantime.
	default:
		p.r.logProblem(now, err)
	}
	p.update(func(w *want) {
		kept := w.queries[:0]
		for _, q := range w.queries {
			if result == bus.ResultTimeout && !now.After(q.deadline) {
				kept = append(kept, q)
				continue
			}
			a := bus.Answer{Result: result}
			if w.kind == bus.QueryLast {
				a.Records = w.recordsOf(q)
			}
			p.r.finish(q, a)
		}
		clear(w.queries[len(kept):])
		w.queries = kept
	})
}
