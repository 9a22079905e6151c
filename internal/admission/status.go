package admission

import (
	"fmt"
	"strings"
	"time"
)

// Status is the last sample and the state after it.
type Status struct {
	State
	CPU             float64       // Share of the CPUs used, averaged over Marks.Window.
	CPUs            float64       // CPUs that this process may use.
	Lag             time.Duration // 99th percentile of the lag of the loops since the last sample.
	Turn            time.Duration // Longest loop turn that was under way.
	Memory          Memory        // Of the cgroup limit that is closest to its end; no Max without a limit.
	TCPMemory       Memory        // Of net.ipv4.tcp_mem; no Max if it is unknown.
	DescriptorsLeft int64         // Connections that the process may still open.

	marks Marks
}

// Reason says why new clients are refused, or is empty while all are welcome.
func (s *Status) Reason() string {
	if s.Level == 0 {
		return ""
	}
	var parts []string
	if s.CPUScarce {
		parts = append(parts, fmt.Sprintf("CPU time is scarce: %.0f %% of %.2f CPUs used, loop lag %v (refused from "+
			"%.0f %% and %v on, until %.0f %%)", 100*s.CPU, s.CPUs, round(s.Lag), 100*s.marks.CPUHigh, s.marks.LagMax,
			100*s.marks.CPULow))
	}
	if s.MemoryScarce {
		kind, m := "memory", s.Memory
		if s.TCPMemory.Share() > m.Share() {
			kind, m = "TCP memory (net.ipv4.tcp_mem)", s.TCPMemory
		}
		parts = append(parts, fmt.Sprintf("%s is scarce: %.0f %% of %d MiB used (refused from %.0f %% on, until "+
			"%.0f %%)", kind, 100*m.Share(), m.Max>>20, 100*s.marks.MemoryHigh, 100*s.marks.MemoryLow))
	}
	if len(parts) == 0 {
		return "wsd has recovered from an overload, and takes in more and more new clients again"
	}
	return strings.Join(parts, "; ")
}

// figures returns the sample as fields of a log line.
func (s *Status) figures() []any {
	return []any{
		"percent", s.Level, "reason", s.Reason(), "cpu", fmt.Sprintf("%.0f%%", 100*s.CPU), "cpus", s.CPUs,
		"loop_lag", round(s.Lag), "memory", fmt.Sprintf("%.0f%%", 100*s.Memory.Share()),
		"tcp_memory", fmt.Sprintf("%.0f%%", 100*s.TCPMemory.Share()), "descriptors_left", s.DescriptorsLeft,
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
