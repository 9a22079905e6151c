package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// With StartCommitted, a new topic begins at the positions of the group. Until they are known, nothing of the topic is
// read, since starting elsewhere would lose or repeat records. Everything else goes on: the coordinator is asked in a
// goroutine of its own, and topics that are known already do not depend on the answer.

var errGroupEmpty = errors.New(
	"kafka.start is committed, but kafka.commit_group is empty: name the group that has the positions")

// answerWait is how long a refresh waits for the coordinator's answer. What comes later is used by a later refresh.
const answerWait = 100 * time.Millisecond

// patience is how long the coordinator may take before it is worth a log line. Connecting takes its time.
const patience = 3 * time.Second

var errNoAnswer = kafka.NewError(kafka.ErrorTimeout,
	errors.New("kafka.start committed: the group's coordinator has not answered yet"))

// question asks the coordinator for the committed positions of new topics. Its goroutine writes the answer before it
// closes done.
type question struct {
	topics map[string][]int32 // The partitions that are asked for.
	begun  time.Time
	done   chan struct{}

	found   map[partKey]committed
	refused map[string]error
	err     error
}

// answers returns whether the answer covers the topic with these partitions.
func (q *question) answers(rt *kmsg.MetadataResponseTopic) bool {
	asked, ok := q.topics[*rt.Topic]
	return ok && len(asked) == len(rt.Partitions)
}

// askCommitted asks for the committed positions of those topics in resp that are new, if the source starts with
// StartCommitted. The topics without an answer are in s.unanswered, with the reason.
func (s *Source) askCommitted(resp *kmsg.MetadataResponse) {
	s.committed, s.unanswered = nil, nil
	if s.o.Start.Mode != StartCommitted {
		return
	}
	fresh := s.newTopics(resp)
	if len(fresh) == 0 {
		s.question = nil // What was asked for is gone.
		return
	}
	if s.question == nil {
		s.ask(fresh)
	}
	q := s.question
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	pending := errNoAnswer
	select {
	case <-q.done:
		s.question, pending = nil, nil
	case <-timer.C:
	case <-s.fetchCtx.Done():
	}
	s.unanswered = make(map[string]error)
	for name, rt := range fresh {
		switch {
		case pending != nil:
			s.unanswered[name] = pending
		case q.err != nil:
			s.unanswered[name] = fmt.Errorf("kafka.start committed: %w", q.err)
		case q.refused[name] != nil:
			s.unanswered[name] = fmt.Errorf("kafka.start committed: topic %s: %w", name, q.refused[name])
		case !q.answers(rt):
			s.unanswered[name] = fmt.Errorf("kafka.start committed: topic %s has not been asked for yet", name)
		}
	}
	if pending == nil {
		s.committed = q.found
	}
}

// newTopics returns the topics in resp that exist and are new, in their first life.
func (s *Source) newTopics(resp *kmsg.MetadataResponse) map[string]*kmsg.MetadataResponseTopic {
	fresh := make(map[string]*kmsg.MetadataResponseTopic)
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if rt.ErrorCode != 0 || len(rt.Partitions) == 0 {
			continue
		}
		if t := s.topicOf(rt); t != nil && !t.seen && len(t.retired) == 0 {
			fresh[t.name] = rt
		}
	}
	return fresh
}

// ask begins a question for the topics.
func (s *Source) ask(fresh map[string]*kmsg.MetadataResponseTopic) {
	q := &question{topics: make(map[string][]int32, len(fresh)), begun: time.Now(), done: make(chan struct{})}
	for name, rt := range fresh {
		for _, rp := range rt.Partitions {
			q.topics[name] = append(q.topics[name], rp.Partition)
		}
	}
	s.question = q
	s.spawn("resumer", func(ctx context.Context) {
		defer s.kickWatcher()
		defer close(q.done)
		k := coordinator{s: s}
		defer k.close()
		if q.err = k.connect(ctx); q.err == nil {
			q.found, q.refused, q.err = k.fetch(q.topics)
		}
	})
}

// noteUnanswered logs that topics wait for their committed positions, and returns the first reason, or nil.
func (s *Source) noteUnanswered() error {
	for name, err := range s.unanswered {
		if s.question != nil && time.Since(s.question.begun) < patience {
			return err
		}
		s.stats.FetchErrors[kafka.KindOf(err)].Add(1)
		s.unansweredProblem.Fail(s.log, "new topics are not read until their committed positions are known, retrying",
			"topics", len(s.unanswered), "topic", name, "kind", kafka.KindOf(err), "err", err)
		return err
	}
	s.unansweredProblem.OK(s.log, "the committed positions of all topics are known")
	return nil
}

// positions is what the group has of a new topic, with StartCommitted.
type positions struct {
	some   bool // The group has the position of a partition.
	former bool // They belong to a former life of the topic.
}

// positionsOf returns what the group has of a new topic.
func (s *Source) positionsOf(t *topic, rt *kmsg.MetadataResponseTopic) (of positions) {
	for i := range rt.Partitions {
		c, ok := s.committed[partKey{topic: t.name, id: rt.Partitions[i].Partition}]
		if !ok {
			continue
		}
		if none := ([16]byte{}); c.topicID != rt.TopicID && c.topicID != none && rt.TopicID != none {
			s.note(eventFormerPositions, t)
			return positions{some: true, former: true}
		}
		of.some = true
	}
	return of
}

// resume returns where a partition of a new topic begins, with StartCommitted: at a committed position if its offset is
// not -1, else where from says. A partition without a position in a topic that has others appeared while wsd did not
// run, and so did a topic with another id: both begin at their beginning.
func (s *Source) resume(t *topic, id int32, of positions) (position committed, from Start) {
	if c, ok := s.committed[partKey{topic: t.name, id: id}]; ok && !of.former {
		return c, Start{}
	}
	if of.some || t.missed {
		return committed{offset: -1}, Start{Mode: StartEarliest}
	}
	return committed{offset: -1}, Start{Mode: StartLatest}
}
