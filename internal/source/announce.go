package source

import (
	"slices"
	"time"

	"wsd/internal/bus"
)

// A channel that is subscribed to before its partition exists has no stream, so its subscribers have no position and
// cannot recover. When the partition gets its first position, they are asked to subscribe again.

// announceLocked publishes a break to the subscribers of the channels whose streams begin with the partitions' first
// positions, which must be known. The partitions are read after those clients had time to come back. The error is a
// *publishError.
func (s *Source) announceLocked(parts []*partition) error {
	parts = slices.DeleteFunc(parts, func(p *partition) bool { return p.again })
	if len(parts) == 0 {
		return nil
	}
	begun := make(map[*partition]bool, len(parts))
	for _, p := range parts {
		begun[p], p.late = true, false
	}
	known := s.streams.Load()
	br := bus.Break{Begins: true, Match: func(channel string) bool {
		st, ok := known.find(channel, false)
		return ok && begun[st.p]
	}}
	shards := s.concerned(&br)
	if shards.Empty() {
		return nil
	}
	if err := s.router.sealLocked(); err != nil {
		return err
	}
	if err := s.router.publishLocked(bus.NewBreak(br, shards)); err != nil {
		return err
	}
	from := time.Now().Add(s.o.ReturnWait)
	for _, p := range parts {
		p.fetchFrom = from
	}
	for _, p := range parts {
		s.notePartition(eventRecoverable, p)
	}
	return nil
}

// announceResumed announces the partitions that have got a committed position as their first one. The watcher calls it.
func (s *Source) announceResumed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []*partition
	for _, t := range s.topics {
		for _, p := range t.parts {
			if p.late && p.routed.Load() >= 0 {
				late = append(late, p)
			}
		}
	}
	return s.announceLocked(late)
}
