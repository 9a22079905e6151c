package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// warnings returns the warnings about a valid configuration.
func warnings(t *testing.T, flags map[string]any) string {
	t.Helper()
	l, err := Load(Input{Flags: flags})
	require.NoError(t, err)
	var lines []string
	for _, w := range l.Warnings {
		lines = append(lines, w.String())
	}
	return strings.Join(lines, "\n")
}

// With the defaults, a client that keeps to one limit can keep to all.
func TestDefaultLimitsFit(t *testing.T) {
	l, err := Load(Input{})
	require.NoError(t, err)
	require.Empty(t, l.Warnings)
	c := &l.Config.Client
	name, token := strings.Repeat("n", c.ChannelLengthMax), strings.Repeat("t", tokenBytes)
	var frame, query strings.Builder
	for i := range c.ChannelsMax {
		fmt.Fprintf(&frame, `{"id":%d,"subscribe":{"channel":"%s","token":"%s","recover":true,"epoch":"%s","offset":%d}}`+"\n",
			1<<20+i, name, token, strings.Repeat("e", 27), uint64(1)<<44)
		query.WriteString("&channel=" + strings.Repeat("%c3", c.ChannelLengthMax))
	}
	require.LessOrEqual(t, frame.Len(), int(c.MessageMax))
	require.LessOrEqual(t, query.Len()+fieldsBytes, int(c.HeadMax))
	require.Equal(t, "128KiB", c.MessageMax.String())
	require.Equal(t, "108KiB", c.HeadMax.String())
}

// Limits that are not given follow the others.
func TestLimitsFollow(t *testing.T) {
	for channels, want := range map[string][2]string{
		"1": {"64KiB", "12KiB"}, "1000": {"960KiB", "764KiB"}, "65536": {"16MiB", "1MiB"},
	} {
		l, err := Load(Input{Flags: map[string]any{"client.channels_max": channels}})
		require.NoError(t, err)
		require.Equal(t, want, [2]string{l.Config.Client.MessageMax.String(), l.Config.Client.HeadMax.String()}, channels)
	}
	for _, channels := range []string{"0", "-5", "9000000000000000000"} {
		require.Contains(t, faults(t, Input{Flags: map[string]any{"client.channels_max": channels}}), "client.channels_max")
	}
}

// One address has half of the places unless the option says how many.
func TestAddressShareFollows(t *testing.T) {
	for _, test := range [][3]string{{"100000", "0", "50000"}, {"1", "0", "1"}, {"10", "0", "5"}, {"10", "7", "7"}} {
		l, err := Load(Input{Flags: map[string]any{"recovery.waiting_max": test[0], "recovery.waiting_address_max": test[1]}})
		require.NoError(t, err)
		require.Equal(t, test[2], fmt.Sprint(l.Config.Recovery.WaitingAddressMax), test)
	}
	require.Contains(t, faults(t, Input{Flags: map[string]any{"recovery.waiting_address_max": "-1"}}), "recovery.waiting_address_max")
}

func TestContradictingLimits(t *testing.T) {
	require.Empty(t, warnings(t, map[string]any{"client.channels_max": "1000"}))
	for _, test := range []struct {
		flags map[string]any
		want  string
	}{
		{map[string]any{"client.message_max": "64KiB"}, "client.message_max = 64KiB (flag --client.message-max): a client with 128 subscriptions (client.channels_max) may need 125824 bytes"},
		{map[string]any{"client.message_max": "64KiB"}, "set client.message_max to at least 125824"},
		{map[string]any{"client.channels_max": "65536"}, "client.message_max can be 16MiB at most: lower client.channels_max"},
		{map[string]any{"client.head_max": "8KiB"}, "client.head_max = 8KiB (flag --client.head-max): a raw client that names 128 channels"},
		{map[string]any{"client.message_max": "16MiB"}, "client.frame_timeout = 10s (default): a client that sends as much as client.message_max allows (16MiB) needs 2m8s"},
		{map[string]any{"client.handshake_timeout": "100ms"}, "client.handshake_timeout = 100ms"},
		{map[string]any{"client.compression": true, "client.compression_threshold": "64KiB"}, "client.compression_threshold = 64KiB"},
		{map[string]any{"client.channel_length_max": "5", "routes": []string{"abcdef"}}, "routes = abcdef (flag --routes): the name has 6 bytes"},
		{map[string]any{"client.channel_length_max": "5", "client.slow_policies": []string{"abcdef*=conflate"}}, "client.slow_policies = abcdef*"},
		{map[string]any{"client.channel_length_max": "5", "recovery.cache_channels": []string{"abcdef"}}, "recovery.cache_channels = abcdef"},
	} {
		require.Contains(t, warnings(t, test.flags), test.want)
	}
}

// Defaults that hold memory follow a limit; what was given stays.
func TestFitMemory(t *testing.T) {
	l, err := Load(Input{Flags: map[string]any{"bus.pinned_max": "100MiB"}})
	require.NoError(t, err)
	changed := l.FitMemory(64 << 20)
	require.Equal(t, []any{"bus.ring_bytes_max", "4MiB", "recovery.cache_bytes", "2MiB", "recovery.read_bytes", "2MiB", "limits.memory", "8MiB", "recovery.waiting_max", 1024}, changed)
	require.Equal(t, 512, l.Config.Recovery.WaitingAddressMax, "it follows")
	require.Equal(t, Bytes(4<<20), l.Config.Bus.RingBytesMax)
	require.Equal(t, Bytes(100<<20), l.Config.Bus.PinnedMax)
	require.Equal(t, Bytes(8<<20), l.Config.Limits.Memory)

	l, err = Load(Input{})
	require.NoError(t, err)
	require.Equal(t, []any{"limits.memory", "1GiB"}, l.FitMemory(8<<30), "there is room for the defaults")
	require.Equal(t, Bytes(1<<20), func() Bytes { l.FitMemory(1 << 20); return l.Config.Recovery.ReadBytes }(), "an answer has to fit")
}
