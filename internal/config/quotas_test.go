package config

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContradictingQuotas(t *testing.T) {
	for _, test := range []struct {
		flags map[string]any
		want  string
	}{
		{map[string]any{"limits.connections": "10", "limits.address_connections": "11"}, "limits.address_connections = 11 (flag --limits.address-connections): it has no effect, as limits.connections allows 10"},
		{map[string]any{"limits.address_handshakes": "10001"}, "limits.address_handshakes = 10001"},
		{map[string]any{"limits.connections": "10", "limits.handshakes": "10"}, "limits.handshakes = 10"},
		{map[string]any{"limits.channels": "127"}, "limits.channels = 127 (flag --limits.channels): one client may subscribe to 128 channels"},
		{map[string]any{"limits.channels_rate": "127"}, "limits.channels_rate = 127"},
		{map[string]any{"limits.recoveries_rate": "8"}, "limits.recoveries_rate = 8 (flag --limits.recoveries-rate): a client may save up 120 recoveries, and needs 128"},
		{map[string]any{"limits.age": "1h", "limits.idle": "2h"}, "limits.idle = 2h0m0s"},
		{map[string]any{"limits.age": "10s"}, "limits.age = 10s (flag --limits.age): clients are closed before their first ping"},
	} {
		require.Contains(t, warnings(t, test.flags), test.want)
	}
	require.Empty(t, warnings(t, map[string]any{
		"limits.connections": "100000", "limits.address_connections": "100", "limits.age": "1h", "limits.idle": "10m", "limits.channels": "0",
		"limits.channels_rate": "0", "recovery.enabled": false, "limits.recoveries_rate": "1",
	}))
	for key, value := range map[string]string{
		"limits.connections": "-1", "limits.address_connections": "-1", "limits.handshakes": "-1", "limits.address_handshakes": "-1",
		"limits.channels": "-1", "limits.channels_rate": "-1", "limits.age": "999ms", "limits.idle": "-1s", "limits.recoveries_rate": "-1",
	} {
		require.Contains(t, faults(t, Input{Flags: map[string]any{key: value}}), key+" = ")
	}
}

// A client that recovers all its channels after a reconnect keeps to the rate.
func TestRecoveriesRateFollows(t *testing.T) {
	for channels, want := range map[string]int{"1": 50, "128": 50, "1000": 200, "65536": 13107} {
		l, err := Load(Input{Flags: map[string]any{"client.channels_max": channels}})
		require.NoError(t, err)
		require.Equal(t, want, l.Config.Limits.RecoveriesRate, channels)
	}
}

// The table of limits names every option of the group, and what can run dry.
func TestLimitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/limits.md")
	require.NoError(t, err)
	for _, o := range Options() {
		if strings.HasPrefix(o.Key, "limits.") {
			require.Contains(t, string(text), "`"+o.Key, "docs/limits.md does not name %s", o.Key)
		}
	}
	for _, name := range limitNames {
		require.Contains(t, string(text), "| `"+name+"` |", "docs/limits.md does not say that %s can run dry", name)
		l, err := Load(Input{Flags: map[string]any{"limits.dry_run": []string{name}}})
		require.NoError(t, err)
		require.True(t, l.Config.Limits.DryRuns(name))
	}
}
