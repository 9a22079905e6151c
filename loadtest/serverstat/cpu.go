package serverstat

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clockSched is the kernel's CPUCLOCK_SCHED: the clock of a process that counts its CPU time in nanoseconds.
const clockSched = 2

// CPUTime is the user and system time of process pid since its start, all threads, as its CPU clock has it: finer than
// the steps of 10 ms in Usage, and without memory's cost of reading.
func CPUTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	// clock_getcpuclockid(3) makes the clock's number so.
	if err := unix.ClockGettime(int32(^pid<<3|clockSched), &t); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
