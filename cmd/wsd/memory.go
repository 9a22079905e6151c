package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"wsd/internal/cgroup"
	"wsd/internal/config"
)

// memoryRatio is the share of the cgroup's memory limit that the garbage collector tries to keep the heap below. The
// rest is for socket buffers in the kernel, which count towards the same limit and take several times wsd's own memory:
// about 10 KB for an idle client, 85 KB for one that does not read.
const memoryRatio = 0.4

// limitMemory fits what is configured by default to the cgroup's memory limit, and sets the heap limit from it, so that
// the garbage collector works harder before the kernel kills the process. GOMEMLIMIT in the environment takes
// precedence. limit returns the cgroup's limit; ok is false if there is none.
func limitMemory(
	logger *slog.Logger, loaded *config.Loaded, limit func() (bytes uint64, ok bool, err error),
) {
	n, ok, err := limit()
	if err == nil && ok && n <= math.MaxInt64 {
		if changed := loaded.FitMemory(int64(n)); len(changed) > 0 {
			logger.Info("defaults that fit the memory limit of the cgroup", changed...)
		}
	}
	requested := os.Getenv("GOMEMLIMIT")
	switch {
	case requested != "":
		logger.Info("heap limit", "from", "GOMEMLIMIT", "limit", requested)
	case err != nil:
		logger.Warn("no heap limit: the memory limit of the cgroup cannot be read; set GOMEMLIMIT", "error", err)
	case ok && n <= math.MaxInt64:
		bytes := int64(float64(n) * memoryRatio)
		debug.SetMemoryLimit(bytes)
		logger.Info("heap limit", "from", "cgroup", "bytes", bytes, "of_cgroup", memoryRatio)
	}
}

// cgroupMemory returns the lowest memory limit of the cgroups that this process is in.
func cgroupMemory() (bytes uint64, ok bool, err error) {
	tree, err := cgroup.Mounted("")
	if err != nil {
		return 0, false, err
	}
	limits, err := tree.MemoryLimits()
	if err != nil {
		return 0, false, err
	}
	bytes, ok = cgroup.LowestMemory(limits)
	return bytes, ok, nil
}
