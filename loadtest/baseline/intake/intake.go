// Package intake reads records from Kafka as a member of a consumer group, and publishes them on the bus.
//
// All consumers are in one group, so each partition is read by one of them, and the bus brings its records to all
// shards. A record is committed after it was sent: a process that dies makes the next owner send some again, which the
// shards know by their offsets and leave out.
//
// Thread rule: Run belongs to one goroutine.
package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/loadtest/baseline/bus"
	"wsd/loadtest/baseline/shm"
)

// batchMax is how many records Opt 3 handles at a time.
const batchMax = 100

const (
	commitInterval = time.Second
	sessionTimeout = 6 * time.Second // The shortest that brokers allow by default, so that a dead shard is missed soon.
	heartbeat      = 2 * time.Second
)

// Options is what Run needs.
type Options struct {
	Brokers  []string
	Topics   []string
	Group    string
	Earliest bool         // Where a group without commits begins: the earliest record, else the next one.
	Batch    bool         // Opt 3.
	Stat     *shm.Slot    `json:"-"`
	Log      *slog.Logger `json:"-"`
}

// consumer is one member of the group.
type consumer struct {
	o       Options
	client  *kgo.Client
	origins map[string]map[int32]string // Text of topic and partition.
}

// newConsumer returns a consumer, which joins the group at once.
func newConsumer(o Options) (*consumer, error) {
	start := kgo.NewOffset().AtEnd()
	if o.Earliest {
		start = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...), kgo.ConsumerGroup(o.Group),
		kgo.ConsumeTopics(o.Topics...), kgo.ConsumeResetOffset(start), kgo.ClientID("baseline"),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(commitInterval), kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(heartbeat), kgo.FetchMinBytes(1))
	if err != nil {
		return nil, fmt.Errorf("create a Kafka consumer: %w", err)
	}
	return &consumer{o: o, client: client, origins: map[string]map[int32]string{}}, nil
}

// Sent implements bus.Owner: the record's offset may be committed.
func (c *consumer) Sent(record any) {
	if r, ok := record.(*kgo.Record); ok {
		c.client.MarkCommitRecords(r)
	}
}

// run publishes records until ctx ends.
func (c *consumer) run(ctx context.Context, publish func(bus.Message)) {
	most := 1
	if c.o.Batch {
		most = batchMax
	}
	for {
		fetches := c.client.PollRecords(ctx, most)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.Canceled) {
				c.o.Log.Warn("read from Kafka", "topic", topic, "partition", partition, "error", err)
			}
		})
		if n := fetches.NumRecords(); n > 0 {
			c.o.Stat.Polls.Add(1)
			c.o.Stat.Records.Add(int64(n))
		}
		fetches.EachRecord(func(r *kgo.Record) { c.publish(r, publish) })
	}
}

// publish sends a record to the channel that its key names, or that is named like its topic.
func (c *consumer) publish(r *kgo.Record, publish func(bus.Message)) {
	channel := r.Topic
	if len(r.Key) > 0 {
		channel = string(r.Key)
	}
	if len(channel) > bus.NameMax || len(r.Topic) > bus.NameMax-11 || len(r.Value) > bus.ValueMax {
		c.o.Stat.Oversized.Add(1)
		c.Sent(r)
		return
	}
	partitions := c.origins[r.Topic]
	if partitions == nil {
		partitions = map[int32]string{}
		c.origins[r.Topic] = partitions
	}
	origin, known := partitions[r.Partition]
	if !known {
		origin = r.Topic + "/" + strconv.Itoa(int(r.Partition))
		partitions[r.Partition] = origin
	}
	publish(bus.Message{Channel: channel, Origin: origin, Offset: r.Offset, Value: r.Value, Owner: c, Record: r})
}

// close commits what was sent and leaves the group, within timeout.
func (c *consumer) close(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.client.CommitMarkedOffsets(ctx); err != nil {
		c.o.Log.Warn("commit offsets", "error", err)
	}
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.o.Log.Warn("leave the consumer group", "error", err)
	}
	c.client.Close()
}

// Run runs n consumers that publish by s until ctx ends, then commits and leaves the group within timeout.
func Run(ctx context.Context, o Options, n int, s *bus.Sender, timeout time.Duration) error {
	var list []*consumer
	for range n {
		c, err := newConsumer(o)
		if err != nil {
			for _, c := range list {
				c.client.Close()
			}
			return err
		}
		list = append(list, c)
	}
	var running sync.WaitGroup
	for _, c := range list {
		running.Go(func() { c.run(ctx, s.Publish) })
	}
	running.Wait()
	s.Flush()
	for _, c := range list {
		running.Go(func() { c.close(timeout) })
	}
	running.Wait()
	return nil
}
