package child

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This program is also what the tests start.
func TestMain(m *testing.M) {
	if os.Getenv("CHILD_PINS") != "" {
		os.Exit(pinAndTell())
	}
	os.Exit(m.Run())
}

func start(t *testing.T, script string) *Process {
	t.Helper()
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	cpus, err := CPUs()
	require.NoError(t, err)
	p, err := Start(Options{Path: shell, Args: []string{"-c", script}, CPU: cpus[len(cpus)-1]})
	require.NoError(t, err)
	return p
}

func line(text string) func([]byte) bool {
	return func(b []byte) bool { return string(b) == text }
}

func TestTalk(t *testing.T) {
	p := start(t, "echo warning >&2; echo ready >&2; cat")
	require.NoError(t, p.Await(10*time.Second, line("ready")))
	_, err := io.WriteString(p.In, "hello")
	require.NoError(t, err)
	answer := make([]byte, 5)
	_, err = io.ReadFull(p.Out, answer)
	require.NoError(t, err)
	require.Equal(t, "hello", string(answer))
	require.NoError(t, p.Stop(10*time.Second))
	require.ErrorIs(t, syscall.Kill(p.PID(), 0), syscall.ESRCH)
}

func TestEndsBefore(t *testing.T) {
	p := start(t, "echo no such thing >&2; exit 3")
	require.ErrorContains(t, p.Await(10*time.Second, line("ready")), "has ended: no such thing")
	require.ErrorContains(t, p.Stop(10*time.Second), "exit status 3: no such thing")
}

func TestSlow(t *testing.T) {
	p := start(t, "cat")
	require.ErrorContains(t, p.Await(10*time.Millisecond, line("ready")), "does not get ready within 10ms: it said nothing")
	p.Terminate()
	require.NoError(t, p.Stop(10*time.Second))
}

func TestKilled(t *testing.T) {
	p := start(t, "trap '' TERM; echo ready >&2; while :; do :; done")
	require.NoError(t, p.Await(10*time.Second, line("ready")))
	require.ErrorContains(t, p.Stop(50*time.Millisecond), "had to be killed")
}

func TestNoProgram(t *testing.T) {
	cpus, err := CPUs()
	require.NoError(t, err)
	_, err = Start(Options{Path: t.TempDir() + "/none", CPU: cpus[0]})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Start(Options{Path: "/bin/sh", CPU: 1023})
	require.ErrorContains(t, err, "restrict a thread to CPU 1023")
}

// What is started has one CPU, and this process still has all.
func TestPinned(t *testing.T) {
	before, err := CPUs()
	require.NoError(t, err)
	p := start(t, "grep Cpus_allowed_list /proc/self/status; cat")
	text := make([]byte, 64)
	n, err := p.Out.Read(text)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(before[len(before)-1]), strings.Fields(string(text[:n]))[1])
	require.NoError(t, p.Stop(10*time.Second))
	after, err := CPUs()
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// pinAndTell pins this process and says which CPUs its threads have.
func pinAndTell() int {
	cpus, err := CPUs()
	if err == nil {
		err = PinSelf(cpus[0])
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for range 4 {
		told := make(chan string)
		go func() {
			runtime.LockOSThread() // Never unlocked: each is a thread of its own.
			list, err := CPUs()
			told <- fmt.Sprint(list, err)
		}()
		fmt.Println(<-told)
	}
	return 0
}

func TestPinSelf(t *testing.T) {
	cpus, err := CPUs()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "CHILD_PINS=1")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	require.Equal(t, strings.Repeat(fmt.Sprintf("[%d] <nil>\n", cpus[0]), 4), string(out))
}
