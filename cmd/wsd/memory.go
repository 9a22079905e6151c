package main

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryRatio is the share of the cgroup's memory limit that the garbage collector tries to keep the heap below. The
// rest is for socket buffers in the kernel, which count towards the same limit and take several times wsd's own memory:
// about 10 KB for an idle client, 85 KB for one that does not read.
const memoryRatio = 0.4

// limitMemory sets the heap limit from the cgroup's memory limit, so that the garbage collector works harder before the
// kernel kills the process. GOMEMLIMIT in the environment takes precedence. limit returns the cgroup's limit.
func limitMemory(logger *slog.Logger, limit memlimit.Provider) {
	if requested := os.Getenv("GOMEMLIMIT"); requested != "" {
		logger.Info("heap limit", "from", "GOMEMLIMIT", "limit", requested)
		return
	}
	n, err := memlimit.ApplyRatio(limit, memoryRatio)()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup):
	case err != nil:
		logger.Warn("no heap limit: the memory limit of the cgroup cannot be read; set GOMEMLIMIT", "error", err)
	case n <= math.MaxInt64:
		debug.SetMemoryLimit(int64(n))
		logger.Info("heap limit", "from", "cgroup", "bytes", n, "of_cgroup", memoryRatio)
	}
}
