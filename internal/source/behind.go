package source

import (
	"fmt"
	"time"
)

// end returns where the log ends for us, as the last response has it, or -1. Any goroutine may call it.
func (p *partition) end() int64 {
	if stable := p.stable.Load(); stable >= 0 {
		return stable
	}
	return p.high.Load()
}

// noteWaiting notes that a response has something to read of the partition. Any goroutine may call it.
func (p *partition) noteWaiting(now time.Time) {
	if p.routed.Load() >= p.end() {
		p.behindSince.Set(now) // Whatever was behind before has been read.
		return
	}
	p.behindSince.SetIfNone(now)
}

// behind returns how long the partition has been behind the end of what it could read. An open transaction does not
// count, see heldBack. Any goroutine may call it.
func (p *partition) behind(now time.Time) time.Duration {
	since, position := p.behindSince.Get(), p.routed.Load()
	if since.IsZero() || position < 0 || position >= p.end() {
		return 0
	}
	return max(0, now.Sub(since))
}

// behindLongest returns the partition of parts that has been behind for longest, and how long. Any goroutine may call
// it.
func behindLongest(parts []*partition, now time.Time) (longest *partition, since time.Duration) {
	for _, p := range parts {
		if d := p.behind(now); d > since {
			longest, since = p, d
		}
	}
	return longest, since
}

// noteBehind logs which topics fall behind. The watcher calls it after each refresh.
func (s *Source) noteBehind() {
	if s.o.BehindMax <= 0 {
		return
	}
	now, topics := time.Now(), 0
	var worst *partition
	var longest time.Duration
	for _, t := range s.topics {
		p, since := behindLongest(t.parts, now)
		if since < s.o.BehindMax {
			continue
		}
		if topics++; since > longest {
			worst, longest = p, since
		}
	}
	if topics == 0 {
		s.behindProblem.OK(s.log, "no topic is behind Kafka any longer")
		return
	}
	s.behindProblem.Fail(s.log, "topics are behind Kafka for longer than kafka.behind_max", "topics", topics, "longest",
		worst.topic.name, "partition", worst.id, "behind", longest.Round(time.Millisecond), "lag", worst.stats().Lag)
}

// describeBehind says how far a topic is behind, if that has lasted for Options.BehindMax. Any goroutine may call it.
func (s *Source) describeBehind(parts []*partition) string {
	if s.o.BehindMax <= 0 {
		return ""
	}
	p, since := behindLongest(parts, time.Now())
	if p == nil || since < s.o.BehindMax {
		return ""
	}
	return fmt.Sprintf("behind Kafka for %v: partition %d has %d offsets to read", since.Round(time.Second), p.id,
		p.stats().Lag)
}
