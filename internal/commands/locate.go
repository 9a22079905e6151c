package commands

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// locateInterval is the time between two looks for partitions that the topic has got, and at where they end.
	locateInterval = 5 * time.Second
	// locateAgain is the same until the topic is found, and locateTimeout how long a look may take.
	locateAgain, locateTimeout = 250 * time.Millisecond, 10 * time.Second
)

// located is which partitions are read.
type located struct {
	id         kadm.TopicID
	partitions map[int32]struct{} // Nil before the topic was found.
}

// locate has all partitions of the topic read, also those that it gets later, until ctx ends.
func (t *Topic) locate(ctx context.Context) {
	admin := kadm.NewClient(t.cl)
	var l located
	for ctx.Err() == nil {
		pause := min(locateInterval, t.o.AgeMax/4)
		err := t.look(ctx, admin, &l)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			t.contact.fail(err)
			t.problem.looking.Fail(t.o.Logger, "the topic of commands cannot be looked up", "topic", t.o.Topic, "error",
				err)
		default:
			t.problem.looking.OK(t.o.Logger, "the topic of commands is found", "topic", t.o.Topic)
		}
		if l.partitions == nil {
			pause = locateAgain
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// look has partitions read that are not read yet. Those that are there at first are read from the moment on in which
// the process began, others from their beginning.
func (t *Topic) look(ctx context.Context, admin *kadm.Client, l *located) error {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	topics, err := admin.ListTopics(ctx, t.o.Topic)
	if err != nil {
		return err
	}
	found := topics[t.o.Topic]
	if found.Err != nil {
		return found.Err
	}
	first := l.partitions == nil
	var starts map[int32]kgo.Offset
	switch {
	case first:
		if starts, err = t.starts(ctx, admin); err != nil {
			return err
		}
		l.partitions = make(map[int32]struct{})
	case found.ID != l.id: // It was created again.
		t.cl.PurgeTopicsFromConsuming(t.o.Topic)
		clear(l.partitions)
		t.ages.beginsAnew()
	}
	l.id = found.ID
	added := make(map[int32]kgo.Offset)
	for p := range found.Partitions {
		if _, known := l.partitions[p]; known {
			continue
		}
		l.partitions[p] = struct{}{}
		start, ok := starts[p]
		if !ok {
			start = kgo.NewOffset().At(0)
		}
		added[p] = start
		if !first {
			t.ages.begins(p)
		}
	}
	if len(added) > 0 {
		t.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.o.Topic: added})
	}
	if first {
		return nil
	}
	_, err = t.ends(ctx, admin)
	return err
}

// ends returns where the partitions end, and notes that for the ages of records that follow. With an error, it notes
// those of which it is known.
func (t *Topic) ends(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
	asked := time.Now()
	ends, err := admin.ListEndOffsets(ctx, t.o.Topic)
	known := make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if end.Err == nil && end.Offset >= 0 {
			known[end.Partition] = end.Offset
		}
	})
	if len(known) > 0 {
		t.ages.note(asked, known)
	}
	if err == nil {
		err = ends.Error()
	}
	return ends, err
}

// starts returns where to begin: with the first record after the process began. Without one, the offset that follows
// the last record is where the next one will be; so the ends are asked for first, or records between both answers would
// be missed.
func (t *Topic) starts(ctx context.Context, admin *kadm.Client) (map[int32]kgo.Offset, error) {
	ends, err := t.ends(ctx, admin)
	if err != nil {
		return nil, err
	}
	after, err := admin.ListOffsetsAfterMilli(ctx, t.begin.Add(-startSlack).UnixMilli(), t.o.Topic)
	if err == nil {
		err = after.Error()
	}
	if err != nil {
		return nil, err
	}
	starts := make(map[int32]kgo.Offset)
	ends.Each(func(end kadm.ListedOffset) {
		at := end.Offset
		if first, ok := after.Lookup(t.o.Topic, end.Partition); ok {
			at = min(at, first.Offset)
		}
		starts[end.Partition] = kgo.NewOffset().At(max(at, 0))
	})
	return starts, nil
}
