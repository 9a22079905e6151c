package shard

import (
	"fmt"
	"time"
)

// A connection has an allowance of commands, frames, inflated bytes and recoveries, each at a rate. It is one allowance
// of time: a command at 200 a second takes 5 ms of it, and it holds allowanceWindow. That costs each connection four
// bytes, the time at which its allowance is whole again (the generic cell rate algorithm, ITU-T I.371 §A). A client
// that uses more is closed with 3013 and comes back later.
//
// Rates in a dry run have an allowance of their own, also one for all of them: what is only counted must take nothing
// from what is enforced.
const (
	// allowanceWindow is for how long a client may send nothing and then all of it at once: what it sends after a
	// reconnect.
	allowanceWindow = 15 * time.Second
	// allowanceUnit is what allowances are counted in. 32 bits of it are three days, after which they wrap around.
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

// rates are the names of rates, which are those of their options and metric labels, and what they count.
var rates = [rateCount]struct{ name, what string }{
	RateCommands:   {"commands_rate", "commands"},
	RateFrames:     {"frames_rate", "frames"},
	RateInflated:   {"inflated_rate", "bytes after inflating"},
	RateRecoveries: {"recoveries_rate", "recoveries and history requests"},
}

// Rates lists every rate.
func Rates() []Rate {
	list := make([]Rate, rateCount)
	for r := range list {
		list[r] = Rate(r)
	}
	return list
}

// String is the rate's metric label, and its option in the group limits.
func (r Rate) String() string { return rates[r].name }

// RateLimit is how much of a kind of input one connection may send.
type RateLimit struct {
	PerSecond int  // 0: any number.
	DryRun    bool // A client that sends more is counted, and goes on.
}

// RateLimits are the limits of one connection, by Rate.
type RateLimits [rateCount]RateLimit

// allowanceNow is the time in allowanceUnits since start. It wraps around.
func (s *Shard) allowanceNow() uint32 { return s.clock.tick * uint32(tickLength/allowanceUnit) }

// charge is overRate that ends c if it had not as much, and reports whether it had. c must be a client.
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
	now := s.allowanceNow()
	cost := max(int64(n)*int64(time.Second/allowanceUnit)/int64(limit.PerSecond), 1)
	if limit.DryRun {
		whole, ok := takeAllowance(s.dryRuns[c.slot], now, cost)
		if !ok {
			s.stats.OverRate[kind].Add(1)
			whole = now // Counted once a window, not with each command from now on.
		}
		s.dryRuns[c.slot] = whole
		return nil
	}
	whole, ok := takeAllowance(c.whole, now, cost)
	if ok {
		c.whole = whole
		return nil
	}
	s.stats.OverRate[kind].Add(1)
	return &ending{ReasonTooManyRequests,
		fmt.Sprintf("more than %d %s a second (limits.%s)", limit.PerSecond, rates[kind].what, kind)}
}

// takeAllowance takes cost, in allowanceUnits, off an allowance that is whole at a time. It returns when the allowance
// is whole again, and whether it had as much.
func takeAllowance(whole, now uint32, cost int64) (uint32, bool) {
	return spendAllowance(whole, now, cost, int64(allowanceWindow/allowanceUnit))
}

// spendAllowance is takeAllowance for an allowance of another window, in allowanceUnits.
func spendAllowance(whole, now uint32, cost, window int64) (uint32, bool) {
	spent := int64(int32(whole - now))
	if spent < 0 || spent > window {
		spent = 0 // No allowance has been used by more: what was stored is days old, and the clock has wrapped around.
	}
	spent += cost
	return now + uint32(spent), spent <= window
}
