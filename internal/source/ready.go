package source

import (
	"time"

	"wsd/internal/kafka"
)

// Ready reports whether a subscriber misses nothing from now on: the cluster has been seen, and every partition of
// every topic that exists has a first position, apart from those that are known to be unreadable now. Once the source
// is ready it stays ready: topics that appear later are read from their beginning, and what becomes readable later is
// announced. Any goroutine may call it.
func (s *Source) Ready() bool {
	if s.begun.Load() {
		return true
	}
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	if !s.view.ready(2 * s.o.MetadataInterval) {
		return false
	}
	s.begun.Store(true)
	return true
}

// ready reports whether waiting would bring nothing more. A partition that has no position after patience, and cannot
// be read for a known reason, does not count: one broker of many, or one topic of many, must not keep clients away from
// all others. If nothing at all can be read, the view is not ready. The caller holds v.mu.
func (v *view) ready(patience time.Duration) bool {
	if v.metadata.IsZero() {
		return false
	}
	waited := time.Since(v.since) >= patience
	connected := make(map[int32]bool, len(v.fetchers))
	for _, f := range v.fetchers {
		connected[f.id] = f.lastError.Load() == nil
	}
	read, unreadable := 0, 0
	for _, t := range v.topics {
		switch {
		case t.denied:
			unreadable++
		case (t.state == TopicFailed || t.state == TopicPresent) && len(t.parts) == 0:
			return false // It may have partitions. Until they are known, a subscriber can miss records.
		}
		for _, p := range t.parts {
			switch {
			case p.routed.Load() >= 0:
				read++
			case waited && (!connected[p.leaderSeen.Load()] || p.lastError.Load() != nil):
				unreadable++
			default:
				return false
			}
		}
	}
	return read > 0 || unreadable == 0
}

// isDenied reports whether an error code of a topic says that wsd will not be able to read it until somebody changes
// its permissions or its name.
func isDenied(code kafka.Code) bool {
	return kafka.KindOfCode(code) == kafka.ErrorAuth || code == kafka.InvalidTopic
}
