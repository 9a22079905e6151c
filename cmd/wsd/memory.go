package main

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryRatio is the part of the cgroup's memory that the collector keeps the heap within. The rest is for what the kernel holds for
// sockets, which counts against the same limit and is several times wsd's own memory: 10 KB for an idle client, 85 KB for one
// that does not read.
const memoryRatio = 0.4

// limitMemory makes the collector work harder near the cgroup's limit, rather than let the kernel end the process there. A
// GOMEMLIMIT in the environment has its say instead. limit is where the cgroup's limit comes from.
func limitMemory(logger *slog.Logger, limit memlimit.Provider) {
	if asked := os.Getenv("GOMEMLIMIT"); asked != "" {
		logger.Info("heap limit", "from", "GOMEMLIMIT", "limit", asked)
		return
	}
	n, err := memlimit.ApplyRatio(limit, memoryRatio)()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup):
	case err != nil:
		logger.Warn("the cgroup's memory limit is unknown, so the heap has none: set GOMEMLIMIT", "error", err)
	case n <= math.MaxInt64:
		debug.SetMemoryLimit(int64(n))
		logger.Info("heap limit", "from", "cgroup", "bytes", n, "of_cgroup", memoryRatio)
	}
}
