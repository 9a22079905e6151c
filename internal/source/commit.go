package source

import (
	"context"
	"errors"
	"runtime/pprof"
	"time"

	"wsd/internal/kafka"
	"wsd/internal/throttle"
)

// committer commits the source's positions to Options.CommitGroup, in a goroutine of its own. Routing only says that a
// position has changed. Everything before a committed position has been published on the bus.
type committer struct {
	s     *Source
	kick  chan struct{} // Says that a position has changed. It holds one value.
	final chan struct{} // Closed when everything has been published and the last commit is due.
	done  chan struct{}

	ctx     context.Context
	cancel  context.CancelFunc
	started bool // Whoever starts and stops the source owns it.

	// The committer's goroutine owns these.
	group   coordinator
	written map[*partition]written
	problem throttle.Log
}

// written is the position of a partition that was committed last.
type written struct {
	offset int64
	when   time.Time
}

// dueCommit is a position to commit.
type dueCommit struct {
	p           *partition
	offset      int64
	leaderEpoch int32
}

func newCommitter(s *Source) *committer {
	c := &committer{s: s, kick: make(chan struct{}, 1), final: make(chan struct{}), done: make(chan struct{}),
		group: coordinator{s: s}, written: make(map[*partition]written)}
	c.problem.Interval = s.o.LogInterval
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *committer) start() {
	c.started = true
	go pprof.Do(c.ctx, pprof.Labels("component", "source", "part", "committer"), c.run)
}

// changed says that positions have changed. It never waits. Any goroutine may call it.
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

// run commits positions that have changed, at most once in CommitInterval.
func (c *committer) run(ctx context.Context) {
	defer close(c.done)
	defer c.group.close()
	tries := kafka.Backoff{Min: c.s.o.BackoffMin, Max: c.s.o.BackoffMax}
	again := time.NewTicker(c.s.o.CommitAgain)
	defer again.Stop()
	for last := false; !last; {
		select {
		case <-c.kick:
		case <-again.C:
		case <-c.final: // Everything has been published. There is one more try.
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
			c.problem.Fail(c.s.log, "committing positions failed, retrying; delivery goes on",
				append([]any{"group", c.s.o.CommitGroup}, reason(err)...)...)
			c.changed()
			kafka.Sleep(ctx, tries.Next(), c.final)
			continue
		}
		tries.Reset()
		c.problem.OK(c.s.log, "committing positions works again", "group", c.s.o.CommitGroup)
		kafka.Sleep(ctx, c.s.o.CommitInterval, c.final)
	}
}

// commit commits the positions that have changed since the last commit, or were committed long ago.
func (c *committer) commit(ctx context.Context) error {
	list, all := c.due()
	for p := range c.written {
		if !all[p] {
			delete(c.written, p) // Its topic was deleted, or created again.
		}
	}
	if len(list) == 0 {
		return nil
	}
	// The broker may have closed a connection that was idle, or another broker may be the coordinator now. Then try
	// once more.
	again := c.group.c != nil
	list, err := c.commitList(ctx, list)
	if err != nil && again && ctx.Err() == nil {
		_, err = c.commitList(ctx, list)
	}
	return err
}

// commitList commits the list. Left is what could not be committed, with an error if there is any.
func (c *committer) commitList(ctx context.Context, list []dueCommit) (left []dueCommit, err error) {
	var refused map[*partition]error
	if err = c.group.connect(ctx); err == nil {
		refused, err = c.group.commit(list)
	}
	if err != nil {
		c.group.close()
		return list, err
	}
	now := time.Now()
	for _, o := range list {
		// If a topic was deleted, Kafka has deleted its positions, too.
		if e := refused[o.p]; e != nil && !(errors.Is(e, kafka.UnknownTopicOrPartition) && o.p.ended.Load()) {
			left, err = append(left, o), e
			continue
		}
		c.written[o.p] = written{o.offset, now}
	}
	if err != nil {
		c.group.close() // Another broker may be the coordinator now.
		return left, err
	}
	c.s.stats.Commits.Add(1)
	return nil, nil
}

// due returns the positions to commit, and the set of all partitions.
func (c *committer) due() (list []dueCommit, all map[*partition]bool) {
	parts := c.s.partitionsSeen()
	all = make(map[*partition]bool, len(parts))
	for _, p := range parts {
		all[p] = true
		offset, epoch := p.published.Load(), p.publishedEpoch.Load()
		w, ok := c.written[p]
		if offset >= 0 && (!ok || w.offset != offset || time.Since(w.when) >= c.s.o.CommitAgain) {
			list = append(list, dueCommit{p, offset, epoch})
		}
	}
	return list, all
}

// touchLocked notes that p's position has changed. The committer learns of it when everything before the position is on
// the bus.
func (r *router) touchLocked(p *partition) {
	if r.s.committer != nil && !p.touched {
		p.touched = true
		r.touched = append(r.touched, p)
	}
}

// publishedLocked is called when everything that was routed is on the bus.
func (r *router) publishedLocked() {
	if len(r.touched) == 0 {
		return
	}
	moved := false
	for _, p := range r.touched {
		p.touched = false
		position := p.routed.Load()
		moved = moved || position != p.published.Load()
		p.publishedEpoch.Store(p.lastEpoch)
		p.published.Store(position)
	}
	clear(r.touched)
	r.touched = r.touched[:0]
	if moved {
		r.s.committer.changed()
	}
}

// Defaults of Options.CommitInterval and Options.CommitAgain. Kafka forgets a position some time after it was committed
// (offsets.retention.minutes), and a partition without a position would be read from its beginning.
const (
	commitInterval = time.Second
	commitAgain    = time.Hour
)
