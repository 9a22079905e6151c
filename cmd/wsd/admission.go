package main

import (
	"fmt"
	"strings"
	"time"
)

// admissionState is what the health of a running wsd says of its admission.
type admissionState struct {
	Mode, State         string
	Percent             int
	Reason              string
	CPU, CPUs           float64
	LoopLagSeconds      float64 `json:"loop_lag_seconds"`
	MemoryBytes         uint64  `json:"memory_bytes"`
	MemoryLimitBytes    uint64  `json:"memory_limit_bytes"`
	TCPMemoryBytes      uint64  `json:"tcp_memory_bytes"`
	TCPMemoryLimitBytes uint64  `json:"tcp_memory_limit_bytes"`
	DescriptorsLeft     int64   `json:"descriptors_left"`
}

// refusing reports whether new clients are refused, not only counted.
func (a admissionState) refusing() bool { return a.Percent > 0 && a.Mode == "on" }

// String describes the state on one line.
func (a admissionState) String() string {
	if a.State == "off" {
		return "off"
	}
	var b strings.Builder
	switch {
	case a.refusing():
		fmt.Fprintf(&b, "refusing %d %% of new clients", a.Percent)
	case a.Percent > 0:
		fmt.Fprintf(&b, "accepting all new clients; without the dry run it would refuse %d %%", a.Percent)
	default:
		b.WriteString("accepting all new clients")
	}
	lag := time.Duration(a.LoopLagSeconds * float64(time.Second)).Round(100 * time.Microsecond)
	fmt.Fprintf(&b, "; CPU %.0f %% of %.2f, loop lag %v, ", 100*a.CPU, a.CPUs, lag)
	b.WriteString(share("memory", a.MemoryBytes, a.MemoryLimitBytes))
	b.WriteString(", ")
	b.WriteString(share("TCP memory", a.TCPMemoryBytes, a.TCPMemoryLimitBytes))
	fmt.Fprintf(&b, ", room for %d connections", a.DescriptorsLeft)
	if a.Reason != "" && !a.refusing() { // Otherwise it is among the reasons of the health.
		b.WriteString("; ")
		b.WriteString(a.Reason)
	}
	return b.String()
}

func share(what string, used, limit uint64) string {
	if limit == 0 {
		return "no limit of " + what
	}
	return fmt.Sprintf("%s %.0f %% of %d MiB", what, 100*float64(used)/float64(limit), limit>>20)
}
