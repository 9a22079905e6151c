package shard

import (
	"fmt"
	"time"
)

// A connection has an allowance of commands, frames, inflated bytes and recoveries, each at a rate. It is one allowance
// of time: a command at 200 a second takes 5 ms of it, and it holds allowanceWindow. That costs each connection four
// bytes, the time at which its allowance is whole again (the generic cell rate algorithm, ITU-T I.371 §A). A client
// that uses more is closed with 3013 and comes back later.
const (
	// allowanceWindow is for how long a client may send nothing and then all of it at once: what it sends after a
	// reconnect.
	allowanceWindow = 15 * time.Second
	// allowanceUnit is what allowances are counted in: 32 bits of it are three days, far more than the time between
	// two pongs.
	allowanceUnit = time.Millisecond / 16
)

// Rate is a kind of input that has a rate.
type Rate uint8

// The rates.
const (
	RateCommands Rate = iota
	RateFrames
	RateInflated   // In bytes.
	RateRecoveries // Subscribe commands that recover, and history commands.
	rateCount
)

var rateOptions = [rateCount]string{
	"limits.commands_rate", "limits.frames_rate", "limits.inflated_rate", "limits.recoveries_rate",
}

// Rates lists every rate.
func Rates() []Rate { return []Rate{RateCommands, RateFrames, RateInflated, RateRecoveries} }

// String is the rate's metric label.
func (r Rate) String() string {
	return [rateCount]string{"commands_rate", "frames_rate", "inflated_rate", "recoveries_rate"}[r]
}

// RateLimit is how much of a kind of input one connection may send.
type RateLimit struct {
	PerSecond int  // 0: any number.
	DryRun    bool // A client that sends more is counted, and goes on.
}

// RateLimits are the limits of one connection, by Rate.
type RateLimits [rateCount]RateLimit

// charge is overRate that ends c if it had not as much, and reports whether it had.
func (s *Shard) charge(c *conn, kind Rate, n int) bool {
	end := s.overRate(c, kind, n)
	if end != nil {
		s.endSaying(c, end.reason, end.text)
	}
	return end == nil
}

// overRate takes n of a kind off c's allowance. If it had not as much, overRate returns how c is to end. Of the input
// that used it up, that of the last kind is counted.
func (s *Shard) overRate(c *conn, kind Rate, n int) *ending {
	limit := s.opts.Limits.Rates[kind]
	if limit.PerSecond == 0 || n == 0 {
		return nil
	}
	now := s.clock.tick * uint32(tickLength/allowanceUnit)
	spent := int64(int32(c.whole - now)) // They wrap around; the difference is small.
	cost := int64(n) * int64(time.Second/allowanceUnit) / int64(limit.PerSecond)
	spent = max(spent, 0) + max(cost, 1)
	if spent <= int64(allowanceWindow/allowanceUnit) {
		c.whole = now + uint32(spent)
		return nil
	}
	s.stats.OverRate[kind].Add(1)
	if limit.DryRun {
		c.whole = now // Counted once a window, not with each command from now on.
		return nil
	}
	what := [rateCount]string{"commands", "frames", "bytes after inflating", "recoveries and history requests"}[kind]
	return &ending{ReasonTooManyRequests,
		fmt.Sprintf("more than %d %s a second (%s)", limit.PerSecond, what, rateOptions[kind])}
}
