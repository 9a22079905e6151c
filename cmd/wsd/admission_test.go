package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdmissionState(t *testing.T) {
	a := admissionState{
		Mode: "on", State: "accepting", CPU: 0.123, CPUs: 1.5, LoopLagSeconds: 0.00149, MemoryBytes: 64 << 20, MemoryLimitBytes: 256 << 20, DescriptorsLeft: 9,
	}
	require.Equal(t, "accepting all new clients; CPU 12 % of 1.50, loop lag 1.5ms, memory 25 % of 256 MiB, no limit of TCP memory, room for 9 connections", a.String())
	a.State, a.Percent, a.Reason, a.MemoryLimitBytes, a.TCPMemoryBytes, a.TCPMemoryLimitBytes = "refusing", 40, "it is hot", 0, 1<<20, 4<<20
	require.Equal(t, "refusing 40 % of new clients; CPU 12 % of 1.50, loop lag 1.5ms, no limit of memory, TCP memory 25 % of 4 MiB, room for 9 connections", a.String())
	a.Mode = "dry-run"
	require.Contains(t, a.String(), "without the dry run it would refuse 40 %; CPU")
	require.Contains(t, a.String(), "; it is hot")
	require.Equal(t, "off", admissionState{State: "off"}.String())
}
