package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// CPUs returns the CPUs that this process may use, in ascending order.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("get the CPUs of this process: %w", err)
	}
	var list []int
	for cpu := 0; len(list) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list, nil
}

// only returns a set with one CPU.
func only(cpu int) *unix.CPUSet {
	var set unix.CPUSet
	set.Set(cpu)
	return &set
}

// pinned calls f on a thread that may use only this CPU. Processes that f starts inherit that.
func pinned(cpu int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read a thread's CPUs: %w", err)
	}
	if err := unix.SchedSetaffinity(0, only(cpu)); err != nil {
		return fmt.Errorf("restrict a thread to CPU %d: %w", cpu, err)
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// threadsPasses is the maximum number of times that PinSelf looks for new threads.
const threadsPasses = 10

// PinSelf restricts all threads of this process, also later ones, to one CPU.
func PinSelf(cpu int) error {
	done := map[int]bool{}
	for range threadsPasses {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads of this process: %w", err)
		}
		fresh := false
		for _, e := range entries {
			id, err := strconv.Atoi(e.Name())
			if err != nil || done[id] {
				continue
			}
			// Ignore a thread that has ended meanwhile.
			if err := unix.SchedSetaffinity(id, only(cpu)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("restrict this process to CPU %d: %w", cpu, err)
			}
			done[id], fresh = true, true
		}
		// A thread inherits the CPU from its creator, so all threads have it when a pass finds no new one.
		if !fresh {
			return nil
		}
	}
	return errors.New("restrict this process to one CPU: it creates threads faster than they can be listed")
}
