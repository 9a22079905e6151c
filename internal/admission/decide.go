package admission

import "time"

// Interval is the time between two samples.
const Interval = 100 * time.Millisecond

// Marks say from when on wsd counts as overloaded. Shares are from 0 to 1.
type Marks struct {
	CPUHigh float64 // Share of the CPUs from which CPU time is scarce, together with LagMax.
	CPULow  float64 // Share of the CPUs at which new clients are welcome again.
	LagMax  time.Duration
	Hold    time.Duration // How long both CPUHigh and LagMax must be exceeded without a break.
	Window  time.Duration // Time over which the CPU share is averaged, see Sample.CPU.

	MemoryHigh float64 // Share of a memory limit from which new clients are refused.
	MemoryLow  float64 // Share of a memory limit at which they are welcome again.

	Ramp time.Duration // Time in which the refused part rises from nothing to everybody, and falls back.
}

// Sample is what one look at the process found.
type Sample struct {
	// CPU is the share of the CPU time that wsd may use and has used, as an average over Marks.Window: a short burst
	// is not an overload.
	CPU float64
	// Lag is the 99th percentile of the time that an event waited for its shard's loop, since the last sample.
	Lag time.Duration
	// Memory is the largest share of a memory limit that is in use; 0 without a limit.
	Memory float64
}

// State is what was decided. The zero value refuses nobody.
type State struct {
	Level        int  // Percentage of new clients to refuse.
	CPUScarce    bool // CPUHigh and LagMax were exceeded for Hold, and the lack of CPU time has not ended yet.
	MemoryScarce bool // MemoryHigh was reached, and the lack of memory has not ended yet.

	over int // Samples in a row with CPUHigh and LagMax exceeded.
	calm int // Samples in a row with LagMax not exceeded.
}

// Next returns the state after a sample.
//
// The level rises while the marks are exceeded, stays while wsd recovers, and falls afterwards. A lack of CPU time has
// ended at CPULow, or when the loops have kept LagMax for a whole Window: a process that is busy but quick is not
// overloaded, and must not refuse clients for as long as it stays busy.
func (m *Marks) Next(s State, in Sample) State {
	scarce := in.CPU >= m.CPUHigh && in.Lag > m.LagMax
	s.over = count(scarce, s.over)
	s.calm = count(in.Lag <= m.LagMax, s.calm)

	cpu := scarce && s.over >= samples(m.Hold)
	switch {
	case cpu:
		s.CPUScarce = true
	case in.CPU <= m.CPULow || s.calm >= samples(m.Window):
		s.CPUScarce = false
	}
	memory := in.Memory >= m.MemoryHigh
	switch {
	case memory:
		s.MemoryScarce = true
	case in.Memory <= m.MemoryLow:
		s.MemoryScarce = false
	}

	step := (100 + samples(m.Ramp) - 1) / samples(m.Ramp)
	switch {
	case cpu || memory:
		s.Level = min(s.Level+step, 100)
	case !s.CPUScarce && !s.MemoryScarce:
		s.Level = max(s.Level-step, 0)
	}
	return s
}

// count returns one more than before if the condition holds, else 0.
func count(holds bool, before int) int {
	if !holds {
		return 0
	}
	return before + 1
}

// samples returns how many samples cover a time, at least one.
func samples(d time.Duration) int { return max(1, int((d+Interval-1)/Interval)) }
