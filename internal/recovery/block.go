package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"wsd/internal/source"
	"wsd/internal/stats"
)

const (
	// blockBytesMax is the size at which a block from Kafka ends: that of one response, and of some portions. It is a
	// part of what one worker may keep, so that there is room for several.
	blockBytesMax = 1 << 20
	blockPart     = 4
	// deadlineStep is the multiple to which a read's deadline is rounded up, so that many queries do not each end a
	// read of their own.
	deadlineStep = 250 * time.Millisecond
)

// goneError is the error of a read of something that the log no longer has.
type goneError struct {
	before int64 // Something before this offset is gone.
	start  bool  // The log begins there.
}

func (e *goneError) Error() string {
	return fmt.Sprintf("the log has lost records before offset %d", e.before)
}

// find returns the block that holds an offset if it is in memory. The caller calls Block.Done.
func (p *pass) find(offset int64) (source.Block, bool) {
	if b, ok := p.r.o.Source.Recent(p.st.Stream, offset+1); ok {
		return b, true
	}
	return p.r.past.find(p.st, offset)
}

// inMemory reports whether the block that holds an offset is in memory.
func (p *pass) inMemory(offset int64) bool {
	b, ok := p.find(offset)
	if ok {
		b.Done()
	}
	return ok
}

// read reads the block that a query needs next from Kafka, and keeps it.
func (p *pass) read(q *query) (b source.Block, err error) {
	position, _, _ := p.st.Position()
	if !p.st.alive() {
		return source.Block{}, source.ErrStreamEnded
	}
	offset, routed := q.need(), max(q.end, inKafka(position))
	for b.To <= offset { // A block that has too many bytes ends before the offset.
		p.reads--
		from, to, toMax := p.r.past.gap(p.st, offset, routed)
		from = max(from, b.To)
		if b, err = p.fetch(from, to, toMax); errors.Is(err, source.ErrRangeGone) && from < offset {
			b, err = p.fetch(offset, to, toMax) // Only what comes before the offset may be gone.
		}
		if errors.Is(err, source.ErrRangeGone) {
			err = &goneError{before: to}
		}
		if err != nil {
			return source.Block{}, err
		}
		if p.st.alive() {
			p.r.past.add(p.st, b, time.Now())
			p.r.startClock() // The clock may just have stopped because nothing was kept.
		}
		if b.From > offset {
			return source.Block{}, &goneError{b.From, true}
		}
	}
	return b, nil
}

// deadlineOrigin is what the multiples of deadlineStep are counted from.
var deadlineOrigin = time.Now()

// roundUp returns the multiple of deadlineStep after a deadline. Its result keeps the monotonic reading, which
// Time.Truncate takes away: a step of the wall clock must neither end a read nor make it last.
func roundUp(deadline time.Time) time.Time {
	return deadlineOrigin.Add(deadline.Sub(deadlineOrigin).Truncate(deadlineStep) + deadlineStep)
}

// fetch reads a range from Kafka, see Reader.Read. It gives up at the earliest deadline of the queries.
func (p *pass) fetch(from, to, toMax int64) (source.Block, error) {
	var deadline time.Time
	for _, q := range p.queries {
		if !q.over.Load() && (deadline.IsZero() || q.deadline.Before(deadline)) {
			deadline = q.deadline
		}
	}
	ctx, cancel := context.WithDeadline(p.r.ctx, roundUp(deadline))
	defer cancel()
	before := p.reader.Requests()
	b, err := p.reader.Read(ctx, p.st.Stream, from, to, toMax, p.r.past.blockBytes)
	p.r.stats.Reads.Add(1)
	p.r.stats.Fetches.Add(p.reader.Requests() - before)
	stats.Count(&p.r.stats.ReadBytes, b.Bytes())
	return b, err
}
