package server

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptorsKept is the number of descriptors reserved for other uses than clients. The admin port and the control
// socket have at most 128 connections each, and each broker one or two.
const descriptorsKept = 320

// filesFew is a limit on open files that wsd warns of. Kernels and distributions set 4,096 or more as the hard limit.
const filesFew = 4096

// connectionsMax returns how many connections the limit on open files leaves room for, besides the files that are open
// now and those to the backend.
func connectionsMax(backend int64) int64 {
	inUse := 0
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		inUse = len(open)
	}
	limit := int64(min(openFilesMax(), 1<<40)) // "unlimited" is the largest uint64.
	// With a very small limit, clients get half of it.
	return max(limit-int64(inUse)-descriptorsKept-backend, limit/2, 1)
}

// openFilesMax returns the limit on open files.
func openFilesMax() uint64 {
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // Cannot fail for the own process.
	return files.Cur
}
