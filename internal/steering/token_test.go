package steering

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// A process in a user namespace, with CAP_BPF of that namespace alone, steers and pins if a bpffs delegates what Delegation lists,
// and says what is missing if it delegates less.
func TestToken(t *testing.T) {
	testutil.RequireBPF(t)
	try := func(options [][2]string) childReport {
		stdout, end := testutil.TokenChild(t, options, "require:4:/sys/fs/bpf/wsd-test")
		var report childReport
		require.NoError(t, json.NewDecoder(stdout).Decode(&report))
		end()
		return report
	}
	whole := try(Delegation())
	require.Empty(t, whole.Err)
	require.Equal(t, Pinned, whole.Status.Mode)
	require.Equal(t, 1, whole.Picks)

	for i, option := range Delegation() {
		part := Delegation()
		part[i][1] = "0x0"
		require.Contains(t, try(part).Err, "BPF token", "without %s", option[0])
	}
}
