package source

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
	"wsd/internal/stats"
	"wsd/internal/throttle"
)

// fetcher reads the partitions that one broker leads. It has one goroutine, one connection and one Fetch in flight.
type fetcher struct {
	s      *Source
	id     int32
	addr   string
	cancel context.CancelFunc
	wake   chan struct{} // Ends a wait early because something has changed. It holds one value.

	parts []*partition // mu: the watcher replaces the list as a whole.

	// Any goroutine reads these.
	connected atomic.Bool
	lastError atomic.Pointer[string]
	askedAt   stats.Moment // When the fetch under way is sent. None if there is none.

	// The fetcher's goroutine owns these.
	request  kmsg.FetchRequest
	asked    map[partKey]asked
	rotate   int // Which partition is first in the next request.
	walker   *kafka.Walker
	walked   walked
	fetched  int64         // When the response in hand had been read, see stats.Clock.
	walk     walk          // The one whose turn it is in take.
	walks    []walk        // Those that were put aside, at most walksMax.
	spare    *kafka.Walker // That of a walk that has ended, or nil.
	keep     bool          // A walk that was put aside needs the response that was taken last.
	broken   []*partition  // Those whose break is due, see payBreaks.
	gather   gatherer
	fetches  fetchSession
	behind   bool // The plan asks for a partition that has not been read to its end.
	problem  throttle.Log
	tries    kafka.Backoff
	fraction fraction
	idle     kafka.Backoff // The waits between responses that have bytes but no whole batch.
}

// partKey names a partition in a response: by topic id from version 13 on, by name before.
type partKey struct {
	topicID [16]byte
	topic   string
	id      int32
}

// asked is what a request asks of a partition. The response counts only if the partition is still at that offset.
type asked struct {
	p      *partition
	offset int64
	first  bool // The partition was first in the request, so the broker had room for it.
}

func (s *Source) newFetcher(id int32, addr string) *fetcher {
	f := &fetcher{
		s: s, id: id, addr: addr, wake: make(chan struct{}, 1), asked: make(map[partKey]asked),
		walker: s.newKafkaWalker(), gather: newGatherer(&s.o),
		tries: kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax},
		idle:  kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax},
	}
	f.problem.Interval = s.o.LogInterval
	f.fetches.min, f.fetches.full = s.o.sessionMin, s.o.StallAfter/2
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
		if kafka.HasEnded(err) && ctx.Err() == nil {
			// Nothing is wrong unless connecting again fails. Another broker may lead the partitions now.
			f.s.log.Debug("a Kafka broker has ended a connection, connecting again", "broker", f.id, "addr", f.addr,
				"reason", err)
			f.s.kickWatcher()
			continue
		}
		f.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		var pe *publishError
		if errors.As(err, &pe) && f.s.publishCtx.Err() != nil {
			return
		}
		f.s.leaveReplicas(f)
		f.s.stats.FetchErrors[kafka.KindOf(err)].Add(1)
		text := err.Error()
		f.lastError.Store(&text)
		f.problem.Fail(f.s.log, "cannot read from a Kafka broker, retrying",
			append([]any{"broker", f.id, "addr", f.addr}, reason(err)...)...)
		f.s.kickWatcher() // Another broker may lead its partitions now.
		kafka.Sleep(ctx, f.tries.Next(), nil)
	}
}

// session connects and fetches until something fails. It returns the reason, never nil.
func (f *fetcher) session(ctx context.Context) error {
	c, err := f.s.dialer.Dial(ctx, f.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	f.fetches.end()
	defer f.dropWalks()
	f.connected.Store(true)
	f.s.restartStallClocks(f)
	for {
		if err := f.step(ctx, c); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// works notes that the broker responds.
func (f *fetcher) works() {
	if f.tries.Failures == 0 && f.lastError.Load() == nil {
		return
	}
	f.tries.Reset()
	f.lastError.Store(nil)
	f.problem.OK(f.s.log, "reading from a Kafka broker works again", "broker", f.id, "addr", f.addr)
}

// step looks up offsets if a partition needs one, else it makes one fetch. It waits if there is nothing to ask for.
// Before that, it does a slice of each walk that was put aside.
func (f *fetcher) step(ctx context.Context, c *kafka.Conn) error {
	if len(f.walks) > 0 {
		if err := f.goOn(); err != nil {
			return err
		}
		if len(f.walks) > 0 && c.Throttled() > 0 {
			return nil
		}
	}
	unresolved, wait := f.plan(c.FetchVersion())
	if err := f.payBreaks(); err != nil {
		return err
	}
	if len(unresolved) > 0 {
		if err := f.lookUpOffsets(c, unresolved); err != nil {
			return kafka.Describe(fmt.Sprintf("ask broker %s for offsets", f.addr), err)
		}
		f.works()
		return nil
	}
	if len(f.request.Topics) == 0 && len(f.walks) > 0 {
		return nil
	}
	if len(f.request.Topics) == 0 {
		kafka.Sleep(ctx, wait, f.wake)
		return nil
	}
	var resp kmsg.FetchResponse
	req := f.fetches.next(&f.request, len(f.asked), f.behind, time.Now())
	f.askedAt.Set(time.Now().Add(c.Throttled()))
	size, err := c.Request(req, &resp, f.s.o.FetchMaxWait)
	f.askedAt.Clear()
	f.fraction.after(err)
	if err != nil {
		return kafka.Describe("fetch from broker "+f.addr, err)
	}
	if again := f.fetches.answered(&resp); again {
		return nil
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
	if f.keep {
		c.KeepResponse()
		f.keep = false
	}
	switch {
	case moved || bytes == 0 || len(f.walks) > 0:
		f.idle.Reset()
	default: // The bytes led nowhere. Asking again immediately would only burn CPU.
		kafka.Sleep(ctx, f.idle.Next(), nil)
	}
	return nil
}

// plan finds the partitions that need an offset first, and makes the next request for the others. The partition that
// was first in the last request becomes the last one: a broker fills a response in the order of the request, so a busy
// partition would starve the others. If nothing can be asked for now, wait is how long to wait at most.
func (f *fetcher) plan(version int16) (unresolved []*partition, wait time.Duration) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	now := time.Now()
	clear(f.asked)
	f.behind = false
	for _, p := range f.parts {
		if p.topicID == ([16]byte{}) {
			version = min(version, kafka.FetchByName)
		}
	}
	topics, rack := f.request.Topics[:0], f.s.o.Rack
	wait = time.Hour
	poll := f.s.o.FetchMaxWait
	if len(f.walks) > 0 {
		poll = 0 // They go on after this fetch.
	}
	places := f.places(f.s.o.FetchTotalBytes)
	for i := range f.parts {
		p := f.parts[(f.rotate+i)%len(f.parts)]
		if len(f.walks) > 0 && f.walking(p) {
			continue
		}
		if p.breaks.due > 0 {
			if hold := p.breaks.at().Sub(now); hold > 0 {
				wait, poll = min(wait, hold), min(poll, hold)
			} else {
				f.broken = append(f.broken, p)
			}
		}
		ok, readyAt := p.readyLocked(f.s.refreshed, now)
		if !ok {
			// A partition that is held back for milliseconds must not wait for the others' long poll.
			if readyAt.IsZero() {
				poll = min(poll, refreshWait)
			} else {
				wait = min(wait, readyAt.Sub(now))
				poll = min(poll, wait)
			}
			continue
		}
		if p.resolve != resolveNothing && p.replica == f.id {
			f.s.kickWatcher() // Only the leader knows. The next refresh gives it back.
			poll = min(poll, refreshWait)
			continue
		}
		if p.resolve != resolveNothing {
			unresolved = append(unresolved, p)
			continue
		}
		if hold := p.fetchFrom.Sub(now); hold > 0 {
			wait = min(wait, hold)
			poll = min(poll, hold)
			continue
		}
		if p.awaitsPlace {
			if places == 0 {
				continue
			}
			places--
		}
		if now.Before(p.leaderUntil) {
			rack = ""
		}
		topics = f.ask(topics, p, version)
	}
	f.rotate++
	f.request = kmsg.NewFetchRequest()
	f.request.Version = version
	minBytes, poll := f.gather.next(now, poll)
	f.request.MinBytes = int32(minBytes)
	f.request.MaxBytes = f.fraction.of(f.s.o.FetchTotalBytes)
	f.request.IsolationLevel = f.s.o.isolation()
	f.request.MaxWaitMillis = int32(max(poll.Milliseconds(), 1))
	f.request.Rack = rack
	f.request.Topics = topics
	return unresolved, max(wait, time.Millisecond)
}

// refreshWait bounds a fetch while one of the broker's partitions waits for new metadata.
const refreshWait = 20 * time.Millisecond

// ask adds the partition to the request. Each topic is in the request once.
func (f *fetcher) ask(topics []kmsg.FetchRequestTopic, p *partition, version int16) []kmsg.FetchRequestTopic {
	a := asked{p: p, offset: p.routed.Load(), first: len(f.asked) == 0}
	f.asked[keyOf(p.topicID, p.topic.name, p.id, version)] = a
	f.behind = f.behind || !p.caughtUp.Load()
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = p.id
	part.FetchOffset = a.offset
	part.CurrentLeaderEpoch = p.leaderEpoch
	part.PartitionMaxBytes = f.fraction.of(f.s.o.FetchMaxBytes)
	// A topic's partitions follow each other, except that the rotation may begin in the middle of the first topic.
	if n := len(topics); n > 0 {
		for _, t := range []*kmsg.FetchRequestTopic{&topics[n-1], &topics[0]} {
			if t.Topic == p.topic.name {
				t.Partitions = append(t.Partitions, part)
				return topics
			}
		}
	}
	if len(topics) < cap(topics) { // Reuse the partition list of an earlier request.
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
