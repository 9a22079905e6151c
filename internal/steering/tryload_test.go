package steering

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

func TestTryLoad(t *testing.T) {
	testutil.RequireBPF(t)
	for _, shards := range []int{1, 7, routing.ShardsMax} {
		require.NoError(t, TryLoad(shards, 0))
	}
}

// The program that the verifier refuses here is wsd's own, with one instruction more that reads outside the stack.
func TestTryLoadReportsTheVerifiersRefusal(t *testing.T) {
	testutil.RequireBPF(t)
	o := Options{Shards: 2, Groups: 1, Values: DefaultValues(2)}
	spec, err := newSpec(o)
	require.NoError(t, err)
	program := spec.Programs[steerProgSteer]
	first := program.Instructions[0]
	bad := asm.LoadMem(asm.R0, asm.R10, 8, asm.DWord).WithMetadata(first.Metadata)
	program.Instructions[0].Metadata = asm.Metadata{}
	program.Instructions = slices.Insert(program.Instructions, 0, bad)
	err = tryLoad(spec, o)
	require.ErrorIs(t, err, ErrVerifier)
	require.ErrorContains(t, err, "refused the program: ")
	require.NotContains(t, err.Error(), "\n")
}
