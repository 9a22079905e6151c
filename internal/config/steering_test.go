package config

import (
	"fmt"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSteeringDefaults(t *testing.T) {
	l, err := Load(Input{})
	require.NoError(t, err)
	require.Equal(t, Steering{
		Mode: "auto", PinDir: "/sys/fs/bpf/wsd", Policy: "least-loaded", StallBound: 100 * time.Millisecond, Ramp: 3 * time.Second, PendingMax: 1024,
		CPULocalBound: 16, Limits: Limits{SourcePrefix4: 32, SourcePrefix6: 64, SourcesMax: 65536},
	}, l.Config.Steering)
	id, err := l.Config.Steering.PinGroupID()
	require.NoError(t, err)
	require.Equal(t, -1, id)
	require.Empty(t, l.Config.Steering.Limits.ExemptPrefixes())
}

// A list of numbers is written as every list, in the file, the environment and the flags.
func TestSteeringLists(t *testing.T) {
	file := tempFile(t, "wsd.yaml", "steering: {weights: [100, 0, 300], limits: {source_exempt: [10.0.0.0/8, '2001:db8::1']}}\n")
	for _, in := range []Input{
		{File: file},
		{Environ: []string{"WSD_STEERING_WEIGHTS=100, 0,300", "WSD_STEERING_LIMITS_SOURCE_EXEMPT=10.0.0.0/8,2001:db8::1"}},
		{Flags: map[string]any{"steering.weights": []string{"100,0", "300"}, "steering.limits.source_exempt": []string{"10.0.0.0/8", "2001:db8::1"}}},
	} {
		l, err := Load(in)
		require.NoError(t, err)
		s := l.Config.Steering
		require.Equal(t, []int{100, 0, 300}, s.Weights)
		require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}, s.Limits.ExemptPrefixes())
		var shown strings.Builder
		require.NoError(t, l.Show(&shown))
		require.Contains(t, shown.String(), "weights: [100, 0, 300] # ")
		again, err := Load(Input{File: tempFile(t, "again.yaml", shown.String())})
		require.NoError(t, err, shown.String())
		require.Equal(t, s, again.Config.Steering)
	}
}

func TestSteeringChecks(t *testing.T) {
	const exempt = "steering.limits.source_exempt"
	for _, c := range []struct {
		flags map[string]any
		want  string // Empty: no fault.
	}{
		{map[string]any{"steering.policy": "random"}, "must be least-loaded, weighted, p2c, cpu-local or hash"},
		{map[string]any{"steering.policy": "cpu-local"}, ""},
		{map[string]any{"steering.pin_group": "no such group"}, "steering.pin_group = no such group (flag --steering.pin-group): no such group; set a group"},
		{map[string]any{"steering.pin_group": "4294967295"}, "no such group"},
		{map[string]any{"steering.pin_group": "-1"}, "no such group"},
		{map[string]any{"steering.pin_group": "4294967294"}, ""},
		{map[string]any{"steering.weights": "100,10001"}, "steering.weights = 10001 (flag --steering.weights): the weight of shard 1 must be from 0 to 10000"},
		{map[string]any{"steering.weights": "-1"}, "must be from 0 to 10000"},
		{map[string]any{"steering.weights": "1,,2"}, "steering.weights = 1,,2 (flag --steering.weights): not a whole number"},
		{map[string]any{"steering.weights": "1,2,3", "shards": "2"}, "has 3 weights, but shards is 2; remove some"},
		{map[string]any{"steering.weights": "1,2,3", "shards": "4"}, ""},
		{map[string]any{"steering.weights": "1,2,3", "steering.policy": "p2c"}, ""},
		{map[string]any{"steering.stall_bound": "61s"}, "must be from 0s to 1m0s"},
		{map[string]any{"steering.stall_bound": "1500us"}, "steering.stall_bound = 1.5ms (flag --steering.stall-bound): must be whole milliseconds"},
		{map[string]any{"steering.stall_bound": "0"}, ""},
		{map[string]any{"steering.ramp": "11m"}, "must be from 0s to 10m0s"},
		{map[string]any{"steering.pending_max": "-1"}, "must be from 0 to 2147483647"},
		{map[string]any{"steering.cpu_local_bound": "2147483648"}, "must be from 0 to 2147483647"},
		{map[string]any{"steering.limits.admission": "101"}, "must be from 0 to 100"},
		{map[string]any{"steering.limits.source_rate": "1000001"}, "must be from 0 to 1000000"},
		{map[string]any{"steering.limits.source_burst": "1000001"}, "must be from 0 to 1000000"},
		{map[string]any{"steering.limits.source_prefix4": "33"}, "must be from 0 to 32"},
		{map[string]any{"steering.limits.source_prefix6": "129"}, "must be from 0 to 128"},
		{map[string]any{"steering.limits.sources_max": "1023"}, "must be from 1024 to 4000000"},
		{map[string]any{exempt: "localhost"}, exempt + " = localhost (flag --steering.limits.source-exempt): not an address; write it like"},
		{map[string]any{exempt: "10.0.0.0/33"}, "not a prefix"},
		{map[string]any{exempt: "10.1.2.3/8"}, "has bits set after its length; the prefix is 10.0.0.0/8"},
		{map[string]any{exempt: "fe80::1%eth0"}, "must not have a zone"},
		{map[string]any{exempt: "::ffff:10.0.0.1"}, "an IPv4 address written as an IPv6 one"},
		{map[string]any{exempt: "::ffff:10.0.0.0/104"}, "an IPv4 prefix written as an IPv6 one"},
		{map[string]any{exempt: "192.0.2.1,192.0.2.1/32"}, exempt + " = 192.0.2.1/32 (flag --steering.limits.source-exempt): listed twice"},
		{map[string]any{exempt: "0.0.0.0/0,::/0"}, ""},
		{map[string]any{exempt: manyAddresses(1024)}, ""},
		{map[string]any{exempt: manyAddresses(1025)}, "has 1025 prefixes; the maximum is 1024"},
	} {
		if c.want == "" {
			_, err := Load(Input{Flags: c.flags})
			require.NoError(t, err)
			continue
		}
		got := faults(t, Input{Flags: c.flags})
		require.Contains(t, got, c.want, c.flags)
		require.NotContains(t, got, "\n", c.flags)
	}
}

func manyAddresses(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
	}
	return list
}

func TestPinGroup(t *testing.T) {
	group, err := user.LookupGroupId("0")
	require.NoError(t, err)
	for _, text := range []string{group.Name, "0", "54321"} {
		l, err := Load(Input{Flags: map[string]any{"steering.pin_group": text}})
		require.NoError(t, err)
		id, err := l.Config.Steering.PinGroupID()
		require.NoError(t, err)
		if n, err := strconv.Atoi(text); err == nil {
			require.Equal(t, n, id)
		} else {
			require.Zero(t, id)
		}
	}
}
