package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// CPUs are those that this process may use, in order.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask for the CPUs of this process: %w", err)
	}
	var list []int
	for cpu := 0; len(list) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list, nil
}

// only is the set of one CPU.
func only(cpu int) *unix.CPUSet {
	var set unix.CPUSet
	set.Set(cpu)
	return &set
}

// pinned runs f on a thread that has only this CPU: what f starts inherits that.
func pinned(cpu int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read a thread's CPUs: %w", err)
	}
	if err := unix.SchedSetaffinity(0, only(cpu)); err != nil {
		return fmt.Errorf("keep a thread to CPU %d: %w", cpu, err)
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// threadsPasses bounds how often PinSelf looks for threads that were made meanwhile.
const threadsPasses = 10

// PinSelf keeps every thread of this process, also those to come, to one CPU.
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
			// A thread that has ended meanwhile needs none.
			if err := unix.SchedSetaffinity(id, only(cpu)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("keep this process to CPU %d: %w", cpu, err)
			}
			done[id], fresh = true, true
		}
		// A thread inherits from the one that made it: when a pass finds no new one, all have it.
		if !fresh {
			return nil
		}
	}
	return errors.New("keep this process to one CPU: it makes threads faster than they can be listed")
}
