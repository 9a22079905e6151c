package source

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// forgetAfter is how long the source remembers a topic that a pattern found and that is gone. A broker that has just
// started may not know the topic yet, and a forgotten topic would be read from its beginning when it appears again.
const forgetAfter = 10 * time.Minute

// addTopic adds a topic to those that the metadata is asked for.
func (s *Source) addTopic(name string) *topic {
	t := &topic{name: name, stats: &TopicStats{Name: name}, route: s.table.Topic(name), state: TopicUnknown}
	t.published = s.o.Published != nil && s.o.Published(name)
	s.topics, s.byName[name] = append(s.topics, t), t
	return t
}

// topicOf returns the topic that a part of a metadata response is about, or nil if it is not read.
func (s *Source) topicOf(rt *kmsg.MetadataResponseTopic) *topic {
	if rt.Topic == nil {
		return nil
	}
	return s.byName[*rt.Topic]
}

// discover asks for the names of all topics and adds those that a pattern matches. A topic that exists at the first
// time begins where Options.Start says, a later one at its beginning. Discover asks once in each MetadataInterval,
// because the response of a large cluster is large. It returns what the response says about topics that are read, so
// that they need not be asked for again.
func (s *Source) discover(c *kafka.Conn) (described []kmsg.MetadataResponseTopic, err error) {
	if len(s.patterns) == 0 || !s.found.IsZero() && time.Since(s.found) < s.o.MetadataInterval {
		return nil, nil
	}
	var resp kmsg.MetadataResponse
	if _, err := c.Request(s.metadataRequest(c), &resp, 0); err != nil {
		return nil, err
	}
	if resp.ErrorCode != 0 {
		return nil, kafka.Code(resp.ErrorCode)
	}
	if err := s.checkCluster(c, &resp); err != nil {
		return nil, err
	}
	later := !s.found.IsZero()
	s.found = time.Now()
	added, left := 0, 0
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if rt.Topic == nil || s.topicOf(rt) != nil || rt.IsInternal || !s.wanted(*rt.Topic) ||
			kafka.Code(rt.ErrorCode) == kafka.UnknownTopicOrPartition {
			continue
		}
		// After one topic had to be left out there is no room for any other, so forget need not look again.
		if len(s.topics) >= s.o.TopicsMax && (left > 0 || !s.forget(true)) {
			left++
			continue
		}
		t := s.addTopic(*rt.Topic)
		t.found, t.missed = true, later
		added++
		s.note(eventFound, t)
	}
	if left > 0 {
		s.full.Fail(s.log, "the patterns of kafka.topics find more topics than kafka.topics_max allows",
			"topics", len(s.topics), "left_out", left)
	} else {
		s.full.OK(s.log, "all topics that the patterns of kafka.topics find are read", "topics", len(s.topics))
	}
	s.stats.LeftOut.Store(int64(left))
	if added > 0 {
		s.stats.setTopics(s.topics)
	}
	for i := range resp.Topics {
		if rt := &resp.Topics[i]; s.topicOf(rt) != nil && rt.ErrorCode == 0 {
			described = append(described, *rt)
		}
	}
	return described, nil
}

// wanted reports whether a pattern matches the topic.
func (s *Source) wanted(name string) bool {
	for i := range s.patterns {
		if s.patterns[i].FindsTopic(name) {
			return true
		}
	}
	return false
}

// forget drops the topics that a pattern found and that have been gone for forgetAfter. If there is none and room is
// needed, it drops the one that has been gone longest. It reports whether it dropped any.
func (s *Source) forget(needRoom bool) bool {
	var oldest *topic
	kept := s.topics[:0:0]
	for _, t := range s.topics {
		gone := t.found && t.state == TopicMissing
		if gone && needRoom && (oldest == nil || t.goneAt.Before(oldest.goneAt)) {
			oldest = t
		}
		if gone && time.Since(t.goneAt) > forgetAfter {
			s.dropped(t)
			continue
		}
		kept = append(kept, t)
	}
	if len(kept) == len(s.topics) && oldest != nil {
		s.dropped(oldest)
		kept = kept[:0]
		for _, t := range s.topics {
			if t != oldest {
				kept = append(kept, t)
			}
		}
	}
	if len(kept) == len(s.topics) {
		return false
	}
	s.topics = kept
	s.stats.setTopics(s.topics)
	return true
}

// dropped takes a dropped topic's partitions from their fetchers.
func (s *Source) dropped(t *topic) {
	s.note(eventForgotten, t)
	s.topicOutages.left(&t.trouble)
	delete(s.byName, t.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range t.parts {
		p.owner = nil
		s.outages.left(&p.trouble)
	}
	s.forgotten = append(s.forgotten, t.parts...)
}

// endForgotten publishes breaks to the subscribers of forgotten topics: if such a topic comes back, its streams are new
// ones. The topics' positions must no longer be known. The error is a *publishError.
func (s *Source) endForgotten() error {
	if len(s.forgotten) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.forgotten
	s.forgotten = nil
	_, err := s.breakLocked(parts...)
	endStreams(parts)
	return err
}
