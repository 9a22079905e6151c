package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAdmissionDefaults(t *testing.T) {
	l, err := Load(Input{})
	require.NoError(t, err)
	require.Equal(t, Admission{
		Mode: "on", Answer: "reset", RetryAfter: 5 * time.Second, CPUHigh: 85, CPULow: 75, LagMax: 50 * time.Millisecond,
		Hold: 300 * time.Millisecond, Window: 5 * time.Second, MemoryHigh: 80, MemoryLow: 75, Ramp: time.Second,
	}, l.Config.Admission)
}

func TestAdmissionChecks(t *testing.T) {
	for _, c := range []struct {
		flags map[string]any
		want  string // Empty: no fault.
	}{
		{map[string]any{"admission.mode": "dry-run", "admission.answer": "http", "admission.hold": "0s", "admission.ramp": "0s"}, ""},
		{map[string]any{"admission.mode": "off"}, ""},
		{map[string]any{"admission.mode": "true"}, "admission.mode = true (flag --admission.mode): must be on, dry-run or off"},
		{map[string]any{"admission.answer": "429"}, "must be reset or http"},
		{map[string]any{"admission.cpu_high": "0"}, "must be from 1 to 100"},
		{map[string]any{"admission.cpu_high": "101"}, "must be from 1 to 100"},
		{map[string]any{"admission.cpu_high": "70"}, "admission.cpu_low = 75 (default): must be at most admission.cpu_high, which is 70"},
		{map[string]any{"admission.cpu_high": "70", "admission.cpu_low": "70"}, ""},
		{map[string]any{"admission.memory_low": "81"}, "must be at most admission.memory_high, which is 80"},
		{map[string]any{"admission.memory_low": "-1"}, "must be from 0 to 100"},
		{map[string]any{"admission.retry_after": "10ms"}, "must be from 1s to 10m0s"},
		{map[string]any{"admission.window": "1ms"}, "must be from 100ms"},
		{map[string]any{"admission.lag_max": "0s"}, "must be from 1ms"},
		{map[string]any{"admission.hold": "-1s"}, "must be from 0s"},
		{map[string]any{"admission.ramp": "1h"}, "must be from 0s to 1m0s"},
	} {
		_, err := Load(Input{Flags: c.flags})
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.want)
	}
	// The words are not read as YAML's other names for true and false.
	l, err := Load(Input{File: tempFile(t, "wsd.yaml", "admission: {mode: off, answer: http}\n")})
	require.NoError(t, err)
	require.Equal(t, "off", l.Config.Admission.Mode)
}
