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
	leaders := make(map[*partition]leader)
	for _, t := range s.topics {
		for i := range resp.Topics {
			rt := &resp.Topics[i]
			if rt.Topic != nil && *rt.Topic == t.name {
				changed = s.applyTopic(t, rt, leaders) || changed
			}
		}
	}
	s.forget(false)
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
			p.losses.add(s, p, LossRecreated, position, high)
		}
	}
	notified, err := s.breakLocked(former...)
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
			s.log.Info("a topic that a pattern found is gone", "topic", t.name)
		default:
			s.log.Warn("a topic does not exist; wsd does not create it, but reads it when it appears",
				"topic", t.name)
		}
		if t.state, t.err = TopicMissing, topicError(rt.ErrorCode); t.goneAt.IsZero() {
			t.goneAt = time.Now()
		}
		return false
	default:
		t.state, t.err = TopicFailed, topicError(rt.ErrorCode)
		t.problem.fail(s.log, "a topic cannot be read", "topic", t.name, "kind", kafka.KindOfCode(code), "err", code)
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
		s.log.Info("a topic has appeared", "topic", t.name, "partitions", len(rt.Partitions))
	}
	t.problem.ok(s.log, "a topic can be read again", "topic", t.name)
	t.state, t.err, t.goneAt = TopicPresent, topicError(rt.ErrorCode), time.Time{}

	sortPartitions(rt.Partitions)
	for i := range rt.Partitions {
		rp := &rt.Partitions[i]
		p := t.find(rp.Partition)
		if p == nil {
			from, resumed := Start{Mode: StartEarliest}, committed{offset: -1}
			switch {
			case resuming:
				resumed, from = s.resume(t, rp.Partition, rt)
			case first:
				from = s.o.Start
			case t.seen:
				s.log.Info("a topic has a new partition", "topic", t.name, "partition", rp.Partition)
			}
			p = s.newPartition(t, rp.Partition, from)
			p.again, p.late = t.former != nil, !first || s.answeredLate
			if resumed.offset >= 0 {
				p.resumeAt(resumed)
			}
			t.parts = append(t.parts, p)
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
	s.log.Warn("a topic was deleted and created again: reading the new one from its beginning", "topic", t.name)
	t.retired = append(t.retired, t.id)
	if len(t.retired) > retiredMax {
		t.retired = t.retired[1:]
	}
	s.mu.Lock()
	for _, p := range t.parts {
		p.owner = nil // Nobody routes anything more of it.
	}
	s.mu.Unlock()
	t.former, t.parts, t.seen, t.missed = t.parts, nil, false, true
}

func (t *topic) find(id int32) *partition {
	for _, p := range t.parts {
		if p.id == id {
			return p
		}
	}
	return nil
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
