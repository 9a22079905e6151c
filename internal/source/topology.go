package source

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// The topology is which topics and partitions exist and which broker leads each partition.

// apply applies a metadata response: it updates the topology and gives partitions to fetchers. Settled reports that
// every partition of the topics that exist has a leader. The error is a *publishError. The watcher calls it.
func (s *Source) apply(resp *kmsg.MetadataResponse) (settled bool, err error) {
	addrs := s.brokerAddrs(resp)
	changed := false
	leaders := make(map[*partition]leader, len(resp.Topics))
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if t := s.topicOf(rt); t != nil {
			changed = s.applyTopic(t, rt, leaders) || changed
		}
	}
	s.forget(false)
	s.digest.flush()
	if changed || len(s.forgotten) > 0 {
		// This must happen before a record of a new partition is routed: a channel that two partitions feed has no
		// stream.
		s.streams.Store(buildStreams(s.topics))
		var all []*partition
		for _, t := range s.topics {
			all = append(all, t.parts...)
		}
		s.stats.setPartitions(all)
	}
	for _, t := range s.topics {
		if err := s.endFormer(t); err != nil {
			return false, err
		}
	}
	if err := s.endForgotten(); err != nil {
		return false, err
	}
	if changed {
		if err := s.announceResumed(); err != nil {
			return false, err
		}
	}
	settled = s.assign(addrs, leaders)
	s.publishView()
	return settled, nil
}

// endFormer publishes a break to the subscribers of a topic's former life, if it has one. The new life's positions must
// be known, so that later subscribers get those. None of its records may be on the bus yet. The error is a
// *publishError.
func (s *Source) endFormer(t *topic) error {
	if t.former == nil {
		return nil
	}
	former := t.former
	t.former = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range former {
		if position, high := p.routed.Load(), p.high.Load(); position >= 0 && high > position {
			p.topic.stats.Lost[LossRecreated].Add(uint64(high - position))
			s.losses.add(s, p, LossRecreated, position, high)
		}
	}
	notified, err := s.breakLocked(former...)
	endStreams(former)
	if notified {
		from := time.Now().Add(s.o.ReturnWait)
		for _, p := range t.parts {
			p.fetchFrom = from
		}
	}
	return err
}

// leader is the broker that leads a partition.
type leader struct {
	broker int32
	epoch  int32
}

// applyTopic applies what a metadata response says about one topic, and adds its partitions' leaders to leaders.
// Changed reports that partitions came or went.
func (s *Source) applyTopic(t *topic, rt *kmsg.MetadataResponseTopic, leaders map[*partition]leader) (changed bool) {
	t.denied = isDenied(kafka.Code(rt.ErrorCode))
	switch code := kafka.Code(rt.ErrorCode); code {
	case 0, kafka.LeaderNotAvailable:
	case kafka.UnknownTopicOrPartition, kafka.UnknownTopicID:
		t.missed = true
		switch {
		case t.state == TopicMissing:
		case t.found:
			s.note(eventFoundGone, t)
		default:
			s.note(eventMissing, t)
		}
		s.topicOutages.left(&t.trouble)
		if t.state, t.err = TopicMissing, topicError(rt.ErrorCode); t.goneAt.IsZero() {
			t.goneAt = time.Now()
		}
		return false
	default:
		t.state, t.err = TopicFailed, topicError(rt.ErrorCode)
		s.topicOutages.failed(&t.trouble, outageCause{-1, kafka.KindOfCode(code)}, t.name, code, "topic", t.name)
		return false
	}
	// A broker older than topic ids sends zero. During an upgrade of the cluster some brokers send ids and some do not.
	if none := ([16]byte{}); t.seen && rt.TopicID != t.id && rt.TopicID != none && t.id != none {
		if slices.Contains(t.retired, rt.TopicID) {
			return false // A broker that lags behind still describes a former life.
		}
		s.recreated(t)
		changed = true
	}
	if rt.TopicID == ([16]byte{}) && !s.noIDsNoted {
		s.noIDsNoted = true
		s.log.Warn("the brokers have no topic ids (Kafka before 2.8): a topic that is created again may go unnoticed")
	}
	first := !t.seen && !t.missed
	resuming := !t.seen && s.o.Start.Mode == StartCommitted && len(t.retired) == 0
	if why := s.unanswered[t.name]; why != nil {
		t.state, t.err = TopicFailed, why.Error()
		return changed
	}
	if !t.seen {
		t.id = rt.TopicID
	}
	if t.state == TopicMissing {
		s.note(eventAppeared, t, "partitions", len(rt.Partitions))
	}
	s.topicOutages.ended(&t.trouble, t.name, "topic", t.name)
	t.state, t.err, t.goneAt = TopicPresent, topicError(rt.ErrorCode), time.Time{}

	sortPartitions(rt.Partitions)
	var of positions
	if resuming {
		of = s.positionsOf(t, rt)
	}
	for i := range rt.Partitions {
		rp := &rt.Partitions[i]
		p := t.find(rp.Partition)
		if p == nil {
			from, resumed, isNew := Start{Mode: StartEarliest}, committed{offset: -1}, false
			switch {
			case resuming:
				resumed, from = s.resume(t, rp.Partition, of)
			case first:
				from = s.o.Start
			case t.seen:
				isNew = true
			}
			p = s.newPartition(t, rp.Partition, from)
			if isNew {
				s.notePartition(eventPartition, p)
			}
			p.again, p.late = t.former != nil, !first || s.answeredLate
			if resumed.offset >= 0 {
				p.resumeAt(resumed)
			}
			t.add(p)
			changed = true
		}
		leaders[p] = leader{broker: rp.Leader, epoch: rp.LeaderEpoch}
	}
	if len(rt.Partitions) > 0 {
		t.seen = true
	}
	return changed
}

// recreated ends a topic's life. The new life is read from its beginning.
func (s *Source) recreated(t *topic) {
	t.stats.Recreations.Add(1)
	s.note(eventRecreated, t)
	t.retired = append(t.retired, t.id)
	if len(t.retired) > retiredMax {
		t.retired = t.retired[1:]
	}
	s.mu.Lock()
	for _, p := range t.parts {
		p.owner = nil // Nobody routes anything more of it.
		s.outages.left(&p.trouble)
	}
	s.mu.Unlock()
	t.former, t.parts, t.seen, t.missed = t.parts, nil, false, true
}

// search returns where in t.parts, which are in the order of their ids, the partition is or would be.
func (t *topic) search(id int32) (at int, found bool) {
	return slices.BinarySearchFunc(t.parts, id, func(p *partition, id int32) int { return int(p.id) - int(id) })
}

// find returns the partition with the id, or nil.
func (t *topic) find(id int32) *partition {
	if at, found := t.search(id); found {
		return t.parts[at]
	}
	return nil
}

// add adds a partition that the topic does not have yet.
func (t *topic) add(p *partition) {
	at, _ := t.search(p.id)
	t.parts = slices.Insert(t.parts, at, p)
}

func sortPartitions(list []kmsg.MetadataResponseTopicPartition) {
	slices.SortFunc(list, func(a, b kmsg.MetadataResponseTopicPartition) int {
		return int(a.Partition) - int(b.Partition)
	})
}

// assign gives every partition to the fetcher of its leader, or of the replica that its leader has named. It starts
// fetchers for new leaders and stops those of brokers that no longer lead a partition. A partition without a known
// leader gets no fetcher. Settled reports that every partition in leaders has a fetcher.
func (s *Source) assign(addrs map[int32]string, leaders map[*partition]leader) (settled bool) {
	settled = true
	parts := make(map[*fetcher][]*partition)
	var begun []*fetcher
	now := time.Now()
	s.mu.Lock()
	for _, t := range s.topics {
		for _, p := range t.parts {
			l, known := leaders[p]
			switch {
			case !known:
			case s.isStaleLocked(p, l.epoch):
				l.broker = p.leaderSeen.Load() // The response is older than what we know.
			default:
				p.newEpochLocked(l.epoch)
			}
			if _, reachable := addrs[l.broker]; !known || !reachable {
				settled = settled && !known
				p.owner = nil
				p.leaderSeen.Store(-1)
				p.readSeen.Store(-1)
				continue
			}
			from := p.readFromLocked(l.broker, addrs, now)
			f, addr := s.fetchers[from], addrs[from]
			if f == nil || f.addr != addr {
				if f != nil {
					f.cancel()
				}
				f = s.newFetcher(from, addr)
				s.fetchers[from] = f
				begun = append(begun, f)
			}
			if p.owner != f {
				p.owner, p.progressAt = f, now
			}
			p.leaderSeen.Store(l.broker)
			p.readSeen.Store(from)
			parts[f] = append(parts[f], p)
		}
	}
	for id, f := range s.fetchers {
		if f.parts = parts[f]; len(f.parts) == 0 {
			if f.cancel != nil {
				f.cancel()
			}
			delete(s.fetchers, id)
		}
	}
	s.mu.Unlock()
	for _, f := range begun {
		ctx, cancel := context.WithCancel(s.fetchCtx)
		f.cancel = cancel
		s.spawn("fetcher", func(context.Context) { f.run(ctx) })
	}
	return settled
}

// publishView copies the topology to the view, where any goroutine can read it.
func (s *Source) publishView() {
	v := &s.view
	topics := make([]viewTopic, 0, len(s.topics))
	for _, t := range s.topics {
		for _, p := range t.parts {
			p.ended.Store(t.state == TopicMissing)
		}
		topics = append(topics, viewTopic{name: t.name, found: t.found, denied: t.denied, state: t.state, err: t.err,
			parts: slices.Clone(t.parts)})
	}
	fetchers := make([]*fetcher, 0, len(s.fetchers))
	for _, f := range s.fetchers {
		fetchers = append(fetchers, f)
	}
	slices.SortFunc(fetchers, func(a, b *fetcher) int { return int(a.id) - int(b.id) })
	v.mu.Lock()
	v.topics, v.fetchers, v.addrs = topics, fetchers, s.addrs
	v.mu.Unlock()
}
