package source

import (
	"context"
	"errors"
	"runtime/pprof"
	"time"

	"wsd/internal/kafka"
)

// committer keeps the source's positions in Options.CommitGroup, in a goroutine of its own: routing only tells it that something
// changed. What it commits has been published on the bus.
type committer struct {
	s     *Source
	kick  chan struct{} // Something was published; holds one.
	final chan struct{} // Closed when all is published and the last commit is due.
	done  chan struct{}

	ctx     context.Context
	cancel  context.CancelFunc
	started bool // Whoever starts and stops the source.

	// Its goroutine's own.
	at      coordinator
	written map[*partition]written
	problem throttledLog
}

// written is what was committed last of a partition, and when.
type written struct {
	offset int64
	at     time.Time
}

// commitOf is a position to be committed.
type commitOf struct {
	p           *partition
	offset      int64
	leaderEpoch int32
}

func newCommitter(s *Source) *committer {
	c := &committer{s: s, kick: make(chan struct{}, 1), final: make(chan struct{}), done: make(chan struct{}), at: coordinator{s: s}, written: make(map[*partition]written)}
	c.problem.interval = s.o.LogInterval
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *committer) start() {
	c.started = true
	go pprof.Do(c.ctx, pprof.Labels("component", "source", "part", "committer"), c.run)
}

// changed says that positions have moved. Any goroutine; it never waits.
func (c *committer) changed() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// stop commits once more, unless ctx ends first. Everything must have been published.
func (c *committer) stop(ctx context.Context) {
	defer c.cancel()
	if !c.started {
		return
	}
	c.started = false
	close(c.final)
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.cancel()
	<-c.done
}

// run commits what changed, at most once in CommitInterval.
func (c *committer) run(ctx context.Context) {
	defer close(c.done)
	defer c.at.close()
	tries := kafka.Backoff{Min: c.s.o.BackoffMin, Max: c.s.o.BackoffMax}
	again := time.NewTicker(c.s.o.CommitAgain)
	defer again.Stop()
	for last := false; !last; {
		select {
		case <-c.kick:
		case <-again.C:
		case <-c.final: // All was published before: one try, and no more.
			last = true
		case <-ctx.Done():
			return
		}
		err := c.commit(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.s.stats.CommitErrors.Add(1)
			c.problem.fail(c.s.log, "committing positions failed, retrying; records are delivered all the same", "group", c.s.o.CommitGroup, "kind", kafka.KindOf(err), "err", err)
		}
		if err != nil {
			c.changed()
			kafka.Sleep(ctx, tries.Next(), c.final)
			continue
		}
		tries.Reset()
		c.problem.ok(c.s.log, "committing positions works again", "group", c.s.o.CommitGroup)
		kafka.Sleep(ctx, c.s.o.CommitInterval, c.final)
	}
}

// commit writes the positions that moved since the last commit, or were committed long ago.
func (c *committer) commit(ctx context.Context) error {
	list, all := c.due()
	for p := range c.written {
		if !all[p] {
			delete(c.written, p) // Of a topic that was created again.
		}
	}
	if len(list) == 0 {
		return nil
	}
	// A connection that was used before may have been idle for too long, or the group is kept elsewhere now: then once more.
	again := c.at.c != nil
	list, err := c.commitAt(ctx, list)
	if err != nil && again && ctx.Err() == nil {
		_, err = c.commitAt(ctx, list)
	}
	return err
}

// commitAt commits the list and returns what of it was not, with an error when there is some.
func (c *committer) commitAt(ctx context.Context, list []commitOf) (left []commitOf, err error) {
	var refused map[*partition]error
	if err = c.at.connect(ctx); err == nil {
		refused, err = c.at.commit(list)
	}
	if err != nil {
		c.at.close()
		return list, err
	}
	now := time.Now()
	for _, o := range list {
		// The positions of a topic that was deleted are deleted, too.
		if e := refused[o.p]; e != nil && !(errors.Is(e, kafka.UnknownTopicOrPartition) && c.s.ended(o.p)) {
			left, err = append(left, o), e
			continue
		}
		c.written[o.p] = written{o.offset, now}
	}
	if err != nil {
		c.at.close() // Another broker may keep the group now.
		return left, err
	}
	c.s.stats.Commits.Add(1)
	return nil, nil
}

// due returns the positions that are to be committed, and which partitions there are.
func (c *committer) due() (list []commitOf, all map[*partition]bool) {
	parts := c.s.partitionsSeen()
	all = make(map[*partition]bool, len(parts))
	for _, p := range parts {
		all[p] = true
		offset, epoch := p.published.Load(), p.publishedEpoch.Load()
		if w, ok := c.written[p]; offset >= 0 && (!ok || w.offset != offset || time.Since(w.at) >= c.s.o.CommitAgain) {
			list = append(list, commitOf{p, offset, epoch})
		}
	}
	return list, all
}

// touchLocked notes that p's position has moved, to be told to the committer when all before it is on the bus.
func (r *router) touchLocked(p *partition) {
	if r.s.committer != nil && !p.touched {
		p.touched = true
		r.touched = append(r.touched, p)
	}
}

// publishedLocked says that everything that was routed is on the bus.
func (r *router) publishedLocked() {
	if len(r.touched) == 0 {
		return
	}
	moved := false
	for _, p := range r.touched {
		p.touched = false
		at := p.routed.Load()
		moved = moved || at != p.published.Load()
		p.publishedEpoch.Store(p.lastEpoch)
		p.published.Store(at)
	}
	clear(r.touched)
	r.touched = r.touched[:0]
	if moved {
		r.s.committer.changed()
	}
}

// Defaults of Options.CommitInterval and Options.CommitAgain. Kafka forgets a position some time after it was committed (offsets.retention.minutes), and
// a partition without one would be read from its beginning.
const (
	commitInterval = time.Second
	commitAgain    = time.Hour
)
