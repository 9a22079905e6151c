package server

import (
	"cmp"
	"fmt"
	"time"

	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/stats"
)

// lateWindow is how long /health remembers long turns and late deliveries.
const lateWindow = 10 * time.Second

// lateInterval is the shortest time between two lines of the log about late deliveries.
const lateInterval = 10 * time.Second

// newLate returns what shards do about deliveries that are later than health.delivery_max, or nil without it.
func (s *Server) newLate() *shard.Late {
	if s.cfg.Health.DeliveryMax == 0 {
		return nil
	}
	return &shard.Late{Max: s.cfg.Health.DeliveryMax, Interval: lateInterval, Logger: s.log}
}

// lateProblems says which shards had turns longer than steering.stall_bound or are in one that lasts too long, and how
// late deliveries were, now or in the last lateWindow. now is CLOCK_MONOTONIC in nanoseconds.
func (s *Server) lateProblems(now uint64) []string {
	problems := s.turnProblems(now)
	if problem := s.deliveryProblem(now); problem != "" {
		problems = append(problems, problem)
	}
	return problems
}

// turnProblems is one line for all shards, because a machine that is short of CPU makes all of them late. Without
// steering.stall_bound a turn under way may last as long as deliveries may wait: it delivers nothing, and so nothing
// that counts as late.
func (s *Server) turnProblems(now uint64) []string {
	running, ended := turns{}, turns{}
	for i, sh := range s.shards {
		slot := s.steering.Slot(routing.ShardID(i))
		stall := slot.StallBound()
		bound := cmp.Or(stall, s.cfg.Health.DeliveryMax)
		if since := slot.BusySince(); since != 0 && now > since && bound != 0 {
			running.note(i, time.Duration(now-since), bound) //nolint:gosec // Less than the time since boot.
		}
		if stall != 0 {
			ended.note(i, recently(&sh.Stats().TurnsRecent, now), stall)
		}
	}
	var problems []string
	if running.count > 0 {
		problems = append(problems, fmt.Sprintf("%s in one loop turn for %v now: its clients get nothing meanwhile",
			running.who("is", "are"), running.longest.Round(time.Millisecond)))
	}
	if ended.count > 0 {
		problems = append(problems, fmt.Sprintf("%s a loop turn of %v in the last %v, longer than "+
			"steering.stall_bound: wsd needs more CPU or more shards, or one client causes too much work",
			ended.who("had", "had"), ended.longest.Round(time.Millisecond), lateWindow))
	}
	return problems
}

// turns sums up turns that were too long.
type turns struct {
	count, shard int // How many shards, and the one with the longest turn.
	longest      time.Duration
}

func (t *turns) note(shard int, d, bound time.Duration) {
	if d <= bound {
		return
	}
	if t.count++; d > t.longest {
		t.shard, t.longest = shard, d
	}
}

func (t *turns) who(one, many string) string {
	if t.count == 1 {
		return fmt.Sprintf("shard %d %s", t.shard, one)
	}
	return fmt.Sprintf("%d shards, shard %d longest, %s", t.count, t.shard, many)
}

// deliveryProblem says how late deliveries were in the last lateWindow, and where the time went, or is empty.
func (s *Server) deliveryProblem(now uint64) string {
	bound := s.cfg.Health.DeliveryMax
	if bound == 0 {
		return ""
	}
	longest := func(of func(*shard.Stats) *stats.Recent) (d time.Duration) {
		for _, sh := range s.shards {
			d = max(d, recently(of(sh.Stats()), now))
		}
		return d.Round(time.Millisecond)
	}
	latency := longest(func(st *shard.Stats) *stats.Recent { return &st.LatencyRecent })
	if latency <= bound {
		return ""
	}
	delay := longest(func(st *shard.Stats) *stats.Recent { return &st.DelayRecent })
	if delay > bound {
		return fmt.Sprintf("deliveries are late: in the last %v records waited up to %v in wsd, longer than "+
			"health.delivery_max (%v); wsd needs more CPU or more shards", lateWindow, delay, bound)
	}
	age := longest(func(st *shard.Stats) *stats.Recent { return &st.AgeRecent })
	if age > bound {
		return fmt.Sprintf("deliveries are behind: in the last %v wsd read records that were produced up to %v "+
			"before, longer than health.delivery_max (%v), and delivered them within %v; a backlog, or old timestamps "+
			"of the producers", lateWindow, age, bound, max(delay, shard.LateFrom))
	}
	return fmt.Sprintf("deliveries are late: in the last %v records were up to %v old when delivered, longer "+
		"than health.delivery_max (%v): up to %v when read from Kafka, up to %v more in wsd", lateWindow, latency,
		bound, age, max(delay, shard.LateFrom))
}

func recently(r *stats.Recent, now uint64) time.Duration {
	return time.Duration(r.Max(now, lateWindow)) //nolint:gosec // Durations, of less than the time since 1970.
}
