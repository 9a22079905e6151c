package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/produce"
	"wsd/internal/throttle"
)

// Producer is what writes records. *produce.Producer is one.
type Producer interface {
	Produce(r produce.Record, done func(produce.Ack, error)) error
}

// Options is what New needs. All fields are required.
type Options struct {
	Topic    string
	Origin   string        // Name of this node, which its commands carry.
	Connect  []kgo.Opt     // How to connect and log in, see produce.Options.Connection.
	Producer Producer      // Writes the commands of this node.
	AgeMax   time.Duration // Commands that are older are dropped.
	// LateAfter is how long no broker may have answered before Late says that commands come late.
	LateAfter time.Duration
	// Apply acts on a command, and reports whether all whom it concerns have it. It may block until ctx ends, and
	// reading waits for it.
	Apply  func(ctx context.Context, c *Command) bool
	Logger *slog.Logger
}

// Topic is the topic of commands, as one node has it.
type Topic struct {
	o     Options
	cl    *kgo.Client
	stats Stats

	begin   time.Time
	contact contact
	ages    ages
	problem problems
	// By how many nanoseconds this machine's clock is ahead of the brokers', as far as that is known.
	skew atomic.Int64

	// Of the goroutine that reads.
	seen      window
	timesOnce sync.Once

	stop    context.CancelFunc
	stopped chan struct{} // Nil before Start.
}

// Stats counts what became of commands. Any goroutine may read.
type Stats struct {
	Sent       atomic.Uint64 // Commands of this node that Kafka has acknowledged.
	SendFailed atomic.Uint64 // Commands of this node that were refused, or not acknowledged in time.

	Applied   atomic.Uint64 // Commands read and acted on.
	Missed    atomic.Uint64 // Read, but some whom it concerned did not get it.
	Old       atomic.Uint64 // Dropped: older than Options.AgeMax.
	Again     atomic.Uint64 // Dropped: their id had been read before.
	Malformed atomic.Uint64 // Dropped: not a command.
	Unknown   atomic.Uint64 // Dropped: of another version.

	Skew atomic.Int64 // Nanoseconds by which this machine's clock is ahead of the brokers', at least.
}

// fetchWait is how long a broker holds a fetch while there are no records. It adds no latency.
const fetchWait = 500 * time.Millisecond

// startSlack is how far before its start a node begins to read: the clocks of a broker and a node differ, and a command
// of the same millisecond must not be missed.
const startSlack = 2 * time.Second

// New returns a Topic that reads nothing yet. Commands that are written from now on are read, also if Kafka cannot be
// reached until later.
func New(o Options) (*Topic, error) {
	t := &Topic{o: o, begin: time.Now(), ages: ages{window: o.AgeMax}, problem: newProblems()}
	t.contact.init(t.begin)
	opts := append([]kgo.Opt{
		// Of a partition that has lost what was to be read next, all is read: what is old or known is dropped.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(fetchWait), kgo.FetchMaxBytes(1 << 20), kgo.FetchMaxPartitionBytes(1 << 20),
		kgo.BrokerMaxReadBytes(16 << 20), kgo.MaxDecompressBatchBytes(16 << 20), kgo.MaxConcurrentFetches(1),
		kgo.KeepRetryableFetchErrors(), kgo.UnknownTopicRetries(-1),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.MetadataMaxAge(10 * time.Second),
		kgo.RetryBackoffFn(backoff), kgo.WithHooks(&t.contact),
	}, o.Connect...)
	var err error
	if t.cl, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("read commands.topic: %w", err)
	}
	return t, nil
}

// backoff is the pause after a number of attempts to reach a broker.
func backoff(tries int) time.Duration {
	return min(50*time.Millisecond<<min(tries, 10), time.Second)
}

// Start starts reading, until Stop.
func (t *Topic) Start() {
	ctx, stop := context.WithCancel(context.Background())
	t.stop, t.stopped = stop, make(chan struct{})
	go pprof.Do(ctx, pprof.Labels("component", "commands"), func(ctx context.Context) {
		defer close(t.stopped)
		var locating sync.WaitGroup
		locating.Go(func() { t.locate(ctx) })
		t.read(ctx)
		locating.Wait()
	})
}

// Stop ends reading. Commands that were read are applied.
func (t *Topic) Stop() {
	if t.stopped != nil {
		t.stop()
		<-t.stopped
	}
	t.cl.Close() // A second time does nothing.
}

// Stats returns the counters.
func (t *Topic) Stats() *Stats { return &t.stats }

// read reads commands until ctx ends.
func (t *Topic) read(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := t.cl.PollRecords(ctx, 1000)
		fetches.EachError(func(_ string, partition int32, err error) {
			if ctx.Err() == nil {
				t.contact.failPartition(err, t.o.LateAfter)
				t.problem.reading.Fail(t.o.Logger, "commands of other machines cannot be read", "topic", t.o.Topic,
					"partition", partition, "error", err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) { t.take(ctx, r) })
	}
}

// take acts on a record.
func (t *Topic) take(ctx context.Context, r *kgo.Record) {
	c, err := Parse(r.Value)
	age := t.ageOf(r, time.Now())
	where := []any{"topic", t.o.Topic, "partition", r.Partition, "offset", r.Offset}
	switch {
	case errors.Is(err, errVersion):
		t.stats.Unknown.Add(1)
		t.problem.skipped.Fail(t.o.Logger, "a command was skipped", append(where, "error", err)...)
	case err != nil:
		t.stats.Malformed.Add(1)
		t.problem.skipped.Fail(t.o.Logger, "a record of commands.topic is not a command", append(where, "error",
			err)...)
	case !t.seen.add(c.ID):
		t.stats.Again.Add(1)
	case age > t.o.AgeMax:
		t.stats.Old.Add(1)
		t.problem.old.Fail(t.o.Logger, "a command was dropped, because it is older than commands.age_max", append(where,
			"do", c.Do, "origin", c.Origin, "age", age.Round(time.Millisecond))...)
	case t.o.Apply(ctx, c):
		t.stats.Applied.Add(1)
	default:
		t.stats.Missed.Add(1)
	}
}

// Send writes a command, to be applied by every node, this one included. It does not block; done is called once, from
// any goroutine, with nil when Kafka has acknowledged it. The command gets an id and this node's name.
func (t *Topic) Send(c *Command, done func(error)) {
	c.ID, c.Origin = NewID(), t.o.Origin
	value, err := c.Append(nil)
	if err != nil {
		done(err)
		return
	}
	key := c.User // Commands for a user are in order.
	if key == "" {
		key = c.Client
	}
	r := produce.Record{Topic: t.o.Topic, Partition: produce.AnyPartition, Key: []byte(key), Value: value}
	counted := func(_ produce.Ack, err error) {
		if err != nil {
			t.stats.SendFailed.Add(1)
		} else {
			t.stats.Sent.Add(1)
		}
		done(err)
	}
	if err := t.o.Producer.Produce(r, counted); err != nil {
		counted(produce.Ack{}, err)
	}
}

// Late returns why commands of other machines come late, "" if they do not. Any goroutine may call it.
func (t *Topic) Late() string { return t.late(t.o.LateAfter) }

func (t *Topic) late(after time.Duration) string {
	t.contact.leads(t.leaders())
	since, err := t.contact.state(after)
	if silent := time.Since(since); silent > after {
		return fmt.Sprintf("the server API's commands of other machines are late: topic %s has not been read for %v: "+
			"%s", t.o.Topic, silent.Round(time.Second), err)
	}
	return ""
}

// partitionsMax bounds the partitions that leaders looks at.
const partitionsMax = 1000

// leaders returns the brokers that lead partitions of the topic, as far as they are known; -1 for a partition without
// a leader.
func (t *Topic) leaders() (list []int32) {
	for p := range int32(partitionsMax) {
		leader, epoch, err := t.cl.PartitionLeader(t.o.Topic, p)
		if leader < 0 && epoch < 0 && err == nil {
			break
		}
		list = append(list, leader)
	}
	return list
}

// problems are what is logged once in a while.
type problems struct{ reading, looking, skipped, old, clock throttle.Log }

func newProblems() problems {
	const interval = 30 * time.Second
	return problems{
		reading: throttle.Log{Interval: interval}, looking: throttle.Log{Interval: interval},
		skipped: throttle.Log{Interval: interval}, old: throttle.Log{Interval: interval},
		clock: throttle.Log{Interval: interval},
	}
}
