//go:build cgo

package privilege

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// cgo says whether this binary is linked with C: then Go cannot make a system call on all threads.
const cgo = true

// A program that is linked with C says that it could not drop anything, and how it is built so that it can.
func TestDropWithC(t *testing.T) {
	requireRoot(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+foreign(t))
	out, err := cmd.Output()
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(out, &r))
	require.Contains(t, r.State.Problem, "build wsd with CGO_ENABLED=0")
}
