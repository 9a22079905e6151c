package source

import (
	"sync/atomic"

	"wsd/internal/stats"
)

// Topics returns the counters of every topic that is read: those configured in their order, then those that patterns
// found.
func (s *Stats) Topics() []*TopicStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics
}

// Unlisted returns the counters of the topics that are not listed, including what topics counted that are no longer
// read. It is empty as long as all topics could be listed.
func (s *Stats) Unlisted() (list []*TopicStats) {
	s.mu.Lock()
	topics, some, former := s.topics, s.unlisted, s.former
	s.mu.Unlock()
	if !some {
		return nil
	}
	for _, t := range topics {
		if !t.Listed {
			list = append(list, t)
		}
	}
	if former != nil {
		list = append(list, former)
	}
	return list
}

// TopicsUnlisted returns how many topics are read and not listed.
func (s *Stats) TopicsUnlisted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.topics) - s.listed
}

// UnlistedDeliveries returns what counts the deliveries of all topics that are not listed, or nil while there are none.
func (s *Stats) UnlistedDeliveries() *stats.Deliveries {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unlistedBy
}

// setTopics replaces the list of topics. New ones are listed as long as there is room.
func (s *Stats) setTopics(topics []*topic) {
	list := make([]*TopicStats, len(topics))
	stay := make(map[*TopicStats]bool, len(topics))
	for i, t := range topics {
		list[i] = t.stats
		stay[t.stats] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[*TopicStats]bool, len(s.topics))
	former := s.former
	for _, t := range s.topics {
		known[t] = true
		switch {
		case stay[t]:
		case t.Listed:
			s.listed--
		default:
			sum := &TopicStats{}
			if former != nil {
				sum.add(former)
			}
			sum.add(t) // It has no partitions any longer, so nothing more is counted, except for a break.
			former = sum
		}
	}
	for _, t := range list {
		if known[t] {
			continue
		}
		if t.Listed = s.listed < s.listedMax; t.Listed {
			s.listed++
			t.Deliveries = stats.NewDeliveries(t.Name, s.shards)
			continue
		}
		if s.unlisted = true; s.unlistedBy == nil {
			s.unlistedBy = stats.NewDeliveries("", s.shards)
		}
		t.Deliveries = s.unlistedBy
	}
	s.topics, s.former = list, former
}

// add adds the counters of o.
func (t *TopicStats) add(o *TopicStats) {
	theirs := o.counters()
	for i, c := range t.counters() {
		c.Add(theirs[i].Load())
	}
}

// counters returns every counter, in the same order for each topic.
func (t *TopicStats) counters() []*atomic.Uint64 {
	list := []*atomic.Uint64{&t.Records, &t.Bytes, &t.InvalidJSON, &t.Markers, &t.Aborted, &t.Compacted, &t.Gaps,
		&t.Breaks, &t.BreaksMerged, &t.Strays, &t.Truncations, &t.Recreations, &t.Dropped}
	for i := range t.Lost {
		list = append(list, &t.Lost[i])
	}
	for i := range t.Unplaced {
		list = append(list, &t.Unplaced[i])
	}
	return list
}
