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

// keepsUp is how long the records of a response may take until all of them are on the bus. If they take longer, more
// have come meanwhile, even if the response had all that there was.
const keepsUp = time.Second

// noteWaiting notes that a response has something to read of the partition. Any goroutine may call it.
func (p *partition) noteWaiting(now time.Time) {
	p.waiting.Set(now)
	if late := p.lateAt.Get(); p.routed.Load() >= p.end() && (late.IsZero() || now.Sub(late) > keepsUp) {
		p.behindSince.Set(now) // Whatever was behind before has been read.
		return
	}
	p.behindSince.SetIfNone(now)
}

// noteOnBus notes that everything that was routed since noteWaiting is on the bus. Any goroutine may call it.
func (p *partition) noteOnBus(now time.Time) {
	switch late := now.Sub(p.waiting.Get()) > keepsUp; {
	case p.routed.Load() < p.end():
	case late:
		p.lateAt.Set(now)
	default:
		p.lateAt.Clear()
		p.behindSince.Clear()
	}
	p.waiting.Clear()
}

// noteEnd notes that the partition has been read to its end. Its last records may wait for the bus.
func (p *partition) noteEnd() {
	if p.waiting.Get().IsZero() {
		p.lateAt.Clear()
		p.behindSince.Clear()
	}
}

// behind returns how long the partition has been behind the end of what it could read, or has had records that the bus
// had no room for. An open transaction does not count, see heldBack. Any goroutine may call it.
func (p *partition) behind(now time.Time) time.Duration {
	since, position := p.behindSince.Get(), p.routed.Load()
	if since.IsZero() || position < 0 || position >= p.end() && p.waiting.Get().IsZero() {
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
	what := "records that wait for room on the bus"
	if lag := p.stats().Lag; lag > 0 {
		what = fmt.Sprintf("%d offsets to read", lag)
	}
	return fmt.Sprintf("behind Kafka for %v: partition %d has %s", since.Round(time.Second), p.id, what)
}
