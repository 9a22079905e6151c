package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, c := range []struct {
		name  string
		env   string
		limit memlimit.Provider
		want  int64
		log   string
	}{
		{"a limit", "", memlimit.Limit(1000 << 20), 400 << 20, "from=cgroup"},
		{"none", "", func() (uint64, error) { return 0, memlimit.ErrNoLimit }, math.MaxInt64, ""},
		{"no cgroup", "", func() (uint64, error) { return 0, memlimit.ErrNoCgroup }, math.MaxInt64, ""},
		{"unreadable", "", func() (uint64, error) { return 0, errors.New("denied") }, math.MaxInt64, "set GOMEMLIMIT"},
		{"asked for", "300MiB", memlimit.Limit(1000 << 20), math.MaxInt64, "from=GOMEMLIMIT limit=300MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			t.Setenv("GOMEMLIMIT", c.env) // The runtime has read its own by now; what counts is that nobody overrules it.
			var log bytes.Buffer
			limitMemory(slog.New(slog.NewTextHandler(&log, nil)), c.limit)
			require.Equal(t, c.want, debug.SetMemoryLimit(-1))
			require.Contains(t, log.String(), c.log)
			if c.log == "" {
				require.Empty(t, log.String())
			}
		})
	}
}
