package control

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// childPath, set in the environment, makes the test program serve on that socket until its standard input ends.
const childPath = "WSD_CONTROL_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if _, err := Start(Options{Path: path, Handler: answer(http.StatusOK, "child"), Logger: quiet()}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("serving")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child runs another process that serves on path; it is killed at the end of the test if it still lives.
func child(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			kill(t, cmd) // Before its standard input ends, upon which it would end by itself.
		}
		stdin.Close()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "serving\n", line)
	return cmd
}

// kill ends a process in a way that lets it clean up nothing.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func answer(code int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	})
}

// socketPath is one that is short wherever the tests' directory is.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsd") //nolint:usetesting // A socket's path may have 107 bytes, and t.TempDir holds the test's name.
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "wsd.sock")
}

// start serves body on path until the test ends.
func start(t *testing.T, path string, handler http.Handler) *Server {
	t.Helper()
	s, err := Start(Options{Path: path, Handler: handler, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func startErr(t *testing.T, path string) error {
	t.Helper()
	s, err := Start(Options{Path: path, Handler: answer(http.StatusOK, ""), Logger: quiet()})
	if err == nil {
		require.NoError(t, s.Close())
		require.Fail(t, "started", path)
	}
	return err
}
