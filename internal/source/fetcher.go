package source

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// fetcher reads the partitions that one broker leads: one goroutine, one connection, one Fetch in flight.
type fetcher struct {
	s      *Source
	id     int32
	addr   string
	cancel context.CancelFunc
	wake   chan struct{} // Something changed that may let a waiting fetcher go on; holds one.

	parts []*partition // mu: replaced as a whole by the watcher.

	// Any goroutine.
	connected atomic.Bool
	lastError atomic.Pointer[string]

	// Its goroutine's own.
	request kmsg.FetchRequest
	asked   map[partKey]asked
	rotate  int // Which partition is first in the next request.
	walker  *kafka.Walker
	gather  gatherer
	problem throttledLog
	tries   kafka.Backoff
	idle    kafka.Backoff // Waits between responses that hold bytes but no whole batch.
}

// partKey names a partition in a response: by topic id from version 13 on, by name before.
type partKey struct {
	topicID [16]byte
	topic   string
	id      int32
}

// asked is what a request asked of a partition. What comes back counts only if the partition still stands there.
type asked struct {
	p      *partition
	offset int64
	first  bool // It stood first: the broker had room for it.
}

func (s *Source) newFetcher(id int32, addr string) *fetcher {
	f := &fetcher{
		s: s, id: id, addr: addr, wake: make(chan struct{}, 1), asked: make(map[partKey]asked),
		walker: kafka.NewWalker(s.o.BatchBytesMax, s.o.RecordBytesMax), gather: newGatherer(&s.o),
		tries: kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax},
		idle:  kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax},
	}
	f.problem.interval = s.o.LogInterval
	return f
}

func (f *fetcher) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fetcher) status() BrokerStatus {
	st := BrokerStatus{ID: f.id, Address: f.addr, Connected: f.connected.Load()}
	if e := f.lastError.Load(); e != nil {
		st.Error = *e
	}
	return st
}

// run connects and fetches until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			f.s.stats.Reconnects.Add(1)
		}
		err := f.session(ctx)
		f.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		var pe *publishError
		if errors.As(err, &pe) && f.s.publishCtx.Err() != nil {
			return
		}
		kind := kafka.KindOf(err)
		f.s.stats.FetchErrors[kind].Add(1)
		text := err.Error()
		f.lastError.Store(&text)
		f.problem.fail(f.s.log, "reading from a Kafka broker failed, retrying", "broker", f.id, "addr", f.addr, "kind", kind, "err", err)
		f.s.kickWatcher() // Its partitions may be led elsewhere now.
		kafka.Sleep(ctx, f.tries.Next(), nil)
	}
}

// session is the life of one connection. It returns why that ended, never nil.
func (f *fetcher) session(ctx context.Context) error {
	c, err := f.s.dialer.Dial(ctx, f.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	f.connected.Store(true)
	f.s.restartStallClocks(f)
	for {
		if err := f.turn(ctx, c); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// works notes that the broker answers.
func (f *fetcher) works() {
	if f.tries.Failures == 0 && f.lastError.Load() == nil {
		return
	}
	f.tries.Reset()
	f.lastError.Store(nil)
	f.problem.ok(f.s.log, "reading from a Kafka broker works again", "broker", f.id, "addr", f.addr)
}

// turn answers open questions about offsets, then makes one fetch; or waits when there is nothing to ask for.
func (f *fetcher) turn(ctx context.Context, c *kafka.Conn) error {
	questions, wait := f.plan(c.FetchVersion())
	if len(questions) > 0 {
		if err := f.answer(c, questions); err != nil {
			return kafka.Describe(fmt.Sprintf("ask broker %s for offsets", f.addr), err)
		}
		f.works()
		return nil
	}
	if len(f.request.Topics) == 0 {
		kafka.Sleep(ctx, wait, f.wake)
		return nil
	}
	var resp kmsg.FetchResponse
	size, err := c.Request(&f.request, &resp, f.s.o.FetchMaxWait)
	if err != nil {
		return kafka.Describe("fetch from broker "+f.addr, err)
	}
	if resp.ErrorCode != 0 {
		return kafka.Code(resp.ErrorCode)
	}
	f.works()
	f.s.stats.Fetches.Add(1)
	f.s.stats.FetchBytes.Add(uint64(size))
	moved, bytes, err := f.take(&resp)
	if err != nil {
		return err
	}
	switch {
	case moved || bytes == 0:
		f.idle.Reset()
	default: // Bytes that lead nowhere: asking again at once would only burn CPU.
		kafka.Sleep(ctx, f.idle.Next(), nil)
	}
	if t := time.Duration(resp.ThrottleMillis) * time.Millisecond; t > 0 {
		kafka.Sleep(ctx, min(t, f.s.o.RequestTimeout), nil)
	}
	return nil
}

// plan sees which partitions need an offset first, and makes the next request for the others. The partition that was first
// becomes the last one, since the broker fills a response in the order asked: a busy one would starve the others. When nothing
// can be asked for now, wait says for how long at most.
func (f *fetcher) plan(version int16) (questions []*partition, wait time.Duration) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	now := time.Now()
	clear(f.asked)
	for _, p := range f.parts {
		if p.topicID == ([16]byte{}) {
			version = min(version, kafka.FetchByName)
		}
	}
	topics := f.request.Topics[:0]
	wait = time.Hour
	poll := f.s.o.FetchMaxWait
	for i := range f.parts {
		p := f.parts[(f.rotate+i)%len(f.parts)]
		ok, at := p.readyLocked(f.s.looked, now)
		if !ok {
			// One that is held back for milliseconds must not wait for the others' long poll.
			if at.IsZero() {
				poll = min(poll, lookWait)
			} else {
				wait = min(wait, at.Sub(now))
				poll = min(poll, wait)
			}
			continue
		}
		if p.resolve != resolveNothing {
			questions = append(questions, p)
			continue
		}
		if hold := p.fetchFrom.Sub(now); hold > 0 {
			wait = min(wait, hold)
			poll = min(poll, hold)
			continue
		}
		topics = f.ask(topics, p, version)
	}
	f.rotate++
	f.request = kmsg.NewFetchRequest()
	f.request.Version = version
	minBytes, poll := f.gather.next(now, poll)
	f.request.MinBytes = int32(minBytes)
	f.request.MaxBytes = int32(f.s.o.FetchTotalBytes)
	f.request.IsolationLevel = readCommitted
	f.request.MaxWaitMillis = int32(max(poll.Milliseconds(), 1))
	f.request.Topics = topics
	return questions, max(wait, time.Millisecond)
}

// lookWait bounds a fetch while one of its broker's partitions waits for the metadata.
const lookWait = 20 * time.Millisecond

// ask adds the partition to the request; a topic stands in it once.
func (f *fetcher) ask(topics []kmsg.FetchRequestTopic, p *partition, version int16) []kmsg.FetchRequestTopic {
	a := asked{p: p, offset: p.routed.Load(), first: len(f.asked) == 0}
	f.asked[keyOf(p.topicID, p.topic.name, p.id, version)] = a
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = p.id
	part.FetchOffset = a.offset
	part.CurrentLeaderEpoch = p.leaderEpoch
	part.PartitionMaxBytes = int32(f.s.o.FetchMaxBytes)
	// A topic's partitions stand together, except that the rotation may begin in the middle of the first topic.
	if n := len(topics); n > 0 {
		for _, t := range []*kmsg.FetchRequestTopic{&topics[n-1], &topics[0]} {
			if t.Topic == p.topic.name {
				t.Partitions = append(t.Partitions, part)
				return topics
			}
		}
	}
	if len(topics) < cap(topics) { // Use the partition list of an earlier request again.
		topics = topics[:len(topics)+1]
	} else {
		topics = append(topics, kmsg.FetchRequestTopic{})
	}
	t := &topics[len(topics)-1]
	t.Topic, t.TopicID = p.topic.name, p.topicID
	t.Partitions = append(t.Partitions[:0], part)
	return topics
}

func keyOf(topicID [16]byte, topic string, id int32, version int16) partKey {
	if version >= kafka.FetchByID {
		return partKey{topicID: topicID, id: id}
	}
	return partKey{topic: topic, id: id}
}
