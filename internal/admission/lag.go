package admission

import (
	"time"

	"wsd/internal/stats"
)

// Loop is the loop of one shard. Any goroutine may call its methods.
type Loop struct {
	// Turns counts the loop's turns, LongTurns those of at least stats.DurationMin by their length.
	Turns     func() uint64
	LongTurns *stats.Durations
	// BusySince returns when the turn under way began, in nanoseconds of CLOCK_MONOTONIC, or 0 if there is none.
	BusySince func() uint64
}

// lagMeter computes the lag of the loops: how long an event that comes at a random moment waits for its loop. An event
// waits for the turn that is under way. So a turn of the length L makes all events wait for longer than x that come in
// its first L - x, and the 99th percentile is the x that a hundredth of the time is spent with.
type lagMeter struct {
	loops  []Loop
	before []loopBefore
}

// loopBefore is what a loop had counted at the last sample.
type loopBefore struct {
	turns uint64
	long  stats.DurationCounts
}

// lateShare is the share of events that wait longer than the 99th percentile.
const lateShare = 0.01

func newLagMeter(loops []Loop) *lagMeter {
	m := &lagMeter{loops: loops, before: make([]loopBefore, len(loops))}
	for i, l := range loops {
		m.before[i].turns = l.Turns()
		l.LongTurns.Read(&m.before[i].long)
	}
	return m
}

// measure returns the 99th percentile of the lag since the last call, over all loops that did anything, and the longest
// turn under way. A lag below 1 ms counts as 0. now is CLOCK_MONOTONIC, elapsed the time since the last call.
func (m *lagMeter) measure(now uint64, elapsed time.Duration) (lag, turn time.Duration) {
	var long, counts stats.DurationCounts
	active := 0
	for i := range m.loops {
		l, b := &m.loops[i], &m.before[i]
		turns := l.Turns()
		l.LongTurns.Read(&counts)
		long.AddSince(&counts, &b.long)
		since := l.BusySince()
		if since != 0 && now > since {
			turn = max(turn, time.Duration(now-since)) //nolint:gosec // Less than the time since boot.
			long.Add(now - since)
		}
		if turns != b.turns || since != 0 {
			active++
		}
		b.turns, b.long = turns, counts
	}
	return percentile(&long, float64(elapsed)*float64(active)*lateShare), turn
}

// percentile returns the x for which the turns exceed x by late nanoseconds in all. It takes the turns of a bucket as
// equally long.
func percentile(long *stats.DurationCounts, late float64) time.Duration {
	var count, nanos, x float64
	for i := len(long) - 1; i >= 0; i-- {
		b := &long[i]
		if b.Count == 0 {
			continue
		}
		if count > 0 && x >= float64(b.Nanos)/float64(b.Count) {
			break // These turns are shorter.
		}
		count += float64(b.Count)
		nanos += float64(b.Nanos)
		x = (nanos - late) / count
	}
	return time.Duration(max(0, x))
}
