package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
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

// limitRow is a row of the table in docs/limits.md.
type limitRow struct {
	keys   []string // Options that the first cell names as its subject.
	preset string   // The default.
	dryRun string
}

var subjectKey = regexp.MustCompile("^`([a-z_.]+)`:")

// limitRows reads the table.
func limitRows(t *testing.T) (rows []limitRow) {
	t.Helper()
	text, err := os.ReadFile("../../docs/limits.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| limit | default | beyond it | dry run | counted |\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		require.Len(t, cells, 5, line)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		row := limitRow{preset: cells[1], dryRun: strings.Trim(cells[3], "`")}
		if m := subjectKey.FindStringSubmatch(cells[0]); m != nil {
			row.keys = []string{m[1]}
		}
		rows = append(rows, row)
	}
	return rows
}

// The table of limits has every option of the group with its default, and what can run dry.
func TestLimitsAreDocumented(t *testing.T) {
	rows := limitRows(t)
	options := map[string]Option{}
	for _, o := range Options() {
		options[o.Key] = o
	}
	named, dry := map[string]bool{}, map[string]bool{}
	for _, row := range rows {
		for _, key := range row.keys {
			require.Contains(t, options, key, "docs/limits.md names an option that there is not")
			require.False(t, named[key], "docs/limits.md has %s twice", key)
			named[key] = true
			require.True(t, strings.HasPrefix(row.preset, "`"+options[key].Default+"`"),
				"docs/limits.md says that the default of %s is %s; it is %s", key, row.preset, options[key].Default)
		}
		switch {
		case row.dryRun == "" || strings.Contains(row.dryRun, "---"):
		case strings.Contains(row.dryRun, "."):
			key, _, _ := strings.Cut(row.dryRun, ":")
			require.Contains(t, options, key)
		default:
			dry[row.dryRun] = true
		}
	}
	for key := range options {
		if strings.HasPrefix(key, "limits.") && key != "limits.dry_run" {
			require.True(t, named[key], "docs/limits.md does not name %s", key)
		}
	}
	require.ElementsMatch(t, limitNames, slices.Collect(maps.Keys(dry)), "what can run dry")
	for _, name := range limitNames {
		l, err := Load(Input{Flags: map[string]any{"limits.dry_run": []string{name}}})
		require.NoError(t, err)
		require.True(t, l.Config.Limits.DryRuns(name))
	}
}

// In a dry run, what needs a ceiling has the largest value that its option can have.
func TestDryRunHasACeiling(t *testing.T) {
	l, err := Load(Input{Flags: map[string]any{
		"limits.dry_run": []string{"channels_max", "head_max", "message_max"}, "client.first_message_max": "2KiB"}})
	require.NoError(t, err)
	c := l.Config.Limits.Enforced(l.Config.Client)
	require.Equal(t, []int{1 << 16, 1 << 20, 16 << 20, 2 << 10},
		[]int{c.ChannelsMax, int(c.HeadMax), int(c.MessageMax), int(c.FirstMessageMax)})
	l, err = Load(Input{Flags: map[string]any{"limits.dry_run": []string{"first_message_max"}, "client.first_message_max": "2KiB"}})
	require.NoError(t, err)
	c = l.Config.Limits.Enforced(l.Config.Client)
	require.Equal(t, []int{128, 128 << 10, 128 << 10}, []int{c.ChannelsMax, int(c.MessageMax), int(c.FirstMessageMax)})
}

// The first message follows the largest, and wsd warns if it has no room for what SDKs send.
func TestFirstMessageFollows(t *testing.T) {
	for _, most := range []string{"64KiB", "1MiB"} {
		l, err := Load(Input{Flags: map[string]any{"client.message_max": most}})
		require.NoError(t, err)
		require.Equal(t, most, l.Config.Client.FirstMessageMax.String())
	}
	for value, want := range map[string]string{
		"16KiB": "client.first_message_max = 16KiB (flag --client.first-message-max): SDKs connect and subscribe in one message, for which a client with 128 subscriptions (client.channels_max) may need 125824 bytes",
		"1MiB":  "client.first_message_max = 1MiB (flag --client.first-message-max): it has no effect, as client.message_max allows 128KiB",
	} {
		require.Contains(t, warnings(t, map[string]any{"client.first_message_max": value}), want)
	}
	require.Empty(t, warnings(t, map[string]any{"client.first_message_max": "16KiB", "client.channels_max": "16"}))
	require.Contains(t, faults(t, Input{Flags: map[string]any{"client.first_message_max": "1023"}}), "client.first_message_max")
}

// Answers have a part of the memory for clients.
func TestAnswersFollow(t *testing.T) {
	for memory, want := range map[int64]int64{8 << 20: 4 << 20, 1 << 20: 1 << 20, 256 << 20: 128 << 20, 16 << 30: 256 << 20} {
		require.Equal(t, want, (&ClientLimits{}).AnswersMax(memory))
		require.EqualValues(t, 5<<20, (&ClientLimits{AnswersMemory: 5 << 20}).AnswersMax(memory))
	}
	require.Contains(t, faults(t, Input{Flags: map[string]any{"limits.answers_memory": "1"}}), "limits.answers_memory")
}
