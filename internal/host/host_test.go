package host

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRelease(t *testing.T) {
	for release, want := range map[string]Version{
		"6.1.0-18-amd64": {6, 1}, "5.14-rc1": {5, 14}, "5.14": {5, 14}, "10.0.1": {10, 0}, "4.19.0": {4, 19},
	} {
		got, ok := ParseRelease(release)
		require.True(t, ok, release)
		require.Equal(t, want, got, release)
	}
	for _, release := range []string{"", "custom", "6", "6.", "x.1", ".1"} {
		_, ok := ParseRelease(release)
		require.False(t, ok, release)
	}
}

func TestBefore(t *testing.T) {
	for _, old := range []Version{{5, 13}, {4, 19}, {4, 14}} {
		require.True(t, old.Before(SteeringMin), old)
	}
	for _, recent := range []Version{{5, 14}, {5, 15}, {6, 0}} {
		require.False(t, recent.Before(SteeringMin), recent)
	}
	require.Equal(t, "5.14", SteeringMin.String())
}

func TestStatusField(t *testing.T) {
	value, ok := StatusField("Name:\twsd\nCapEff:\t0000008000000000\n", "CapEff")
	require.True(t, ok)
	require.Equal(t, "0000008000000000", value)
	_, ok = StatusField("Name:\twsd\n", "CapEff")
	require.False(t, ok)
}

func TestInUserNamespace(t *testing.T) {
	require.False(t, InUserNamespace("         0          0 4294967295\n"))
	require.False(t, InUserNamespace(""))
	require.True(t, InUserNamespace("0 1000 1\n"))
	require.True(t, InUserNamespace("0 0 4294967295\n1 1 1\n"))
}

func TestBPFFSMountPoint(t *testing.T) {
	for dir, want := range map[string]string{
		"/sys/fs/bpf": "/sys/fs/bpf", "/sys/fs/bpf/wsd": "/sys/fs/bpf", "/sys/fs/bpfx": "/sys/fs/bpfx", "/run/pins/": "/run/pins",
	} {
		require.Equal(t, want, BPFFSMountPoint(dir), dir)
	}
}
