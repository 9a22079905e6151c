package admin

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Process is the resources of the whole process, as counted by the kernel and the Go runtime.
type Process struct {
	PID              int     `json:"pid"`               // Process id.
	CPUSeconds       float64 `json:"cpu_seconds"`       // User and system time since the start.
	CPUs             int     `json:"cpus"`              // CPUs that wsd may use (GOMAXPROCS).
	ResidentBytes    int64   `json:"resident_bytes"`    // Resident memory; 0 where /proc is not mounted.
	Goroutines       int     `json:"goroutines"`        // Number of goroutines.
	OpenFilesMax     uint64  `json:"open_files_max"`    // Limit on open files. Each connection needs one.
	MajorPageFaults  int64   `json:"major_page_faults"` // Page faults that needed I/O.
	ContextSwitches  int64   `json:"context_switches"`  // Context switches because the process waited.
	PreemptionsTotal int64   `json:"preemptions_total"` // Context switches because another process got the CPU.
}

// ReadProcess returns the resources of this process now.
func ReadProcess() Process {
	p := Process{PID: os.Getpid(), CPUs: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(),
		ResidentBytes: residentBytes()}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		p.CPUSeconds = (time.Duration(usage.Utime.Nano()) + time.Duration(usage.Stime.Nano())).Seconds()
		p.MajorPageFaults, p.ContextSwitches, p.PreemptionsTotal = usage.Majflt, usage.Nvcsw, usage.Nivcsw
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		p.OpenFilesMax = files.Cur
	}
	return p
}

func residentBytes() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
