package commands

import (
	"context"
	"errors"
	"slices"
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
	found      bool
	id         kadm.TopicID
	former     []kadm.TopicID // Ids of topics of the same name that are no more, oldest first.
	partitions map[int32]struct{}
	// Partitions that were there at first, and of which it is not known yet where to begin.
	unknown map[int32]struct{}
}

func newLocated() located {
	return located{partitions: make(map[int32]struct{}), unknown: make(map[int32]struct{})}
}

// formerMax bounds the former ids. A broker that lags behind names one for some seconds.
const formerMax = 16

// locate has all partitions of the topic read, also those that it gets later, until ctx ends.
func (t *Topic) locate(ctx context.Context) {
	admin := kadm.NewClient(t.cl)
	l := newLocated()
	for ctx.Err() == nil {
		err := t.look(ctx, admin, &l)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			t.contact.fail(err)
			t.problem.looking.Fail(t.o.Logger, "the topic of commands, or a part of it, cannot be looked up", "topic",
				t.o.Topic, "error", err)
		default:
			t.problem.looking.OK(t.o.Logger, "the topic of commands is found", "topic", t.o.Topic)
		}
		pause := min(locateInterval, t.o.AgeMax/4)
		if !l.found || len(l.unknown) > 0 {
			pause = locateAgain
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// look has partitions read that are not read yet. Those that are there at first are read from the moment on in which
// the process began, others from their beginning. A partition of which nothing can be learned keeps no other from being
// read.
func (t *Topic) look(ctx context.Context, admin *kadm.Client, l *located) error {
	found, err := t.describe(ctx, admin)
	if err != nil {
		return err
	}
	again, late := l.identify(found.ID)
	if late {
		return nil
	}
	if again {
		t.cl.PurgeTopicsFromConsuming(t.o.Topic)
		t.ages.beginsAnew()
	}
	first := !l.found
	l.found = true
	added := make(map[int32]kgo.Offset)
	for p := range found.Partitions {
		if _, known := l.partitions[p]; known {
			continue
		}
		l.partitions[p] = struct{}{}
		if first {
			l.unknown[p] = struct{}{}
			continue
		}
		added[p] = kgo.NewOffset().At(0)
		t.ages.begins(p)
	}
	t.add(added)
	ends, err := t.ends(ctx, admin)
	if len(l.unknown) == 0 {
		return err
	}
	starts, failed := t.starts(ctx, admin, ends)
	clear(added)
	for p := range l.unknown {
		if start, known := starts[p]; known {
			added[p] = kgo.NewOffset().At(start)
			delete(l.unknown, p)
		}
	}
	t.add(added)
	return errors.Join(err, failed)
}

// identify notes the id that a broker gives the topic. It reports whether the topic was created again, and whether the
// broker is late: it describes the topic that was there before.
func (l *located) identify(id kadm.TopicID) (again, late bool) {
	none := kadm.TopicID{}
	switch {
	case id == none, id == l.id: // Brokers before Kafka 2.8 give none.
		return false, false
	case slices.Contains(l.former, id):
		return false, true
	case l.id != none:
		again = true
		l.former = append(l.former, l.id)
		l.former = l.former[max(0, len(l.former)-formerMax):]
		clear(l.partitions)
		clear(l.unknown)
	}
	l.id = id
	return again, false
}

// add has partitions read, each from an offset.
func (t *Topic) add(partitions map[int32]kgo.Offset) {
	if len(partitions) > 0 {
		t.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.o.Topic: partitions})
	}
}

// describe returns what a broker says of the topic.
func (t *Topic) describe(ctx context.Context, admin *kadm.Client) (kadm.TopicDetail, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	topics, err := admin.ListTopics(ctx, t.o.Topic)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	found := topics[t.o.Topic]
	return found, found.Err
}

// ends returns where the partitions end, and notes that for the ages of records that follow. With an error, it returns
// those of which it is known.
func (t *Topic) ends(ctx context.Context, admin *kadm.Client) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	asked := time.Now()
	known, err := offsets(admin.ListEndOffsets(ctx, t.o.Topic))
	if len(known) > 0 {
		t.ages.note(asked, known)
	}
	return known, err
}

// starts returns where to begin, for partitions that end at these offsets: with the first record after the process
// began. Without one, the offset that follows the last record is where the next one will be; so the ends are asked for
// first, or records between both answers would be missed. With an error, it returns those of which it is known.
func (t *Topic) starts(ctx context.Context, admin *kadm.Client, ends map[int32]int64) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	after, err := offsets(admin.ListOffsetsAfterMilli(ctx, t.begin.Add(-startSlack).UnixMilli(), t.o.Topic))
	starts := make(map[int32]int64)
	for p, end := range ends {
		if first, known := after[p]; known {
			starts[p] = min(end, first)
		}
	}
	return starts, err
}

// offsets returns the offsets that were found, and the first error of those that were not.
func offsets(list kadm.ListedOffsets, err error) (map[int32]int64, error) {
	known := make(map[int32]int64)
	list.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset >= 0 {
			known[o.Partition] = o.Offset
		}
	})
	if err == nil {
		err = list.Error()
	}
	return known, err
}
