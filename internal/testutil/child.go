package testutil

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// childVariable in the environment makes a test's binary run its child in place of its tests.
const childVariable = "WSD_TEST_CHILD"

// Main is the body of a TestMain for tests that need another process: it runs the tests, or child with the argument
// that Child was given, and ends the process.
func Main(m *testing.M, child func(arg string) error) {
	arg, isChild := os.LookupEnv(childVariable)
	if !isChild {
		os.Exit(m.Run())
	}
	if os.Getenv(tokenVariable) != "" {
		child = func(string) error { return becomeTokenChild() }
	}
	if err := child(arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Child starts the test's binary again, by a wrapper such as setpriv if one is given, to run Main's child with arg. end
// closes its standard input and waits for it, which must then end without an error; the test's end calls it, too.
func Child(tb testing.TB, arg string, wrapper ...string) (pid int, stdout io.Reader, end func()) {
	tb.Helper()
	args := append(wrapper, os.Args[0])
	// Not the test's context: it ends before end is called.
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	// The race detector would make each child sleep for a second at its end.
	cmd.Env = append(os.Environ(), childVariable+"="+arg, "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err = cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	end = sync.OnceFunc(func() {
		stdin.Close()
		require.NoError(tb, cmd.Wait(), "%s", &stderr)
	})
	tb.Cleanup(end)
	return cmd.Process.Pid, stdout, end
}
