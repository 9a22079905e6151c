package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/config"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	limit := func(bytes uint64, ok bool, err error) func() (uint64, bool, error) {
		return func() (uint64, bool, error) { return bytes, ok, err }
	}
	for _, c := range []struct {
		name  string
		env   string
		limit func() (uint64, bool, error)
		want  int64
		log   string
	}{
		{"a limit", "", limit(1000<<20, true, nil), 400 << 20, "from=cgroup"},
		{"none", "", limit(math.MaxUint64, false, nil), math.MaxInt64, ""},
		{"unreadable", "", limit(0, false, errors.New("denied")), math.MaxInt64, "set GOMEMLIMIT"},
		{"asked for", "300MiB", limit(1000<<20, true, nil), math.MaxInt64, "from=GOMEMLIMIT limit=300MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			t.Setenv("GOMEMLIMIT", c.env) // The runtime has read its own by now; what counts is that nobody overrules it.
			var log bytes.Buffer
			limitMemory(slog.New(slog.NewTextHandler(&log, nil)), &config.Loaded{}, c.limit)
			require.Equal(t, c.want, debug.SetMemoryLimit(-1))
			require.Contains(t, log.String(), c.log)
			if c.log == "" {
				require.Empty(t, log.String())
			}
		})
	}
}
