package source

import (
	"errors"
	"fmt"
	"time"
)

// Errors of Skip. Its error wraps one of them, or is about the bus, which happens only when the source stops.
var (
	// ErrNotRead: the source does not read the partition.
	ErrNotRead = errors.New("not read")
	// ErrNoPosition: the first position of the partition is not known yet.
	ErrNoPosition = errors.New("no position yet")
	// ErrSkipRange: the position cannot move to that offset.
	ErrSkipRange = errors.New("impossible offset")
)

// Values of Skip's argument to that are no offsets.
const (
	SkipOne = -1 // The offset after the next one: skip one offset.
	SkipEnd = -2 // The end of the log, as the last response has it.
)

// Skip moves a partition's position on to the offset to, for an operator who does not want to wait until what stands
// there can be read. The offsets in between are lost: they are counted, logged, and followed by a break. A partition
// that a rule has stopped goes on. It returns the offsets [from, end) that were skipped. It waits for what is being
// routed, and while the bus is full. Any goroutine may call it.
func (s *Source) Skip(topic string, partition int32, to int64) (from, end int64, err error) {
	p := s.partitionSeen(topic, partition)
	if p == nil {
		return 0, 0, fmt.Errorf("topic %s has no partition %d that wsd reads: %w", topic, partition, ErrNotRead)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from = p.routed.Load()
	if to, err = p.skipToLocked(from, to); err != nil {
		return 0, 0, err
	}
	p.routed.Store(to)
	p.stopped.Store(nil)
	p.badOffset, p.heldUntil, p.progressAt = -1, time.Time{}, time.Now()
	p.goodLocked(s)
	if err := s.loseLocked(p, LossSkipped, from, to, "by", "wsd kafka skip"); err != nil {
		return 0, 0, err
	}
	if p.owner != nil {
		p.owner.wakeUp()
	}
	return from, to, s.router.sealLocked() // The position is to be committed.
}

// skipToLocked returns the offset to which Skip moves the position, which is at from.
func (p *partition) skipToLocked(from, to int64) (int64, error) {
	high := p.high.Load()
	switch {
	case from < 0:
		return 0, fmt.Errorf("where reading %s/%d begins is not known yet; /health says why: %w", p.topic.name, p.id,
			ErrNoPosition)
	case to == SkipOne:
		to = from + 1
	case to == SkipEnd && high < 0:
		return 0, fmt.Errorf("the end of %s/%d is not known yet; name an offset: %w", p.topic.name, p.id, ErrSkipRange)
	case to == SkipEnd:
		to = high
	case to < 0:
		return 0, fmt.Errorf("offset %d is negative: %w", to, ErrSkipRange)
	}
	switch {
	case high >= 0 && to > high:
		return 0, fmt.Errorf("offset %d of %s/%d is after the end of the log, which is %d: %w", to, p.topic.name, p.id,
			high, ErrSkipRange)
	case to <= from:
		return 0, fmt.Errorf("offset %d of %s/%d is not after the position, which is %d: %w", to, p.topic.name, p.id,
			from, ErrSkipRange)
	}
	return to, nil
}

// partitionSeen returns a partition of the topology, or nil. Any goroutine may call it.
func (s *Source) partitionSeen(topic string, id int32) *partition {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	for _, t := range s.view.topics {
		if t.name != topic || t.state == TopicMissing {
			continue
		}
		for _, p := range t.parts {
			if p.id == id {
				return p
			}
		}
	}
	return nil
}
